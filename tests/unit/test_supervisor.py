"""Restarts, pauses and ends of workers, without processes: facts go in with a time, commands come out."""

import signal
from pathlib import Path

from dotsctl.client.runtime.delivery import Abandon, Command, Release, Signal, Spawn
from dotsctl.client.runtime.supervisor import KILL_WAIT_S, MAX_BACKOFF_S, STOP_GRACE_S, TRACEBACK_S, Supervisor
from dotsctl.client.runtime.worker_slots import DECODER, ENCODER
from dotsctl.client.runtime.worker_table import Worker, WorkerState, WorkerTable
from dotsctl.client.settings.runtime_config import PluginChoice, RuntimeConfig
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.shell import START_AGAIN, TRACEBACK_SIGNAL

FAKE = PluginChoice("fake")
KILLED = Signal(Role.ENCODER, 1, signal.SIGKILL)


class Processes:
    """A supervisor, and the commands that it has given since the last look."""

    def __init__(self, max_starts: int = 5, backoff_s: float = 0.5) -> None:
        config = RuntimeConfig(
            "test", "fake", "", FAKE, FAKE, max_starts=max_starts, backoff_s=backoff_s, load_timeout_s=10.0
        )
        self.table, self._commands = WorkerTable(1), list[Command]()
        self.supervisor = Supervisor(self.table, config, Path("log"), self._commands)

    def start(self, now: float = 0.0) -> Worker:
        return self.supervisor.start(ENCODER, now)

    def die(self, now: float, code: int = 3) -> Worker:
        worker = self.table.in_slot(ENCODER)
        assert worker.is_alive
        self.supervisor.ended(worker, code, self.supervisor.exit_reason(worker, code), now)
        return worker

    def commands(self) -> list[Command]:
        commands = list(self._commands)
        self._commands.clear()
        return commands


def test_a_start_requests_a_process_with_a_log_of_its_own() -> None:
    made = Processes()
    made.start()
    made.die(1.0)
    made.supervisor.start_due(1.0)
    assert made.commands() == [Spawn(ENCODER, n, Path(f"log/encoder.{n}.log")) for n in (1, 2)]


def test_the_first_restart_comes_at_once_and_the_pauses_double_up_to_a_limit() -> None:
    made = Processes(max_starts=100, backoff_s=4.0)
    worker = made.start()
    now, pauses = 0.0, []
    for _ in range(7):
        made.die(now)
        assert worker.state is WorkerState.BACKOFF
        due = made.supervisor.next_due()
        if due > now:
            made.supervisor.start_due(due - 0.001)
            assert not worker.is_alive, "it was started before its pause was over"
        pauses.append(due - now)
        now = due
        made.supervisor.start_due(now)
        assert worker.state is WorkerState.STARTING
    assert pauses == [0.0, 4.0, 8.0, 16.0, MAX_BACKOFF_S, MAX_BACKOFF_S, MAX_BACKOFF_S]
    assert worker.epoch == 8


def test_after_a_fault_of_the_gpu_the_next_process_comes_after_a_pause_and_the_faults_are_counted() -> None:
    made = Processes()
    worker, pauses = made.start(), []
    for now in (0.0, 100.0, 200.0):
        made.die(now, START_AGAIN)
        pauses.append(worker.start_at - now)
        made.supervisor.start_due(now + 99.0)
    assert pauses == [5.0, 5.0, 5.0] and worker.gpu_faults == 3
    made.die(300.0, -signal.SIGKILL)
    assert worker.gpu_faults == 0
    made.supervisor.start_due(399.0)
    made.die(400.0, START_AGAIN)
    assert worker.state is WorkerState.FATAL
    assert worker.verdict.endswith("lower --max-pixels, or restart the Mac")


def test_the_fifth_death_in_a_row_is_the_last() -> None:
    made = Processes()
    worker, states = made.start(), []
    for now in range(0, 500, 100):
        states.append(made.die(float(now)).state)
        made.supervisor.start_due(now + 99.0)
    assert states == [WorkerState.BACKOFF] * 4 + [WorkerState.FATAL]
    assert not worker.is_alive and made.supervisor.next_due() == float("inf")
    assert worker.last_exit == "exit code 3"
    assert worker.verdict == "the encoder worker died 5 times in a row, last by exit code 3"


def test_a_finished_page_makes_the_next_death_the_first_one_again() -> None:
    made = Processes(max_starts=3)
    worker = made.start()
    for now in range(0, 1000, 100):
        made.die(float(now))
        assert (worker.state, worker.start_at) == (WorkerState.BACKOFF, now)
        made.supervisor.progress()
        made.supervisor.start_due(float(now))
    assert worker.epoch == 11


def test_a_worker_that_the_system_kills_while_it_loads_is_reported_as_short_of_memory() -> None:
    made = Processes(max_starts=1)
    made.start()
    assert "memory ran out" in made.die(1.0, -signal.SIGKILL).verdict


