"""Restarts, pauses and ends of the two workers, with tiny children in their place and a clock that the test sets."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dotsctl.client.runtime.process_state import stopped_processes
from dotsctl.client.runtime.seats import DECODER, ENCODER, Seat
from dotsctl.client.runtime.supervisor import KEPT_LOGS, KILL_WAIT_S, MAX_BACKOFF_S, TRACEBACK_S, Supervisor
from dotsctl.client.runtime.worker_process import (
    TAIL_LINES,
    Worker,
    WorkerState,
    describe_exit,
    log_tail,
    worker_command,
)
from dotsctl.protocol.parts import Role

WAIT_S = 10.0
DIES = "exit 3"
OBEYS = "exec cat"
"""Ends with its standard input, as a worker does."""
IGNORES = "exec sleep 60 2>/dev/null"

Make = Callable[..., Supervisor]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """A supervisor of ``sh -c SCRIPT``; what it has started is ended."""
    made: list[Supervisor] = []

    def supervisor(script: str, max_starts: int = 5, backoff_s: float = 0.5) -> Supervisor:
        def command(role: Role, endpoint: str, epoch: int) -> list[str]:
            return ["sh", "-c", script, "sh", role, endpoint, str(epoch)]

        (tmp_path / "log").mkdir(exist_ok=True)
        made.append(Supervisor(tmp_path, tmp_path / "log", "ipc://w.sock", max_starts, backoff_s, 1, command))
        return made[-1]

    yield supervisor
    for one in made:
        one.stop_all(grace_s=0.0)


def die(supervisor: Supervisor, now: float, seat: Seat = ENCODER) -> Worker:
    """Wait for the end of the role's process and have it reaped at a time."""
    process = supervisor.workers[seat].process
    assert process is not None
    process.wait(WAIT_S)
    ((worker, _, _),) = supervisor.reap(now)
    return worker


def test_the_command_is_the_workers_module_without_the_current_folder_on_its_path() -> None:
    command = worker_command(Role.DECODER, "ipc://w.sock", 7)
    assert command[1:] == ["-P", "-m", "dotsctl.decoder_worker", "--endpoint", "ipc://w.sock", "--epoch", "7"]


def test_a_child_runs_in_the_folder_with_its_arguments_and_its_log(make: Make, tmp_path: Path) -> None:
    supervisor = make('pwd; echo "$@" >&2')
    supervisor.start(DECODER, 0.0)
    worker = die(supervisor, 0.0, DECODER)
    assert worker.log == tmp_path / "log" / "decoder.1.log"
    assert log_tail(worker.log) == f"{tmp_path.resolve()}\ndecoder ipc://w.sock 1"


def test_the_first_restart_comes_at_once_and_the_pauses_double_up_to_a_limit(make: Make) -> None:
    supervisor = make(DIES, max_starts=100, backoff_s=4.0)
    supervisor.start(ENCODER, 0.0)
    now, pauses = 0.0, []
    for _ in range(7):
        worker = die(supervisor, now)
        assert worker.state is WorkerState.BACKOFF
        due = supervisor.next_due(900.0)
        if due > now:
            supervisor.start_due(due - 0.001)
            assert worker.process is None, "it was started before its pause was over"
        pauses.append(due - now)
        now = due
        supervisor.start_due(now)
        assert worker.state is WorkerState.STARTING
    assert pauses == [0.0, 4.0, 8.0, 16.0, MAX_BACKOFF_S, MAX_BACKOFF_S, MAX_BACKOFF_S]
    assert worker.epoch == 8


def test_the_fifth_death_in_a_row_is_the_last(make: Make) -> None:
    supervisor = make(DIES)
    supervisor.start(ENCODER, 0.0)
    states = []
    for now in range(0, 500, 100):
        worker = die(supervisor, float(now))
        states.append(worker.state)
        supervisor.start_due(now + 99.0)
    assert states == [WorkerState.BACKOFF] * 4 + [WorkerState.FATAL]
    assert worker.process is None and supervisor.next_due(900.0) == float("inf")
    assert worker.last_exit == "exit code 3"


