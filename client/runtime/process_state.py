"""The processes that are stopped, according to the kernel; a busy process never counts as a stopped one."""

import sys
from collections.abc import Sequence
from pathlib import Path

from dotsctl.protocol.machine import libproc

STOPPED = "T"
"""The state after SIGSTOP or by a terminal. A process that a debugger holds has a small t, and is left to it."""


def stopped_processes(pids: Sequence[int]) -> set[int]:
    """Return those of the processes that are stopped; a process that is gone is not."""
    is_stopped = libproc.is_stopped if sys.platform == "darwin" else _is_stopped
    return {pid for pid in pids if is_stopped(pid)}


def _is_stopped(pid: int) -> bool:
    try:
        content = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:  # it has ended meanwhile
        return False
    return content.rpartition(")")[2].split()[0] == STOPPED  # the name before it may hold blanks and brackets
