"""Which processes are stopped, as the kernel says; a busy process is never mistaken for one."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PS_TIMEOUT_S = 2.0
STOPPED = "T"
"""By SIGSTOP or a terminal. A process that a debugger holds has a small t, and is left to it."""


def stopped_processes(pids: Sequence[int]) -> set[int]:
    """Those of the processes that are stopped; one that is gone is not."""
    if sys.platform == "linux":
        return {pid for pid in pids if _state(pid) == STOPPED}
    return _from_ps(pids) if pids else set()


def _state(pid: int) -> str:
    try:
        content = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:  # it has ended meanwhile
        return ""
    return content.rpartition(")")[2].split()[0]  # the name before it may hold blanks and brackets


def _from_ps(pids: Sequence[int]) -> set[int]:
    command = ["ps", "-o", "pid=,state=", "-p", ",".join(map(str, pids))]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PS_TIMEOUT_S).stdout
    except (OSError, subprocess.TimeoutExpired):  # nothing is known then, and nobody is suspected
        return set()
    rows = [line.split() for line in shown.splitlines()]
    return {int(row[0]) for row in rows if len(row) == 2 and row[1].startswith(STOPPED)}