def test_a_finished_page_makes_the_next_death_the_first_one_again(make: Make) -> None:
    supervisor = make(DIES, max_starts=3)
    supervisor.start(ENCODER, 0.0)
    for now in range(0, 1000, 100):
        worker = die(supervisor, float(now))
        assert (worker.state, worker.start_at) == (WorkerState.BACKOFF, now)
        supervisor.progress()
        supervisor.start_due(float(now))
    assert worker.epoch == 11


def test_a_death_is_reported_once_with_its_epoch_and_the_other_worker_lives_on(make: Make) -> None:
    supervisor = make(OBEYS)
    for seat in supervisor.workers:
        supervisor.start(seat, 0.0)
    other = supervisor.workers[DECODER].process
    assert supervisor.reap(1.0) == []
    supervisor.kill(supervisor.workers[ENCODER], 1.5, "it hangs")
    process = supervisor.workers[ENCODER].process
    assert process is not None
    process.wait(WAIT_S)
    assert supervisor.reap(2.0) == [(supervisor.workers[ENCODER], 1, "signal SIGKILL (it hangs)")]
    assert supervisor.reap(3.0) == []
    assert other is not None and other.poll() is None


def test_no_sibling_inherits_a_lifeline(make: Make) -> None:
    supervisor = make(OBEYS)
    for seat in supervisor.workers:
        supervisor.start(seat, 0.0)
    first = supervisor.workers[ENCODER].process
    assert first is not None and first.stdin is not None
    first.stdin.close()
    assert first.wait(WAIT_S) == 0  # it would go on reading if the second child held the pipe's other end


def test_the_name_on_the_socket_belongs_to_the_present_process_alone(make: Make) -> None:
    supervisor = make(DIES)
    assert supervisor.by_identity(b"encoder.0") is None
    supervisor.start(ENCODER, 0.0)
    worker = supervisor.workers[ENCODER]
    assert supervisor.by_identity(b"encoder.1") is worker
    die(supervisor, 0.0)
    assert supervisor.by_identity(b"encoder.1") is None
    supervisor.start_due(0.0)
    assert supervisor.by_identity(b"encoder.1") is None
    assert supervisor.by_identity(b"encoder.2") is worker


def test_only_a_worker_that_loads_and_says_nothing_is_given_up_at_the_limit(make: Make) -> None:
    supervisor = make(OBEYS)
    for seat in supervisor.workers:
        supervisor.start(seat, 100.0)
    encoder, decoder = supervisor.workers[ENCODER], supervisor.workers[DECODER]
    encoder.heard_at, encoder.state = 105.0, WorkerState.READY
    decoder.heard_at = 101.0
    assert supervisor.next_due(10.0) == 111.0
    supervisor.end_silent_loads(110.9, 10.0)
    assert decoder.state is WorkerState.STARTING
    supervisor.end_silent_loads(111.0, 10.0)
    assert (encoder.state, decoder.state) == (WorkerState.READY, WorkerState.FATAL)
    assert decoder.process is not None
    decoder.process.wait(WAIT_S)
    ((worker, _, last_exit),) = supervisor.reap(112.0)
    assert worker is decoder and "silent for 10 s while it loaded" in last_exit
    assert decoder.verdict == "the decoder worker said nothing for 10 s of loading"


def test_a_worker_that_is_ended_is_first_asked_where_it_hangs(make: Make) -> None:
    supervisor = make("trap 'echo it hangs here' USR2; echo ready; while :; do :; done")
    supervisor.start(ENCODER, 0.0)
    worker = supervisor.workers[ENCODER]
    wait_for(lambda: log_tail(worker.log) == "ready")
    worker.state = WorkerState.READY
    supervisor.kill(supervisor.workers[ENCODER], 10.0, "no progress")
    supervisor.kill(supervisor.workers[ENCODER], 10.1, "a second reason changes nothing")
    wait_for(lambda: "it hangs here" in log_tail(worker.log))
    supervisor.kill_due(10.0 + TRACEBACK_S - 0.01)
    assert supervisor.reap(10.1) == []
    assert supervisor.next_due(900.0) == 10.0 + TRACEBACK_S
    supervisor.kill_due(10.0 + TRACEBACK_S)
    assert die(supervisor, 11.0).last_exit == "signal SIGKILL (no progress)"


