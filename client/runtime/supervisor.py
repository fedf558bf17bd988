"""Starts the two workers, watches their processes, starts them again with growing pauses, and ends them.

Knows processes and no sockets; :mod:`dotsctl.client.runtime.loop` tells it what the workers say and asks it what is
due. The clock is passed in with every call, except to the last one.
"""

import contextlib
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from dotsctl.client.log_files import remove_log
from dotsctl.client.runtime.log_rotation import LogRotation
from dotsctl.client.runtime.process_memory import MemoryWatch, Use
from dotsctl.protocol.parts import Role, WorkerReport

MAX_BACKOFF_S = 30.0
KEPT_LOGS = 5
TAIL_LINES = 20
STOP_GRACE_S = 15.0
"""Between the request to stop and SIGKILL; a hard kill of a process with much wired memory has leaked it."""
STOP_NOW_GRACE_S = 1.0


class WorkerState(StrEnum):
    """Life of a worker; READY comes back after every restart."""

    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    BACKOFF = "backoff"
    FATAL = "fatal"
    STOPPED = "stopped"


@dataclass
class Worker:
    """One role and the process that fills it at the moment."""

    role: Role
    state: WorkerState = WorkerState.STOPPED
    epoch: int = 0
    process: subprocess.Popen[bytes] | None = None
    heard_at: float = 0.0
    """Last sign of life while it loads."""
    start_at: float = 0.0
    """When to start it again, in BACKOFF."""
    failures: int = 0
    """Deaths in a row without a finished page between them."""
    last_exit: str = ""
    log: Path = field(default_factory=Path)

    @property
    def identity(self) -> str:
        """Name on the control socket; a zombie can never be confused with its successor."""
        return f"{self.role}.{self.epoch}"


