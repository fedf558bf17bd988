"""The processes of workers, with tiny children in their place."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dotsctl.client.runtime.process_state import stopped_processes
from dotsctl.client.runtime.processes import KEPT_LOGS, Ended, WorkerProcesses
from dotsctl.client.runtime.worker_process import TAIL_LINES, describe_exit, log_tail, worker_command
from dotsctl.client.runtime.worker_slots import DECODER, ENCODER, WorkerSlot
from dotsctl.protocol.parts import Role

WAIT_S = 10.0
OBEYS = "exec cat"
"""Ends with its standard input, as a worker does."""
IGNORES = "exec sleep 60 2>/dev/null"

Make = Callable[[str], WorkerProcesses]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Processes of ``sh -c SCRIPT``; what was started is ended."""
    made: list[WorkerProcesses] = []

    def processes(script: str) -> WorkerProcesses:
        def command(role: Role, endpoint: str, epoch: int) -> list[str]:
            return ["sh", "-c", script, "sh", role, endpoint, str(epoch)]

        (tmp_path / "log").mkdir(exist_ok=True)
        made.append(WorkerProcesses(tmp_path, tmp_path / "log", "ipc://w.sock", command))
        return made[-1]

    yield processes
    for one in made:
        one.stop_all(grace_s=0.0)


def spawn(processes: WorkerProcesses, slot: WorkerSlot = ENCODER, epoch: int = 1) -> Path:
    path = processes.log_folder / f"{slot}.{epoch}.log"
    processes.spawn(slot, epoch, path)
    return path


def wait_for(holds: Callable[[], object]) -> None:
    """No system tells when another process has been stopped or has written, so look again and again."""
    pause, deadline = select.poll(), time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        pause.poll(5)


def end_of(processes: WorkerProcesses) -> Ended:
    found: list[Ended] = []
    wait_for(lambda: found.extend(processes.ended()) or found)  # type: ignore[func-returns-value]
    assert processes.ended() == [], "an end is reported once"
    return found[0]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_command_is_the_workers_module_without_the_current_folder_on_its_path() -> None:
    command = worker_command(Role.DECODER, "ipc://w.sock", 7)
    assert command[1:] == ["-P", "-m", "dotsctl.decoder_worker", "--endpoint", "ipc://w.sock", "--epoch", "7"]


def test_a_child_runs_in_the_folder_with_its_arguments_and_its_log(make: Make, tmp_path: Path) -> None:
    processes = make('pwd; echo "$@" >&2; exit 3')
    path = spawn(processes, DECODER)
    assert end_of(processes) == Ended(Role.DECODER, 1, 3, f"{tmp_path.resolve()}\ndecoder ipc://w.sock 1")
    assert log_tail(path).endswith("decoder ipc://w.sock 1")


def test_an_end_is_reported_with_its_name_and_the_other_process_lives_on(make: Make) -> None:
    processes = make(OBEYS)
    for slot in (ENCODER, DECODER):
        spawn(processes, slot)
    other = processes.pid(Role.DECODER, 1)
    processes.signal(Role.ENCODER, 1, signal.SIGKILL)
    assert end_of(processes) == Ended(Role.ENCODER, 1, -signal.SIGKILL, "")
    assert processes.pid(Role.ENCODER, 1) == 0 and is_running(other)


def test_no_sibling_inherits_a_lifeline(make: Make) -> None:
    processes = make(OBEYS)
    for slot in (ENCODER, DECODER):
        spawn(processes, slot)
    processes.release(Role.ENCODER, 1)
    assert end_of(processes).code == 0  # it would continue reading if the second child held the pipe's other end


def test_a_folder_that_is_gone_is_an_error_and_leaves_no_process(make: Make, tmp_path: Path) -> None:
    processes = make(OBEYS)
    processes._folder = tmp_path / "removed"
    with pytest.raises(FileNotFoundError):
        spawn(processes)
    assert processes.pid(Role.ENCODER, 1) == 0


