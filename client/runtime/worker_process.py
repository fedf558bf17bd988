"""The start of a worker's process, the description of its end, and the end of its log."""

import os
import signal
import sys
from collections import deque
from pathlib import Path

from dotsctl.protocol.parts import Role

TAIL_LINES = 20
STANDARD_LIBRARY = str(Path(os.__file__).parent)


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
    """Return the command that starts the process of a role."""
    return [sys.executable, "-P", "-m", f"dotsctl.{role}_worker", "--endpoint", endpoint, "--epoch", str(epoch)]


def last_location(tail: str) -> str:
    """Return where a process hung or failed, as the end of a sentence, from the last lines of its log; empty: unknown.

    A dump of a process that hangs names the innermost call first, mostly a wait of the standard library; a traceback
    ends with the exception.
    """
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    dumped = next((number for number, line in enumerate(lines) if line.startswith("Current thread")), None)
    if dumped is None:
        return f": {lines[-1]}" if lines else ""
    calls = [line.removeprefix("File ") for line in lines[dumped + 1 :] if line.startswith("File ")]
    ours = [call for call in calls if not call.startswith(f'"{STANDARD_LIBRARY}') or "site-packages" in call]
    return f", at {(ours or calls)[0]}" if calls else ""