def test_the_name_on_the_socket_belongs_to_the_present_process_alone() -> None:
    made = Processes()
    assert made.table.by_identity(b"encoder.0") is None
    worker = made.start()
    assert made.table.by_identity(b"encoder.1") is worker
    made.die(0.0)
    assert made.table.by_identity(b"encoder.1") is None
    made.supervisor.start_due(0.0)
    assert made.table.by_identity(b"encoder.1") is None
    assert made.table.by_identity(b"encoder.2") is worker


def test_only_a_worker_that_loads_and_makes_no_progress_is_given_up_at_the_limit() -> None:
    made = Processes()
    encoder, decoder = made.start(100.0), made.supervisor.start(DECODER, 101.0)
    encoder.state = WorkerState.READY
    assert made.supervisor.next_due() == 111.0
    made.supervisor.end_silent_loads(110.9)
    assert decoder.state is WorkerState.STARTING
    made.commands()
    made.supervisor.end_silent_loads(111.0)
    assert (encoder.state, decoder.state) == (WorkerState.READY, WorkerState.FATAL)
    assert made.commands() == [Signal(Role.DECODER, 1, signal.SIGKILL)]
    assert "silent for 10 s while it loaded" in made.supervisor.exit_reason(decoder, -signal.SIGKILL)
    assert decoder.verdict == "the decoder worker made no progress for 10 s while loading"


def test_a_worker_that_is_killed_is_first_asked_where_it_hangs() -> None:
    made = Processes()
    worker = made.start()
    worker.state, worker.has_greeted = WorkerState.READY, True
    made.commands()
    made.supervisor.kill(worker, 10.0, "no progress")
    made.supervisor.kill(worker, 10.1, "a second reason changes nothing")
    made.supervisor.kill_due(10.0 + TRACEBACK_S - 0.01)
    assert made.commands() == [Signal(Role.ENCODER, 1, TRACEBACK_SIGNAL)]
    assert made.supervisor.next_due() == 10.0 + TRACEBACK_S
    made.supervisor.kill_due(10.0 + TRACEBACK_S)
    assert made.commands() == [KILLED]
    assert made.die(11.0, -signal.SIGKILL).last_exit == "signal SIGKILL (no progress)"


def test_a_worker_without_a_hello_is_killed_at_once() -> None:
    made = Processes()
    worker = made.start()
    made.commands()
    made.supervisor.kill(worker, 10.0, "no progress")
    assert made.commands() == [KILLED]


def test_a_process_that_does_not_end_after_a_kill_is_abandoned() -> None:
    """As one that waits for a dead disk."""
    made = Processes()
    worker = made.start()
    made.supervisor.kill(worker, 10.0, "no progress")
    made.commands()
    due = made.supervisor.next_due()
    assert due == 10.0 + KILL_WAIT_S
    assert made.supervisor.undead(due - 0.1) == []
    assert made.supervisor.undead(due) == [worker]
    assert made.commands() == [Abandon(Role.ENCODER, 1)]
    assert made.supervisor.exit_reason(worker, None) == "no end after SIGKILL (no progress)"


def test_a_stopped_process_is_suspected_and_killed_when_it_stays_so() -> None:
    made = Processes()
    worker = made.start()
    made.commands()
    stopped = {(Role.ENCODER, 1)}
    made.supervisor.watch_stopped(set(), 1.0)
    assert worker.stopped_at is None
    made.supervisor.watch_stopped(stopped, 2.0)
    assert worker.stopped_at == 2.0
    made.supervisor.watch_stopped(set(), 3.0)
    assert worker.stopped_at is None, "it resumes, and is trusted again"
    made.supervisor.watch_stopped(stopped, 20.0)
    made.supervisor.watch_stopped(stopped, 29.9)
    made.supervisor.restart_after_sleep(35.0)
    made.supervisor.watch_stopped(stopped, 36.0)
    made.supervisor.watch_stopped(stopped, 45.9)
    assert made.commands() == [], "a machine that slept is no reason"
    made.supervisor.watch_stopped(stopped, 46.0)
    assert made.commands() == [KILLED]
    assert made.die(46.0, -signal.SIGKILL).last_exit == "signal SIGKILL (it was stopped for 10 s)"
    assert worker.was_stopped


def test_a_stopped_process_that_does_not_end_after_a_kill_is_abandoned() -> None:
    made = Processes()
    worker = made.start()
    for now in (2.0, 12.0):
        made.supervisor.watch_stopped({(Role.ENCODER, 1)}, now)
    assert made.supervisor.undead(12.0 + KILL_WAIT_S) == [worker]


def test_a_retired_worker_is_released_and_killed_after_its_grace() -> None:
    made = Processes()
    worker = made.start()
    made.table.vacate(ENCODER)
    made.commands()
    made.supervisor.retire(worker, 5.0)
    assert made.commands() == [Release(Role.ENCODER, 1)]
    made.supervisor.kill_due(5.0 + STOP_GRACE_S)
    assert made.commands() == [KILLED]
    made.supervisor.ended(worker, -signal.SIGKILL, "signal SIGKILL", 21.0)
    assert worker not in made.table.rows and made.table.in_slot(ENCODER).state is WorkerState.DORMANT
