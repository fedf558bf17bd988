"""Faults 11, 14, 15 and 16, and the death of ``dotsctl ocr`` itself: who ends when somebody else does."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dotsctl.client.connection import launch
from dotsctl.client.connection.session import Session
from dotsctl.client.settings.runtime_config import PluginChoice, RuntimeConfig
from dotsctl.decoder_worker.plugins.fake import fake_text
from dotsctl.protocol import endpoints
from dotsctl.protocol.errors import AlreadyRunningError
from dotsctl.protocol.messages import PageResult
from PIL import Image

from tests.conftest import HAS_PROC, Gate, processes_in, wait_gone
from tests.decoding import text_of_files
from tests.process.conftest import START_S, Instance, dotsctl

pytestmark = pytest.mark.process
Start = Callable[..., Instance]
NAME = "test"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.png"
    Image.new("RGB", (56, 56), "white").save(path)
    return path


def config(encoder: str = "fake", decoder: str = "fake") -> RuntimeConfig:
    return RuntimeConfig(NAME, "fake", "", PluginChoice.parse(encoder), PluginChoice.parse(decoder))


@pytest.fixture
def named(run_folder: Path) -> Iterator[Callable[..., int]]:
    """Start a named runtime that is nobody's child; returns its process id."""

    def start(encoder: str = "fake", decoder: str = "fake") -> int:
        return launch.start_detached(config(encoder, decoder), START_S).pid

    yield start
    if endpoints.lock_holder(endpoints.instance_directory(NAME)) is not None:
        launch.stop(NAME, now=True, timeout_s=10)


def ocr_with_fakes(page: Path, *, gate: Gate, name: str | None = None) -> "subprocess.Popen[str]":
    where = ["--name", name] if name else ["--encoder", "fake", "--decoder", f"fake:gate={gate.path}"]
    return dotsctl("ocr", str(page), *where)


def finish(process: "subprocess.Popen[str]", timeout_s: float = 20.0) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, out, err


def test_a_killed_client_gives_its_credits_back_and_disturbs_nobody(
    named: Callable[..., int], page: Path, gates: list[Gate]
) -> None:
    """Row 11."""
    named("fake", f"fake:gate={gates[0].path}")
    victim = ocr_with_fakes(page, gate=gates[0], name=NAME)
    gates[0].wait_entered()
    session = Session(endpoints.instance_directory(NAME), START_S)
    instance = Instance(None, session)  # type: ignore[arg-type]
    instance.wait_status(lambda status: status.requests == {"decoding": 1}, "the page in the decoder")
    victim.kill()
    started = time.monotonic()
    instance.wait_status(lambda status: status.requests == {} and status.clients == 1, "the client's end")
    assert time.monotonic() - started < 10
    gates[0].remove()
    gates[0].open()
    answer = instance.read([b"other"])[0]
    assert isinstance(answer, PageResult) and answer.text == fake_text(b"other")
    assert instance.status().counters["cancelled"] == 1
    session.close()
    finish(victim)


@pytest.mark.macos
def test_a_killed_runtime_takes_its_workers_along_and_the_next_one_starts_over_its_ruins(
    named: Callable[..., int], run_folder: Path, page: Path, gates: list[Gate]
) -> None:
    """Row 14."""
    pid = named("fake", f"fake:gate={gates[0].path}")
    client = ocr_with_fakes(page, gate=gates[0], name=NAME)
    gates[0].wait_entered()
    gates[0].remove()
    processes = processes_in(run_folder)
    started = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    assert all(wait_gone(process, 2.0) for process in processes)
    assert time.monotonic() - started < 2.0
    code, _, err = finish(client)
    assert code == 6, err
    assert "has ended" in err
    left = {path.name for path in (run_folder / NAME).iterdir()}
    assert {"lock", "c.sock", f"w.{pid}.sock", "runtime.json"} <= left
    assert endpoints.lock_holder(endpoints.instance_directory(NAME)) is None
    assert named() != pid
    code, out, err = finish(dotsctl("ocr", str(page), "--name", NAME))
    assert (code, out.strip()) == (0, text_of_files(page.read_bytes())), err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_the_running_page_finish_and_leaves_nothing(
    run_folder: Path, page: Path, gates: list[Gate], number: signal.Signals
) -> None:
    """Row 15, first signal."""
    up = dotsctl("up", "--name", NAME, "--encoder", "fake", "--decoder", f"fake:gate={gates[0].path}")
    wait_for_line(up, "ready")
    client = ocr_with_fakes(page, gate=gates[0], name=NAME)
    gates[0].wait_entered()
    gates[0].remove()
    up.send_signal(number)
    gates[0].open()
    code, out, err = finish(client)
    assert (code, out.strip()) == (0, text_of_files(page.read_bytes())), err
    code, _, err = finish(up)
    assert code == 0, err
    assert processes_in(run_folder) == []


