"""What the supervisor knows of a worker's process: its state, its end, its command and its log."""

import signal
import subprocess
import sys
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from dotsctl.client.runtime.seats import Seat
from dotsctl.protocol.parts import Role

TAIL_LINES = 20


class WorkerState(StrEnum):
    """Life of a worker; READY comes back after every restart."""

    DORMANT = "dormant"
    """Not started, because nothing needs it."""
    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    BACKOFF = "backoff"
    FATAL = "fatal"
    STOPPED = "stopped"
    SUSPECTED = "suspected"
    """Only in reports: the kernel has stopped the process, whatever it was about to do."""


@dataclass
class Worker:
    """One seat and the process that fills it at the moment."""

    seat: Seat
    state: WorkerState = WorkerState.DORMANT
    epoch: int = 0
    starts: int = 0
    """Processes so far."""
    process: subprocess.Popen[bytes] | None = None
    heard_at: float = 0.0
    """Last sign of life while it loads."""
    start_at: float = 0.0
    """When to start it again, in BACKOFF."""
    failures: int = 0
    """Deaths in a row without a finished page between them."""
    last_exit: str = ""
    ended_for: str = ""
    """Why we ended the present process, or the last one; empty: it died by itself."""
    kill_at: float | None = None
    """When SIGKILL follows the request for a traceback; infinite: it was sent."""
    undead_at: float | None = None
    """When a process that SIGKILL did not end is given up."""
    stopped_at: float | None = None
    """Since when the process is stopped; none: it is not."""
    was_stopped: bool = False
    """Whether the last process was ended because it stayed stopped, so that no page is to blame."""
    was_ready: bool = False
    """Whether the present process, or the last one, came through its load."""
    verdict: str = ""
    """In FATAL: why it is given up."""
    log: Path = field(default_factory=Path)
    is_beside: bool = False
    """Whether it stands beside the worker of its seat, and is not started again."""

    @property
    def role(self) -> Role:
        """Of its seat."""
        return self.seat.role

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