def describe_exit(returncode: int) -> str:
    """``exit code 3`` or ``signal SIGKILL``."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"signal {signal.Signals(-returncode).name}"
    except ValueError:
        return f"signal {-returncode}"


def log_tail(path: Path) -> str:
    """The last lines of a log file, for the error that the user sees."""
    try:
        with path.open(errors="replace") as lines:
            return "".join(deque(lines, TAIL_LINES)).strip()
    except OSError:
        return ""


def worker_command(role: Role, endpoint: str, epoch: int) -> list[str]:
    """What starts the process of a role."""
    return [sys.executable, "-P", "-m", f"dotsctl.{role}_worker", "--endpoint", endpoint, "--epoch", str(epoch)]


class Supervisor:
    """Both workers of an instance."""

    def __init__(
        self,
        folder: Path,
        log_folder: Path,
        endpoint: str,
        max_starts: int,
        backoff_s: float,
        command: Callable[[Role, str, int], list[str]] = worker_command,
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            folder: working directory of the workers.
            log_folder: gets ``ROLE.EPOCH.log`` for each process.
            endpoint: control socket that the workers connect to.
            max_starts: deaths in a row after which a worker is given up.
            backoff_s: pause before the second restart in a row; the first one comes at once.
            command: from role, endpoint and epoch to the command of a process.
        """
        self.workers = {role: Worker(role) for role in Role}
        self._folder, self._log_folder, self._endpoint = folder, log_folder, endpoint
        self._max_starts, self._backoff_s, self._command = max_starts, backoff_s, command
        self.logs = LogRotation(log_folder)
        self.memory = MemoryWatch()

    def start(self, role: Role, now: float) -> None:
        """Start a process for the role; it is heard of again over the control socket, or when it dies."""
        worker = self.workers[role]
        worker.epoch += 1
        worker.log = self._log_folder / f"{role}.{worker.epoch}.log"
        for old in sorted(self._log_folder.glob(f"{role}.*.log"), key=lambda p: p.stat().st_mtime)[: -KEPT_LOGS + 1]:
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

    def by_identity(self, identity: bytes) -> Worker | None:
        """The worker whose present process has this name on the control socket."""
        for worker in self.workers.values():
            if worker.process is not None and worker.identity.encode() == identity:
                return worker
        return None

    def reap(self, now: float) -> list[tuple[Worker, int, str]]:
        """Workers whose process has ended since the last call: worker, epoch and what the user is told."""
        dead = []
        for worker in self.workers.values():
            if worker.process is None or (code := worker.process.poll()) is None:
                continue
            self._forget_process(worker)
            worker.last_exit = describe_exit(code)
            if worker.state not in (WorkerState.FATAL, WorkerState.STOPPED):
                self._plan_restart(worker, now)
            dead.append((worker, worker.epoch, worker.last_exit))
        return dead

    def _plan_restart(self, worker: Worker, now: float) -> None:
        worker.failures += 1
        if worker.failures >= self._max_starts:
            worker.state = WorkerState.FATAL
            return
        pause = 0.0 if worker.failures == 1 else self._backoff_s * 2 ** (worker.failures - 2)
        worker.state, worker.start_at = WorkerState.BACKOFF, now + min(MAX_BACKOFF_S, pause)

    def start_due(self, now: float) -> None:
        """Start the workers whose pause is over."""
        for worker in self.workers.values():
            if worker.state is WorkerState.BACKOFF and now >= worker.start_at:
                self.start(worker.role, now)

    def next_due(self) -> float | None:
        """Time of the next restart."""
        return min((w.start_at for w in self.workers.values() if w.state is WorkerState.BACKOFF), default=None)

    def silent_loads(self, now: float, timeout_s: float) -> list[Worker]:
        """Workers that are loading and have said nothing for longer than ``timeout_s``."""
        loading = (WorkerState.STARTING, WorkerState.LOADING)
        return [w for w in self.workers.values() if w.state in loading and now - w.heard_at > timeout_s]

    def progress(self) -> None:
        """A page was finished: deaths before it do not count as deaths in a row any more."""
        for worker in self.workers.values():
            worker.failures = 0

    def kill(self, role: Role) -> None:
        """End the role's process at once; :meth:`reap` then reports it."""
        worker = self.workers[role]
        if worker.process is not None:
            worker.process.kill()

    def stop_all(self, grace_s: float) -> None:
        """Wait until all processes are gone: close their lifelines, and kill what is left after ``grace_s`` seconds."""
        for worker in self.workers.values():
            worker.state = WorkerState.STOPPED
            if worker.process is not None and worker.process.stdin is not None:
                with contextlib.suppress(OSError):
                    worker.process.stdin.close()
        deadline = time.monotonic() + grace_s  # for all of them together; nothing else goes on meanwhile
        for worker in self.workers.values():
            if worker.process is None:
                continue
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait(STOP_GRACE_S)
            self._forget_process(worker)

    @staticmethod
    def _forget_process(worker: Worker) -> None:
        if worker.process is not None and worker.process.stdin is not None:
            with contextlib.suppress(OSError):
                worker.process.stdin.close()
        worker.process = None

    def look_after(self, now: float) -> None:
        """What is to be done about once a second: large logs are cut, memory is looked at."""
        self.logs.look(now)
        self.memory.look([worker.process.pid for worker in self.workers.values() if worker.process], now)

    def report(self, role: Role, plugin: str, pages: int, busy_share: float) -> WorkerReport:
        """The worker as a status answer shows it."""
        worker = self.workers[role]
        pid = worker.process.pid if worker.process else 0
        use = self.memory.use_of([pid]).get(pid, Use()) if pid else Use()
        return WorkerReport(
            role=role,
            plugin=plugin,
            state=worker.state,
            pid=pid,
            epoch=worker.epoch,
            restarts=max(0, worker.epoch - 1),
            last_exit=worker.last_exit,
            pages=pages,
            busy_share=busy_share,
            log=str(worker.log),
            rss_bytes=use.rss_bytes,
            peak_bytes=use.peak_bytes,
        )
