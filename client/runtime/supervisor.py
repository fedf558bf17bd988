"""Starts the workers, watches their processes, starts them again with growing pauses, and ends them.

Knows processes and no sockets; :mod:`dotsctl.client.runtime.loop` tells it what the workers say and asks it what is
due. The clock is passed in with every call, except to the last one.
"""

import contextlib
import logging
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from dotsctl.client.log_files import remove_log
from dotsctl.client.runtime.log_rotation import LogRotation
from dotsctl.client.runtime.process_memory import Use, memory_of
from dotsctl.client.runtime.process_state import stopped_processes
from dotsctl.client.runtime.seats import DECODER, Seat
from dotsctl.client.runtime.worker_process import Worker, WorkerState, describe_exit, worker_command
from dotsctl.protocol.parts import Role, WorkerReport
from dotsctl.protocol.worker_shell import TRACEBACK_SIGNAL

log = logging.getLogger(__name__)

MAX_BACKOFF_S = 30.0
KEPT_LOGS = 5
STOP_GRACE_S = 15.0
"""Between the request to stop and SIGKILL; a hard kill of a process with much wired memory has leaked it."""
STOP_NOW_GRACE_S = 1.0
KILL_WAIT_S = 5.0
"""For the system to take away a process after SIGKILL; one that waits for a dead disk stays."""
TRACEBACK_S = 0.5
"""Between the request for a traceback and SIGKILL."""


