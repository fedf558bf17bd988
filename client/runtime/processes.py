"""The processes of the workers: started, signalled, watched and ended. Decides nothing; see ``supervisor.py``."""

import contextlib
import logging
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dotsctl.client.connection.log_files import remove_log
from dotsctl.client.runtime.log_rotation import LogRotation
from dotsctl.client.runtime.process_memory import Use, memory_of
from dotsctl.client.runtime.process_state import stopped_processes
from dotsctl.client.runtime.supervisor import KILL_WAIT_S
from dotsctl.client.runtime.worker_process import log_tail, worker_command
from dotsctl.client.runtime.worker_slots import WorkerSlot
from dotsctl.protocol import left_workers
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.blas import thread_settings

log = logging.getLogger(__name__)

KEPT_LOGS = 5


@dataclass(frozen=True)
class Ended:
    """The end of a process."""

    role: Role
    epoch: int
    code: int
    """Exit code; negative: the signal that ended it."""
    tail: str
    """The last lines of its log."""


class WorkerProcesses:
    """Processes by role and epoch."""

    def __init__(
        self,
        folder: Path,
        log_folder: Path,
        endpoint: str,
        command: Callable[[Role, str, int], list[str]] = worker_command,
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            folder: working directory of the workers.
            log_folder: the folder of their logs.
            endpoint: control socket that the workers connect to.
            command: from role, endpoint and epoch to the command of a process.
        """
        self.log_folder, self.logs = log_folder, LogRotation(log_folder)
        self._folder, self._endpoint, self._command = folder, endpoint, command
        self._is_logging = True
        """Whether the last log could be opened."""
        self._running: dict[tuple[Role, int], tuple[subprocess.Popen[bytes], Path]] = {}

    def spawn(self, slot: WorkerSlot, epoch: int, path: Path) -> None:
        """Start a process with its log at ``path``, and remove old logs of the slot.

        Raises:
            OSError: the system starts no process, or the folder of the instance was removed.
        """
        old = sorted(self.log_folder.glob(f"{slot}.*.log"), key=lambda p: p.stat().st_mtime)
        for each in old[: -KEPT_LOGS + 1]:
            remove_log(each)
        with self._opened_log(path) as output:
            process = subprocess.Popen(
                self._command(slot.role, self._endpoint, epoch),
                stdin=subprocess.PIPE,  # the lifeline: never written to; its end means to the worker that we are gone
                stdout=output,
                stderr=output,
                cwd=self._folder,
                env={**os.environ, **thread_settings()},
                start_new_session=True,
            )
        self._running[slot.role, epoch] = process, path

    def _opened_log(self, path: Path) -> BinaryIO:
        """Open a log, in a new folder if the old one was removed; where none can be written, the null device."""
        try:
            if self._folder.is_dir():  # else that of a private instance would come back with its logs
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            output = path.open("ab")
        except OSError as error:
            if self._is_logging:
                log.warning("workers continue without a log: %s", error)
            self._is_logging = False
            return Path(os.devnull).open("ab")
        self._is_logging = True
        return output

    def ended(self) -> list[Ended]:
        """The processes that have ended since the last call."""
        found = []
        for (role, epoch), (process, path) in list(self._running.items()):
            if (code := process.poll()) is not None:
                left_workers.unmark(self._folder, process.pid)
                self.abandon(role, epoch)
                found.append(Ended(role, epoch, code, log_tail(path)))
        return found

    def signal(self, role: Role, epoch: int, number: int) -> None:
        """Send a signal to a process, if it is still there."""
        if found := self._running.get((role, epoch)):
            found[0].send_signal(number)

    def release(self, role: Role, epoch: int) -> None:
        """Close the lifeline of a process, which ends it when it has finished what it has."""
        if found := self._running.get((role, epoch)):
            _close_lifeline(found[0])

    def abandon(self, role: Role, epoch: int) -> None:
        """Leave a process alone from now on."""
        self.release(role, epoch)
        self._running.pop((role, epoch), None)

    def stopped(self) -> set[tuple[Role, int]]:
        """The processes that the kernel has stopped."""
        pids = {process.pid: name for name, (process, _) in self._running.items()}
        return {pids[pid] for pid in stopped_processes(list(pids))}

    def pid(self, role: Role, epoch: int) -> int:
        """The number of a process; 0: it does not run."""
        found = self._running.get((role, epoch))
        return found[0].pid if found else 0

    def memory(self, role: Role, epoch: int) -> Use:
        """Memory of a process; zero for one that does not run."""
        pid = self.pid(role, epoch)
        return (memory_of(pid) if pid else None) or Use()

    def stop_all(self, grace_s: float) -> None:
        """Wait until all processes are gone: close their lifelines, and kill what is left after ``grace_s`` seconds."""
        for name in list(self._running):
            self.release(*name)
        deadline = time.monotonic() + grace_s  # for all of them together; nothing else runs meanwhile
        late = [process for process, _ in self._running.values() if not _has_ended(process, deadline)]
        for process in late:
            process.kill()
        deadline = time.monotonic() + KILL_WAIT_S
        for process in late:
            if not _has_ended(process, deadline):
                log.error("process %d does not end after SIGKILL: it is blocked in a system call", process.pid)
        self._running.clear()


def _close_lifeline(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _has_ended(process: "subprocess.Popen[bytes]", deadline: float) -> bool:
    """Return whether a process of ours ends before the deadline."""
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True