def test_an_abandoned_process_is_not_reported_any_more(make: Make) -> None:
    processes = make(IGNORES)
    spawn(processes)
    process, _ = processes._running[Role.ENCODER, 1]
    processes.abandon(Role.ENCODER, 1)
    assert processes.ended() == [] and processes.stopped() == set() and process.poll() is None
    process.kill()
    process.wait(WAIT_S)


def test_a_stopped_process_is_named_until_it_resumes(make: Make) -> None:
    processes = make(OBEYS)
    for slot in (ENCODER, DECODER):
        spawn(processes, slot)
    assert processes.stopped() == set()
    processes.signal(Role.DECODER, 1, signal.SIGSTOP)
    wait_for(lambda: processes.stopped() == {(Role.DECODER, 1)})
    processes.signal(Role.DECODER, 1, signal.SIGCONT)
    wait_for(lambda: processes.stopped() == set())


def test_a_process_that_is_gone_or_computes_is_not_stopped() -> None:
    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as busy:
        assert stopped_processes([busy.pid, os.getpid(), 2**22 + 1]) == set()
        busy.kill()
    assert stopped_processes([busy.pid]) == set()
    assert stopped_processes([]) == set()


def test_stopping_lets_obedient_workers_end_by_themselves(make: Make, tmp_path: Path) -> None:
    processes = make("cat; echo ended by itself")
    paths = [spawn(processes, slot) for slot in (ENCODER, DECODER)]
    processes.stop_all(grace_s=WAIT_S)
    assert [log_tail(path) for path in paths] == ["ended by itself"] * 2
    assert processes.ended() == []


def test_stopping_kills_what_stays_after_one_grace_for_both(make: Make) -> None:
    processes = make(IGNORES)
    for slot in (ENCODER, DECODER):
        spawn(processes, slot)
    pids = [processes.pid(role, 1) for role in Role]
    started = time.monotonic()
    processes.stop_all(grace_s=1.0)
    assert 1.0 <= time.monotonic() - started < 1.9
    assert not any(map(is_running, pids))


def test_stopping_continues_when_a_process_survives_a_kill(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    processes = make(IGNORES)
    for slot in (ENCODER, DECODER):
        spawn(processes, slot)
    stuck, other = (processes._running[role, 1][0] for role in Role)
    with monkeypatch.context() as patch:
        patch.setattr(stuck, "kill", lambda: None)
        patch.setattr("dotsctl.client.runtime.processes.KILL_WAIT_S", 0.5)
        processes.stop_all(grace_s=0.0)
    assert stuck.poll() is None and other.returncode == -signal.SIGKILL
    stuck.kill()
    stuck.wait(WAIT_S)


def test_only_the_newest_logs_of_a_slot_are_kept(make: Make, tmp_path: Path) -> None:
    processes = make("exit 3")
    (tmp_path / "log" / "decoder.1.log").touch()
    last = KEPT_LOGS + 4
    for epoch in range(1, last + 1):
        path = spawn(processes, ENCODER, epoch)
        end_of(processes)
        os.utime(path, (epoch, epoch))  # a system's clock may give the same time to all of them
    newest = range(last - KEPT_LOGS + 1, last + 1)
    kept = {path.name for path in (tmp_path / "log").iterdir()}
    assert kept == {"decoder.1.log", *(f"encoder.{epoch}.log" for epoch in newest)}


@pytest.mark.parametrize(
    ("returncode", "text"),
    [(0, "exit code 0"), (3, "exit code 3"), (-9, "signal SIGKILL"), (-15, "signal SIGTERM"), (-200, "signal 200")],
)
def test_an_exit_is_reported_as_a_code_or_as_the_name_of_a_signal(returncode: int, text: str) -> None:
    assert describe_exit(returncode) == text


def test_the_tail_of_a_log_is_its_last_lines_whatever_bytes_it_has(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\xff\xfe\n" + b"".join(b"line %d\n" % n for n in range(100)))
    assert log_tail(path).splitlines() == [f"line {n}" for n in range(100 - TAIL_LINES, 100)]
    path.write_bytes(b"broken \xff byte")
    assert log_tail(path) == "broken \ufffd byte"
    assert log_tail(tmp_path / "nothing") == ""
