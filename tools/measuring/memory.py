"""Memory of processes, without an extra dependency."""

from dotsctl.client.runtime.process_memory import memory_of


def rss_bytes(pid: int) -> int:
    """Return the memory of a process in bytes: resident under Linux, the physical footprint on macOS.

    Raises:
        ProcessLookupError: there is no such process.
    """
    use = memory_of(pid)
    if use is None:
        raise ProcessLookupError(f"no process {pid}")
    return use.rss_bytes
