"""Hints of side OCR through a real runtime with fakes: they reach a page that is in work, and never hold one up."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
from dotsctl import Client
from dotsctl.client.connection.session import Session
from dotsctl.client.inputs.pages import close_renderer
from dotsctl.protocol.messages import HintPage

from tests.conftest import Gate
from tests.process.conftest import START_S

pytestmark = pytest.mark.process

GROUP, NAME = "dotsctl.hints", "reader"
PLUGIN = """
from dotsctl.protocol.page_hint import HintBlock, PageHint
from dotsctl.protocol.worker.plugins import PluginDescription


class Reader:
    description = PluginDescription(help="Reads the size.")

    def load(self):
        pass

    def hint(self, page):
        return PageHint((HintBlock(str(page.shape)),), None, "reader")
"""
PICTURE = np.full((20, 30, 3), 7, np.uint8)
DEADLINE_S = 30.0


@pytest.fixture
def late(install: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> "SimpleQueue[HintPage]":
    """The late hints that clients send, with the plugin that makes them."""
    install("reader_of_sizes", PLUGIN, NAME, "Reader", GROUP)
    sent: SimpleQueue[HintPage] = SimpleQueue()
    send = Session.send

    def noted(session: Session, message: Any, buffers: Any = ()) -> None:
        send(session, message, buffers)
        if isinstance(message, HintPage):
            sent.put(message)

    monkeypatch.setattr(Session, "send", noted)
    return sent


def test_a_hint_that_is_made_while_its_page_is_encoded_is_used(
    late: "SimpleQueue[HintPage]", run_folder: Path, gates: list[Gate]
) -> None:
    with (
        Client(encoder=f"fake:gate={gates[0].path}", decoder="fake", timeout_s=START_S) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        reading = pool.submit(client.read, PICTURE, hint=NAME)
        gates[0].wait_entered()
        assert late.get(timeout=DEADLINE_S).hint.text == "(20, 30, 3)"
        client.status()  # the runtime has read the hint when it answers
        gates[0].open()
        (page,) = reading.result(DEADLINE_S)
        assert (page.status, page.hint) == ("ok", NAME)
    close_renderer()


def test_a_page_is_answered_though_its_hint_never_comes(
    late: "SimpleQueue[HintPage]", run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dotsctl.client.inputs.side_hints.SideHints.request", lambda *_: None)
    with Client(encoder="fake", decoder="fake", timeout_s=START_S) as client:
        (page,) = client.read(PICTURE, hint=NAME)
        assert (page.status, page.hint) == ("ok", "")
    assert late.empty()
