"""Resident memory of processes, without an extra dependency."""

import os
import subprocess
from pathlib import Path


def rss_bytes(pid: int) -> int:
    """Resident memory of a process in bytes: from ``/proc`` on Linux, from ``ps`` elsewhere.

    Raises:
        ProcessLookupError: there is no such process.
    """
    statm = Path(f"/proc/{pid}/statm")
    if statm.parent.parent.joinpath("self").exists():
        try:
            return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except FileNotFoundError:
            raise ProcessLookupError(f"no process {pid}") from None
    shown = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    if not shown.strip():
        raise ProcessLookupError(f"no process {pid}")
    return int(shown) * 1024