def test_a_second_signal_ends_everything_at_once(run_folder: Path, page: Path, gates: list[Gate]) -> None:
    """Row 15, second signal: within 3 s, although a page hangs."""
    up = dotsctl("up", "--name", NAME, "--encoder", "fake", "--decoder", f"fake:gate={gates[0].path}")
    wait_for_line(up, "ready")
    client = ocr_with_fakes(page, gate=gates[0], name=NAME)
    gates[0].wait_entered()
    gates[0].remove()
    log = launch.log_files(NAME)["runtime"]
    up.send_signal(signal.SIGINT)
    wait_for_text(log, "stopping: the runtime was stopped by SIGTERM")
    started = time.monotonic()
    up.send_signal(signal.SIGINT)
    finish(up)
    assert time.monotonic() - started < 3.0
    code, _, err = finish(client)
    assert code in (1, 6), err
    assert "the runtime was stopped by SIGTERM" in err


@pytest.mark.macos
def test_a_second_runtime_of_the_same_name_is_refused_and_the_first_one_serves_on(
    named: Callable[..., int], run_folder: Path, page: Path
) -> None:
    """Row 16."""
    pid = named()
    socket = (run_folder / NAME / "c.sock").stat().st_ino
    started = time.monotonic()
    code, _, err = finish(dotsctl("up", "-d", "--name", NAME, "--encoder", "fake", "--decoder", "fake"))
    assert code == 8 and f"already running (pid {pid})" in err
    assert time.monotonic() - started < 5.0
    with pytest.raises(AlreadyRunningError):  # also when it gets as far as the lock
        runtime = launch.start(config(), private=False)
        runtime.wait_ready(START_S)
    assert (run_folder / NAME / "c.sock").stat().st_ino == socket
    code, out, err = finish(dotsctl("ocr", str(page), "--name", NAME))
    assert (code, out.strip()) == (0, text_of_files(page.read_bytes())), err


@pytest.mark.macos
def test_a_killed_ocr_command_takes_its_private_runtime_along(run_folder: Path, page: Path, gates: list[Gate]) -> None:
    victim = ocr_with_fakes(page, gate=gates[0])
    gates[0].wait_entered()
    gates[0].remove()
    (lock,) = run_folder.glob("p-*/lock")
    processes = processes_in(run_folder) if HAS_PROC else [int(lock.read_text())]  # the runtime ends last
    assert len(processes) == (3 if HAS_PROC else 1)
    started = time.monotonic()
    victim.kill()
    assert all(wait_gone(process, 2.0) for process in processes)
    assert time.monotonic() - started < 2.0
    finish(victim)


@pytest.mark.macos
def test_down_prints_stopped_only_when_nothing_is_left(named: Callable[..., int], run_folder: Path) -> None:
    pid = named()
    processes = processes_in(run_folder)
    code, _, err = finish(dotsctl("down", "--name", NAME))
    assert code == 0, err
    assert wait_gone(pid, 0.0)
    assert all(wait_gone(process, 0.5) for process in processes)
    code, _, err = finish(dotsctl("down", "--name", NAME))
    assert code == 7 and "not running" in err


def test_a_client_that_requests_another_encoder_than_the_running_one_gets_an_error_that_names_both(
    named: Callable[..., int], page: Path
) -> None:
    named()
    code, _, err = finish(dotsctl("ocr", str(page), "--name", NAME, "--encoder", "fake:encode_ms=5"))
    assert code == 2
    assert "'fake'" in err and "'fake:encode_ms=5'" in err


def wait_for_line(process: "subprocess.Popen[str]", word: str) -> None:
    """Read the process's standard error until a line has the word."""
    assert process.stderr is not None
    seen = ""
    while line := process.stderr.readline():
        seen += line
        if word in line:
            return
    raise AssertionError(f"{word!r} did not come: {seen}")


def wait_for_text(path: Path, text: str) -> None:
    """Read a log until it has the text."""
    deadline = time.monotonic() + 10
    while text not in path.read_text():
        assert time.monotonic() < deadline, path.read_text()
