"""Encoders that are swapped while pages are read. Row 28 of the fault matrix."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from dotsctl import Client
from dotsctl.client.connection.swap import swap_encoder
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.decoder_worker.plugins.fake import fake_text
from dotsctl.protocol.errors import CommandFailedError, RuntimeLostError
from dotsctl.protocol.messages import PageResult

from tests.conftest import Gate
from tests.process.conftest import NAME, START_S, Instance, dotsctl

pytestmark = pytest.mark.process


Named = Callable[..., Instance]


def swap(text: str, timeout_s: float = START_S) -> str:
    return swap_encoder(NAME, PluginChoice.parse(text), timeout_s)


def encoder_pid(instance: Instance) -> int:
    return instance.status().workers[0].pid


def test_pages_go_to_the_new_encoder_and_every_result_states_which_one_made_it(named: Named) -> None:
    instance = named()
    old = encoder_pid(instance)
    before = instance.read([b"one", b"two"], job="before")
    assert swap("fake:encode_ms=1") == "fake:encode_ms=1"
    after = instance.read([b"one", b"two"], job="after")
    for answers, encoder in ((before, "fake:encode_ms=0"), (after, "fake:encode_ms=1")):
        for index, content in enumerate((b"one", b"two")):
            answer = answers[index]
            assert isinstance(answer, PageResult) and answer.encoder == encoder
            assert answer.text == fake_text(content)
    instance.wait_status(lambda status: status.workers[0].pid != old, "the new encoder")
    status = instance.status()
    assert (status.workers[0].plugin, status.counters["restarts"]) == ("fake:encode_ms=1", 0)
    with pytest.raises(ProcessLookupError):
        while True:  # it is requested to stop after its last page, and reaped by the runtime
            os.kill(old, 0)
            instance.status()


def test_a_page_that_is_being_encoded_is_finished_by_the_old_encoder(named: Named, gates: list[Gate]) -> None:
    instance = named(f"fake:gate={gates[0].path}")
    answers = instance.read_in_background([b"held"], job="held")
    gates[0].wait_entered()
    gates[0].remove()
    assert swap("fake") == "fake"
    new = instance.read([b"new"], job="new")[0]
    assert isinstance(new, PageResult) and (new.encoder, new.text) == ("fake", fake_text(b"new"))
    gates[0].open()
    held = answers()[0]
    assert isinstance(held, PageResult)
    assert (held.encoder, held.text, held.attempt) == (f"fake:gate={gates[0].path}", fake_text(b"held"), 1)


def test_a_page_of_an_old_encoder_that_dies_is_read_by_the_new_one(named: Named, gates: list[Gate]) -> None:
    instance = named(f"fake:gate={gates[0].path}")
    answers, old = instance.read_in_background([b"held"], job="held"), encoder_pid(instance)
    gates[0].wait_entered()
    gates[0].remove()
    swap("fake")
    os.kill(old, signal.SIGKILL)
    held = answers()[0]
    assert isinstance(held, PageResult) and (held.encoder, held.text) == ("fake", fake_text(b"held"))
    assert held.attempt == 2


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        ("fake:load_fault=refuse", "set to miss something"),
        ("fake:load_fault=die", "ended before it was ready: signal SIGKILL"),
        ("fake:colour=blue", "no option 'colour'"),
        ("missing", "missing"),
    ],
)
def test_an_encoder_that_cannot_load_changes_nothing(named: Named, encoder: str, words: str) -> None:
    instance = named()
    pid = encoder_pid(instance)
    with pytest.raises(CommandFailedError, match=r"fake:encode_ms=0 stays in use: (.|\n)*") as caught:
        swap(encoder)
    assert words in str(caught.value)
    answer = instance.read([b"page"])[0]
    assert isinstance(answer, PageResult) and answer.encoder == "fake:encode_ms=0"
    assert encoder_pid(instance) == pid


def test_an_encoder_that_hangs_while_it_loads_is_given_up_and_a_second_swap_has_to_wait(named: Named) -> None:
    instance = named()
    with pytest.raises(CommandFailedError, match="did not finish within 1 s"):
        swap("fake:load_fault=hang", timeout_s=1)
    with pytest.raises(CommandFailedError, match="a swap to fake:load_fault=hang is in progress"):
        swap("fake")
    answer = instance.read([b"page"])[0]
    assert isinstance(answer, PageResult) and answer.encoder == "fake:encode_ms=0"


def test_the_new_encoder_is_the_one_that_is_started_again(named: Named) -> None:
    instance = named()
    swap("fake:encode_ms=1")
    os.kill(encoder_pid(instance), signal.SIGKILL)
    answer = instance.read([b"page"])[0]
    assert isinstance(answer, PageResult) and answer.encoder == "fake:encode_ms=1"
    with Client(name=NAME) as client:
        assert client.encoder == "fake:encode_ms=1"


def test_the_command_swaps_and_reports_it(named: Named) -> None:
    named()
    process = dotsctl("swap", "encoder", "fake:encode_ms=1", "--name", NAME)
    _, err = process.communicate(timeout=START_S)
    assert (process.returncode, err) == (0, "'test' now uses encoder fake:encode_ms=1\n")
    process = dotsctl("swap", "encoder", "missing", "--name", NAME)
    _, err = process.communicate(timeout=START_S)
    assert process.returncode == 7 and "fake:encode_ms=1 stays in use" in err


def test_without_a_runtime_there_is_nothing_to_swap(run_folder: Path) -> None:
    with pytest.raises(RuntimeLostError, match="dotsctl up -d"):
        swap("fake")
