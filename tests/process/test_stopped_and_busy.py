"""Faults 7 to 10 and 32: workers that hang, that are stopped, and that only seem so."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from dotsctl.client.runtime.process_state import stopped_processes
from dotsctl.client.runtime.timeouts import LONGEST_TICK_S
from dotsctl.decoder_worker.plugins.fake import fake_text
from dotsctl.protocol.errors import CommandFailedError, ErrorCode
from dotsctl.protocol.messages import PageFailed, PageResult, Status
from dotsctl.protocol.parts import Role, WorkerReport

from tests.conftest import HAS_PROC, Gate, processes_in
from tests.process.conftest import Instance

pytestmark = pytest.mark.process
Start = Callable[..., Instance]


def report(status: Status, role: Role) -> WorkerReport:
    return next(worker for worker in status.workers if worker.role is role)


def text_of(answer: object) -> str:
    assert isinstance(answer, PageResult), answer
    return answer.text


def test_a_load_that_hangs_is_ended_at_its_limit_with_a_traceback(start: Start, run_folder: Path) -> None:
    """Row 7: between 0.9 and 1.5 of the limit, from the worker's last word to the end of the runtime."""
    started = time.monotonic()
    with pytest.raises(CommandFailedError, match="encoder worker made no progress for 2 s while loading") as caught:
        start("fake:load_fault=hang", load_timeout_s=2.0)
    took_s = time.monotonic() - started
    assert took_s >= 0.9 * 2.0
    # The starts of runtime and worker come on top, and take seconds on a busy machine.
    assert took_s < 1.5 * 2.0 + 10.0
    assert "in load" in str(caught.value), "the message does not say where it hangs"
    assert processes_in(run_folder) == []


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.macos
def test_a_stopped_worker_is_suspected_soon_and_replaced_after_its_limit(
    start: Start, gates: list[Gate], role: Role
) -> None:
    """Row 8."""
    plugins = {role_: f"fake:gate={gates[0].path}" if role_ is role else "fake" for role_ in Role}
    instance = start(plugins[Role.ENCODER], plugins[Role.DECODER], stopped_timeout_s=1.5)
    wait = instance.read_in_background([b"page"])
    gates[0].wait_entered()
    gates[0].remove()
    stopped_at = time.monotonic()
    pid = instance.kill(role, signal.SIGSTOP)
    status = instance.wait_status(lambda status: report(status, role).state == "suspected", "the suspicion")
    assert time.monotonic() - stopped_at < 4.0
    assert report(status, role).pid == pid, "it must not be ended at once"
    instance.wait_status(lambda status: report(status, role).restarts == 1, "the restart")
    assert time.monotonic() - stopped_at >= 1.5
    assert text_of(wait()[0]) == fake_text(b"page")
    assert "it was stopped for 1.5 s" in report(instance.status(), role).last_exit


def test_an_encoder_that_holds_the_interpreters_lock_is_busy_and_not_dead(start: Start) -> None:
    """Row 9, shortened: the lock is held for longer than a stopped process would be given."""
    instance = start("fake:hold_ms=3500", "fake", stopped_timeout_s=1.0)
    pid = instance.pid(Role.ENCODER)
    wait = instance.read_in_background([b"page"])
    status = instance.wait_status(lambda status: report(status, Role.ENCODER).busy_for_s > 2.5, "the busy encoder")
    assert report(status, Role.ENCODER).state == "ready"
    assert text_of(wait()[0]) == fake_text(b"page")
    assert instance.pid(Role.ENCODER) == pid
    assert instance.status().counters["restarts"] == 0
    assert report(instance.status(), Role.ENCODER).busy_for_s == 0.0


def test_a_worker_that_computes_for_ever_leaves_its_traceback_in_the_log(start: Start) -> None:
    """Row 10: nothing in Python could write it, as the loop holds the interpreter's lock."""
    instance = start("fake:fault=spin", "fake", stall_timeout_s=1.0)
    log = Path(report(instance.status(), Role.ENCODER).log)
    answer = instance.read([b"page"])[0]
    assert isinstance(answer, PageFailed) and answer.code is ErrorCode.POISON
    assert "no progress for 1 s" in answer.message
    text = log.read_text()
    assert "in spin" in text and "fakes.py" in text, text
    assert instance.status().counters["restarts"] == 2


@pytest.mark.skipif(not HAS_PROC, reason="finds the processes of a runtime in /proc")
@pytest.mark.macos
def test_a_machine_that_slept_restarts_nothing(start: Start, gates: list[Gate], run_folder: Path) -> None:
    """Row 32: all processes stand still for longer than every timeout while the clock continues."""
    instance = start("fake", f"fake:gate={gates[0].path}", stall_timeout_s=2.0, stopped_timeout_s=1.0)
    wait = instance.read_in_background([b"page"])
    gates[0].wait_entered()
    gates[0].remove()
    instance.session.open_job("nothing")
    processes = sorted(processes_in(run_folder), key=lambda pid: pid != instance.runtime.process.pid)
    assert len(processes) == 3
    for pid in processes:  # the runtime first, so that it sees none of the others stopped
        os.kill(pid, signal.SIGSTOP)
        while not stopped_processes([pid]):
            assert instance.session.next_of("nothing", 0.01) is None
    assert instance.session.next_of("nothing", LONGEST_TICK_S + 0.5) is None
    for pid in reversed(processes):
        os.kill(pid, signal.SIGCONT)
    instance.session.next_of("nothing", 0.5)
    gates[0].open()
    assert text_of(wait()[0]) == fake_text(b"page")
    assert instance.status().counters["restarts"] == 0, instance.status()
