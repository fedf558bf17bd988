"""Memory of a process: now, and the most so far. The kernel keeps the peak."""

import sys
from pathlib import Path
from typing import NamedTuple

from dotsctl.protocol.machine.libproc import footprint


class Use(NamedTuple):
    """Memory of one process, in bytes: resident memory under Linux, the physical footprint on macOS."""

    rss_bytes: int = 0
    peak_bytes: int = 0


def memory_of(pid: int) -> Use | None:
    """Return the memory of a process; None for one that is gone."""
    if sys.platform == "darwin":
        found = footprint(pid)
        return None if found is None else Use(*found)
    return from_proc(Path(f"/proc/{pid}/status"))


def from_proc(status: Path) -> Use | None:
    """Return the memory in ``/proc/PID/status``; None for a process that is gone or about to go."""
    try:
        lines = status.read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS:", "VmHWM:"))}
    return Use(kib["VmRSS"] << 10, kib["VmHWM"] << 10) if len(kib) == 2 else None
