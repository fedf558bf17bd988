"""Resident memory of processes, without an extra dependency."""

from dotsctl.client.runtime.process_memory import MemoryWatch


def rss_bytes(pid: int) -> int:
    """Resident memory of a process in bytes: from ``/proc`` on Linux, from ``ps`` elsewhere.

    Raises:
        ProcessLookupError: there is no such process.
    """
    use = MemoryWatch().use_of([pid]).get(pid)
    if use is None:
        raise ProcessLookupError(f"no process {pid}")
    return use.rss_bytes
