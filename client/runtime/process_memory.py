"""Resident memory of the workers: now, and the most so far."""

import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

PS_EVERY_S = 10.0
"""Between two looks where ``ps`` has to be started for it. Linux keeps the peak itself, and is asked only then."""
PS_TIMEOUT_S = 2.0


class Use(NamedTuple):
    """Of one process, in bytes; zeros for one that is gone."""

    rss_bytes: int = 0
    peak_bytes: int = 0


class MemoryWatch:
    """Knows the memory of processes, looked at now and then."""

    def __init__(self) -> None:
        self._peaks: dict[int, int] = {}
        self._looked_at = 0.0

    def look(self, pids: Collection[int], now: float) -> None:
        """Remember peaks, where the system does not; to be called about once a second."""
        if sys.platform == "linux" or now - self._looked_at < PS_EVERY_S:
            return
        self._looked_at = now
        self._peaks = {pid: peak for pid, peak in self._peaks.items() if pid in pids}
        self.use_of(pids)

    def use_of(self, pids: Collection[int]) -> dict[int, Use]:
        """Memory of each process that is there."""
        if sys.platform == "linux":
            return {pid: use for pid in pids if (use := from_proc(Path(f"/proc/{pid}/status"))) is not None}
        found = from_ps(pids)
        self._peaks.update({pid: max(rss, self._peaks.get(pid, 0)) for pid, rss in found.items()})
        return {pid: Use(rss, self._peaks[pid]) for pid, rss in found.items()}


def from_proc(status: Path) -> Use | None:
    """From ``/proc/PID/status``; none for a process that is gone or about to go."""
    try:
        lines = status.read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS:", "VmHWM:"))}
    return Use(kib["VmRSS"] << 10, kib["VmHWM"] << 10) if len(kib) == 2 else None


def from_ps(pids: Collection[int]) -> dict[int, int]:
    """Resident bytes by process id, from ``ps``; empty when it cannot be asked."""
    if not pids:
        return {}
    command = ["ps", "-o", "pid=,rss=", "-p", ",".join(map(str, pids))]
    try:
        shown = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PS_TIMEOUT_S,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return {}  # memory is shown for information; without it nothing else stops
    pairs = [line.split() for line in shown.splitlines()]
    return {int(pid): int(kib) << 10 for pid, kib in pairs}
