"""Faults 6, 27 and 29, and the end of a runtime: what is given up, with which words and which exit code."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dotsctl.client.api import Client
from dotsctl.client.connection import launch
from dotsctl.client.connection.session import Session
from dotsctl.decoder_worker.plugins.fake import fake_text
from dotsctl.protocol import endpoints
from dotsctl.protocol.errors import ErrorCode, RuntimeLostError
from dotsctl.protocol.messages import PageFailed, PageResult
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.fakes import fake_fingerprint
from PIL import Image

from tests.conftest import HAS_PROC, Gate, processes_in
from tests.process.conftest import START_S, Instance, dotsctl, submit

pytestmark = pytest.mark.process
Start = Callable[..., Instance]
NAME = "test"


@pytest.fixture
def nothing_left(run_folder: Path) -> Iterator[None]:
    yield
    assert endpoints.lock_holder(endpoints.instance_directory(NAME)) is None
    assert processes_in(run_folder) == []


def up(*arguments: str) -> tuple[int, str]:
    process = dotsctl("up", "-d", "--name", NAME, *arguments)
    _, err = process.communicate(timeout=50)
    return process.returncode, err


def test_an_encoder_that_is_killed_at_every_start_is_given_up_with_signal_and_log(nothing_left: None) -> None:
    """Row 6: as by a system that has too little memory for the load."""
    started = time.monotonic()
    code, err = up("--encoder", "fake:load_fault=die", "--decoder", "fake")
    assert code == 7
    assert "encoder worker died 5 times in a row, last by signal SIGKILL" in err
    assert "loading plugin 'fake'" in err, "the last lines of its log are missing"
    assert "memory" in err, "what kills a loading process with SIGKILL is mostly the system"
    assert time.monotonic() - started < 20 + 20, "the pauses are to be below 20 s"


def test_two_models_never_talk(nothing_left: None) -> None:
    """Row 29: refused when the second one is ready, with both fingerprints."""
    code, err = up("--encoder", "fake:model=other", "--decoder", "fake")
    assert code == 7
    mine, other = fake_fingerprint(Path()), fake_fingerprint(Path(), "other")
    assert ErrorCode.MODEL_MISMATCH in err and mine[:12] in err and other[:12] in err
    assert ("the encoder has" in err or "the decoder has" in err) and "the runtime began with model" in err


@pytest.mark.skipif(not HAS_PROC, reason="other systems keep no limit of a process's memory")
def test_a_page_that_takes_all_memory_is_tried_once_more_alone_and_then_fails(start: Start) -> None:
    """Row 27: the process really runs into its limit, and lives on."""
    instance = start("fake:fault=allocate,on=huge", "fake")
    answers = instance.read([b"small", b"huge", b"smaller"])
    failure = answers.pop(1)
    assert isinstance(failure, PageFailed) and failure.code is ErrorCode.OOM and failure.attempt == 2
    for index, content in ((0, b"small"), (2, b"smaller")):
        answer = answers[index]
        assert isinstance(answer, PageResult) and answer.text == fake_text(content)
    assert instance.status().counters["restarts"] == 0


def test_a_page_for_which_the_system_kills_the_worker_fails_after_two_isolated_attempts(start: Start) -> None:
    """Row 27, where the system ends the process: no loop of crashes, and the worker's own count begins anew."""
    instance = start("fake:fault=die,on=huge", "fake", max_starts=4)
    answers = instance.read([b"huge", b"small"])
    assert isinstance(answers[0], PageFailed) and answers[0].code is ErrorCode.POISON
    assert isinstance(answers[1], PageResult)
    assert instance.status().counters["restarts"] <= 3, "once among others, then twice alone"
    assert instance.restarts(Role.DECODER) == 0


def test_a_client_that_comes_while_the_runtime_ends_is_informed_that_it_is_lost(
    start: Start, gates: list[Gate], tmp_path: Path
) -> None:
    """Exit code 6, not a failed page; who was there before gets the accepted page."""
    instance = start("fake", f"fake:gate={gates[0].path}")
    instance.session.open_job("job")
    instance.session.send(*submit("job", 0, b"page"))
    gates[0].wait_entered()
    gates[0].remove()
    instance.runtime.process.send_signal(signal.SIGTERM)
    instance.wait_status(lambda status: status.state == "stopping", "the drain")
    name = instance.runtime.directory.name
    with pytest.raises(RuntimeLostError, match="is stopping: the runtime was stopped by SIGTERM"):
        Session(instance.runtime.directory, START_S)
    with pytest.raises(RuntimeLostError):
        Client(name=name)
    Image.new("L", (56, 56)).save(tmp_path / "page.png")
    late = dotsctl("ocr", str(tmp_path / "page.png"), "--name", name)
    _, err = late.communicate(timeout=40)
    assert late.returncode == 6 and "is stopping" in err
    gates[0].open()
    while not isinstance(answer := instance.session.next_of("job", 20.0), PageResult):
        assert answer is not None
    assert answer.text == fake_text(b"page")
    assert instance.runtime.process.wait(launch.STOP_TIMEOUT_S) == 0