class Supervisor:
    """The workers of an instance."""

    def __init__(
        self,
        folder: Path,
        log_folder: Path,
        endpoint: str,
        max_starts: int,
        backoff_s: float,
        encoders: int = 1,
        command: Callable[[Role, str, int], list[str]] = worker_command,
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            folder: working directory of the workers.
            log_folder: gets ``SEAT.EPOCH.log`` for each process.
            endpoint: control socket that the workers connect to.
            max_starts: deaths in a row after which a worker is given up.
            backoff_s: pause before the second restart in a row; the first one comes at once.
            encoders: that stand side by side.
            command: from role, endpoint and epoch to the command of a process.
        """
        seats = [*(Seat(Role.ENCODER, place) for place in range(encoders)), DECODER]
        self.workers = {seat: Worker(seat) for seat in seats}
        self.besides: list[Worker] = []
        """Encoders that are on trial to take the place of the present one, or that finish their last page."""
        self._epochs = dict.fromkeys(Role, 0)
        self._folder, self._log_folder, self._endpoint = folder, log_folder, endpoint
        self._max_starts, self._backoff_s, self._command = max_starts, backoff_s, command
        self.logs = LogRotation(log_folder)

    def start(self, seat: Seat, now: float) -> None:
        """Start a process for the seat; it is heard of again over the control socket, or when it dies.

        A process that is still in the seat finishes its pages beside it.
        """
        self._vacate(seat)
        self._start(self.workers[seat], now)

    def start_beside(self, seat: Seat, now: float) -> Worker:
        """Start another encoder beside the one of a seat; it is not started again when it dies."""
        worker = Worker(seat, is_beside=True)
        self.besides.append(worker)
        self._start(worker, now)
        return worker

    def promote(self, worker: Worker) -> None:
        """Put an encoder from beside into its seat; the one that filled it stands beside from now on."""
        self._vacate(worker.seat)
        self.besides = [other for other in self.besides if other is not worker]
        worker.is_beside = False
        self.workers[worker.seat] = worker

    def retire(self, worker: Worker, now: float) -> None:
        """Give a worker that was told to stop the time to do so; its seat is free from now on."""
        worker.state, worker.kill_at = WorkerState.STOPPED, now + STOP_GRACE_S
        _close_lifeline(worker)
        if self.workers[worker.seat] is worker:
            self._vacate(worker.seat)

    def _vacate(self, seat: Seat) -> None:
        """Let the process of a seat, if there is one, stand beside it."""
        worker = self.workers[seat]
        if worker.process is not None:
            self.workers[seat] = Worker(seat, log=worker.log)
            worker.is_beside = True
            self.besides.append(worker)

    def give_up(self, seat: Seat, reason: str, now: float) -> None:
        """End the worker of a seat and do not start it again."""
        worker = self.workers[seat]
        worker.state, worker.verdict = WorkerState.FATAL, reason
        self.kill(worker, now, "it is given up")

    def _start(self, worker: Worker, now: float) -> None:
        role = worker.role
        worker.epoch = self._epochs[role] = self._epochs[role] + 1
        worker.starts += 1
        worker.log = self._log_folder / f"{worker.seat}.{worker.epoch}.log"
        for old in sorted(self._log_folder.glob(f"{worker.seat}.*.log"), key=lambda p: p.stat().st_mtime)[
            : -KEPT_LOGS + 1
        ]:
            remove_log(old)
        with worker.log.open("ab") as log:
            worker.process = subprocess.Popen(
                self._command(role, self._endpoint, worker.epoch),
                stdin=subprocess.PIPE,  # the lifeline: never written to; its end tells the worker that we are gone
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
            )
        worker.state, worker.heard_at = WorkerState.STARTING, now
        worker.ended_for, worker.was_stopped, worker.was_ready = "", False, False

    def by_identity(self, identity: bytes) -> Worker | None:
        """The worker whose present process has this name on the control socket."""
        for worker in self._all():
            if worker.process is not None and worker.identity.encode() == identity:
                return worker
        return None

    def find(self, role: Role, epoch: int) -> Worker | None:
        """The worker of a role with a process of this epoch."""
        return next((w for w in self._all() if (w.role, w.epoch) == (role, epoch)), None)

    def _all(self) -> list[Worker]:
        return [*self.workers.values(), *self.besides]

    def reap(self, now: float) -> list[tuple[Worker, int, str]]:
        """Workers whose process has ended since the last call: worker, epoch and what the user is told."""
        dead = []
        for worker in self._all():
            if worker.process is None:
                continue
            code = worker.process.poll()
            undead = code is None and worker.undead_at is not None and now >= worker.undead_at
            if code is None and not undead:
                continue
            if undead:
                log.error("%s (pid %d) does not end after SIGKILL; it is left alone", worker.seat, worker.process.pid)
            self._forget_process(worker)
            worker.last_exit = ("no end after SIGKILL" if code is None else describe_exit(code)) + (
                f" ({worker.ended_for})" if worker.ended_for else ""
            )
            if worker.is_beside:
                self.besides.remove(worker)
            elif worker.state not in (WorkerState.FATAL, WorkerState.STOPPED):
                self._plan_restart(worker, now)
            dead.append((worker, worker.epoch, worker.last_exit))
        return dead

    def _plan_restart(self, worker: Worker, now: float) -> None:
        worker.failures += 1
        if worker.failures >= self._max_starts:
            worker.state = WorkerState.FATAL
            worker.verdict = (
                f"the {worker.seat} worker died {worker.failures} times in a row, last by {worker.last_exit}"
            )
            if worker.last_exit == describe_exit(-signal.SIGKILL) and not worker.was_ready:
                worker.verdict += (
                    " while it loaded: mostly the system does that when memory runs out. Close other programs, or "
                    "choose a smaller model or another plugin"
                )
            return
        pause = 0.0 if worker.failures == 1 else self._backoff_s * 2 ** (worker.failures - 2)
        worker.state, worker.start_at = WorkerState.BACKOFF, now + min(MAX_BACKOFF_S, pause)

    def start_due(self, now: float) -> None:
        """Start the workers whose pause is over."""
        for worker in self.workers.values():
            if worker.state is WorkerState.BACKOFF and now >= worker.start_at:
                self.start(worker.seat, now)

    def next_due(self, load_timeout_s: float) -> float:
        """Time of the next restart, of the next SIGKILL, or when a load is over its limit; infinite: none of them."""
        due = [w.start_at for w in self.workers.values() if w.state is WorkerState.BACKOFF]
        due += [w.kill_at for w in self._all() if w.kill_at is not None]
        due += [w.undead_at for w in self._all() if w.undead_at is not None]
        due += [w.heard_at + load_timeout_s for w in self._loading()]
        return min(due, default=float("inf"))

    def _loading(self) -> list[Worker]:
        return [w for w in self._all() if w.state in (WorkerState.STARTING, WorkerState.LOADING)]

    def end_silent_loads(self, now: float, timeout_s: float) -> None:
        """Give up the workers that are loading and have said nothing for ``timeout_s`` seconds."""
        for worker in self._loading():
            if now - worker.heard_at >= timeout_s:
                worker.verdict = f"the {worker.seat} worker said nothing for {timeout_s:g} s of loading"
                self.kill(worker, now, f"silent for {timeout_s:g} s while it loaded")
                worker.state = WorkerState.FATAL

    def watch_stopped(self, now: float, timeout_s: float) -> None:
        """Suspect the workers whose process is stopped, and end those that are so for ``timeout_s`` seconds.

        A worker may compute for minutes without a word, and then only its stall limit speaks against it. One that
        does not run at all is known by its state in the kernel.
        """
        running = {w.process.pid: w for w in self._all() if w.process is not None}
        stopped = stopped_processes(list(running))
        for pid, worker in running.items():
            if pid not in stopped:
                worker.stopped_at = None
            elif worker.stopped_at is None:
                worker.stopped_at = now
                log.warning(
                    "%s (pid %d) is stopped: it is ended in %g s unless it goes on", worker.seat, pid, timeout_s
                )
            elif now - worker.stopped_at >= timeout_s and worker.process is not None:
                worker.ended_for, worker.was_stopped = f"it was stopped for {timeout_s:g} s", True
                worker.process.kill()  # it could write no traceback

    def forgive_sleep(self, now: float) -> None:
        """Start all patience anew: the machine has slept, or we were stopped ourselves."""
        for worker in self._all():
            worker.heard_at = now
            worker.stopped_at = None

    def progress(self) -> None:
        """A page was finished: deaths before it do not count as deaths in a row any more."""
        for worker in self.workers.values():
            worker.failures = 0

    def kill(self, worker: Worker, now: float, reason: str) -> None:
        """End a worker's process; :meth:`reap` then reports it.

        It first writes into its log where it hangs, also while something holds the interpreter's lock.
        """
        if worker.process is None or worker.kill_at is not None:
            return
        worker.ended_for, worker.kill_at = reason, now
        if worker.state not in (WorkerState.STARTING, WorkerState.BACKOFF):  # else it would die by the request itself
            worker.kill_at = now + TRACEBACK_S
            worker.process.send_signal(TRACEBACK_SIGNAL)
        self.kill_due(now)

    def kill_due(self, now: float) -> None:
        """End the processes that have had the time for a traceback."""
        for worker in self._all():
            if worker.process is not None and worker.kill_at is not None and now >= worker.kill_at:
                worker.process.kill()
                worker.kill_at, worker.undead_at = float("inf"), now + KILL_WAIT_S

    def stop_all(self, grace_s: float) -> None:
        """Wait until all processes are gone: close their lifelines, and kill what is left after ``grace_s`` seconds."""
        for worker in self._all():
            worker.state = WorkerState.STOPPED
            _close_lifeline(worker)
        deadline = time.monotonic() + grace_s  # for all of them together; nothing else goes on meanwhile
        running = [w.process for w in self._all() if w.process is not None]
        late = [process for process in running if not _ended(process, deadline)]
        for process in late:
            process.kill()
        deadline = time.monotonic() + KILL_WAIT_S
        for process in late:
            if not _ended(process, deadline):
                log.error("process %d does not end after SIGKILL: the system waits for something in it", process.pid)
        for worker in self._all():
            self._forget_process(worker)

    @staticmethod
    def _forget_process(worker: Worker) -> None:
        _close_lifeline(worker)
        worker.process = worker.kill_at = worker.undead_at = worker.stopped_at = None

    def look_after(self, now: float) -> None:
        """Cut large logs; called about once a second."""
        self.logs.look(now)

    def report(self, seat: Seat, plugin: str, pages: int, busy_share: float, busy_for_s: float = 0.0) -> WorkerReport:
        """The worker as a status answer shows it."""
        worker = self.workers[seat]
        pid = worker.process.pid if worker.process else 0
        use = (memory_of(pid) if pid else None) or Use()
        return WorkerReport(
            role=seat.role,
            plugin=plugin,
            state=WorkerState.SUSPECTED if worker.stopped_at is not None else worker.state,
            pid=pid,
            epoch=worker.epoch,
            restarts=max(0, worker.starts - 1),
            last_exit=worker.last_exit,
            pages=pages,
            busy_share=busy_share,
            log=str(worker.log),
            busy_for_s=busy_for_s,
            rss_bytes=use.rss_bytes,
            peak_bytes=use.peak_bytes,
            place=seat.place,
        )


def _close_lifeline(worker: Worker) -> None:
    if worker.process is not None and worker.process.stdin is not None:
        with contextlib.suppress(OSError):
            worker.process.stdin.close()


def _ended(process: "subprocess.Popen[bytes]", deadline: float) -> bool:
    """Whether a process of ours ends before the deadline."""
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True