def test_a_process_that_does_not_end_after_a_kill_is_given_up_and_replaced(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that waits for a dead disk: here, one that SIGKILL does not reach."""
    supervisor = make(OBEYS)
    supervisor.start(ENCODER, 0.0)
    worker = supervisor.workers[ENCODER]
    process = worker.process
    assert process is not None
    with monkeypatch.context() as patch:
        patch.setattr(process, "kill", lambda: None)
        supervisor.kill(supervisor.workers[ENCODER], 10.0, "no progress")
    lifeline, process.stdin = process.stdin, None  # else it would end with it
    due = supervisor.next_due(900.0)
    assert due == 10.0 + KILL_WAIT_S
    assert supervisor.reap(due - 0.1) == []
    assert supervisor.reap(due) == [(worker, 1, "no end after SIGKILL (no progress)")]
    supervisor.start_due(due)
    assert worker.epoch == 2 and worker.process is not process
    assert lifeline is not None
    lifeline.close()
    assert process.wait(WAIT_S) == 0


def test_stopping_goes_on_when_a_process_survives_a_kill(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = make(IGNORES)
    for seat in supervisor.workers:
        supervisor.start(seat, 0.0)
    stuck, other = (worker.process for worker in supervisor.workers.values())
    assert stuck is not None and other is not None
    with monkeypatch.context() as patch:
        patch.setattr(stuck, "kill", lambda: None)
        patch.setattr("dotsctl.client.runtime.supervisor.KILL_WAIT_S", 0.5)
        supervisor.stop_all(grace_s=0.0)
    assert stuck.poll() is None and other.returncode == -signal.SIGKILL
    assert all(worker.process is None for worker in supervisor.workers.values())
    stuck.kill()
    stuck.wait(WAIT_S)


def test_a_stopped_process_is_suspected_and_ended_when_it_stays_so(make: Make) -> None:
    supervisor = make(OBEYS)
    supervisor.start(ENCODER, 0.0)
    worker = supervisor.workers[ENCODER]
    assert worker.process is not None
    supervisor.watch_stopped(1.0, 10.0)
    assert supervisor.report(ENCODER, "fake", 0, 0.0).state == "starting"
    stop(worker.process.pid)
    supervisor.watch_stopped(2.0, 10.0)
    assert supervisor.report(ENCODER, "fake", 0, 0.0).state == "suspected"
    worker.process.send_signal(signal.SIGCONT)
    wait_for(lambda: worker.process is not None and not stopped_processes([worker.process.pid]))
    supervisor.watch_stopped(3.0, 10.0)
    assert supervisor.report(ENCODER, "fake", 0, 0.0).state == "starting", "it goes on, and is trusted again"
    stop(worker.process.pid)
    supervisor.watch_stopped(20.0, 10.0)
    supervisor.watch_stopped(29.9, 10.0)
    assert worker.process.poll() is None
    supervisor.forgive_sleep(35.0)
    supervisor.watch_stopped(36.0, 10.0)
    supervisor.watch_stopped(45.9, 10.0)
    assert worker.process.poll() is None, "a machine that slept is no reason"
    supervisor.watch_stopped(46.0, 10.0)
    assert die(supervisor, 46.0).last_exit == "signal SIGKILL (it was stopped for 10 s)"
    assert worker.was_stopped


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: pid in stopped_processes([pid]))


def wait_for(holds: Callable[[], bool]) -> None:
    """No system tells when another process has been stopped or has written, so look again and again."""
    pause, deadline = select.poll(), time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        pause.poll(5)


def test_a_process_that_is_gone_or_computes_is_not_stopped() -> None:
    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as busy:
        assert stopped_processes([busy.pid, os.getpid(), 2**22 + 1]) == set()
        busy.kill()
    assert stopped_processes([busy.pid]) == set()
    assert stopped_processes([]) == set()


def test_stopping_lets_obedient_workers_end_by_themselves(make: Make) -> None:
    supervisor = make(OBEYS)
    for seat in supervisor.workers:
        supervisor.start(seat, 0.0)
    processes = [worker.process for worker in supervisor.workers.values()]
    supervisor.stop_all(grace_s=WAIT_S)
    assert [process.returncode for process in processes if process] == [0, 0]
    assert all(worker.state is WorkerState.STOPPED for worker in supervisor.workers.values())
    assert all(worker.process is None for worker in supervisor.workers.values())
    assert supervisor.next_due(900.0) == float("inf")


def test_stopping_kills_what_stays_after_one_grace_for_both(make: Make) -> None:
    supervisor = make(IGNORES)
    for seat in supervisor.workers:
        supervisor.start(seat, 0.0)
    processes = [worker.process for worker in supervisor.workers.values()]
    started = time.monotonic()
    supervisor.stop_all(grace_s=1.0)
    assert 1.0 <= time.monotonic() - started < 1.9
    assert [process.returncode for process in processes if process] == [-signal.SIGKILL] * 2


def test_a_worker_in_its_pause_is_not_started_after_a_stop(make: Make) -> None:
    supervisor = make(DIES)
    supervisor.start(ENCODER, 0.0)
    worker = die(supervisor, 0.0)
    supervisor.stop_all(grace_s=0.0)
    supervisor.start_due(1000.0)
    assert worker.process is None and worker.epoch == 1


def test_only_the_newest_logs_of_a_role_are_kept(make: Make, tmp_path: Path) -> None:
    supervisor = make(DIES, max_starts=100, backoff_s=0.0)
    (tmp_path / "log" / "decoder.1.log").touch()
    supervisor.start(ENCODER, 0.0)
    for epoch in range(1, KEPT_LOGS + 4):
        worker = die(supervisor, 0.0)
        os.utime(worker.log, (epoch, epoch))  # a system's clock may give the same time to all of them
        supervisor.start_due(0.0)
    newest = range(worker.epoch - KEPT_LOGS + 1, worker.epoch + 1)
    kept = {path.name for path in (tmp_path / "log").iterdir()}
    assert kept == {"decoder.1.log", *(f"encoder.{epoch}.log" for epoch in newest)}


def test_the_report_shows_process_and_restarts(make: Make) -> None:
    supervisor = make("kill -TERM $$")
    supervisor.start(ENCODER, 0.0)
    die(supervisor, 0.0)
    report = supervisor.report(ENCODER, "fake", 7, 0.5)
    assert (report.state, report.pid, report.restarts, report.last_exit) == ("backoff", 0, 0, "signal SIGTERM")
    supervisor.start_due(0.0)
    report = supervisor.report(ENCODER, "fake", 7, 0.5)
    process = supervisor.workers[ENCODER].process
    assert isinstance(process, subprocess.Popen)
    assert (report.state, report.pid, report.restarts, report.pages) == ("starting", process.pid, 1, 7)


@pytest.mark.parametrize(
    ("returncode", "text"),
    [(0, "exit code 0"), (3, "exit code 3"), (-9, "signal SIGKILL"), (-15, "signal SIGTERM"), (-200, "signal 200")],
)
def test_an_exit_is_told_as_a_code_or_as_the_name_of_a_signal(returncode: int, text: str) -> None:
    assert describe_exit(returncode) == text


def test_the_tail_of_a_log_is_its_last_lines_whatever_bytes_it_has(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\xff\xfe\n" + b"".join(b"line %d\n" % n for n in range(100)))
    assert log_tail(path).splitlines() == [f"line {n}" for n in range(100 - TAIL_LINES, 100)]
    path.write_bytes(b"broken \xff byte")
    assert log_tail(path) == "broken \ufffd byte"
    assert log_tail(tmp_path / "nothing") == ""
