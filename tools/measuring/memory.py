"""Memory and processor time of other processes."""

from dotsctl.client.runtime.process_memory import Use, memory_of
from dotsctl.protocol.errors import MissingError


def rss_bytes(pid: int) -> int:
    """Return the memory of a process in bytes: resident under Linux, the physical footprint on macOS.

    Raises:
        ProcessLookupError: there is no such process.
    """
    return _use(pid).rss_bytes


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process had so far, counted as in :func:`rss_bytes`.

    Raises:
        ProcessLookupError: there is no such process.
    """
    return _use(pid).peak_bytes


def processor_s(pid: int) -> float:
    """Return the processor time of a process so far, in seconds, in user and system mode together.

    Raises:
        MissingError: psutil is not installed.
        ProcessLookupError: there is no such process.
    """
    try:
        import psutil
    except ImportError as error:
        raise MissingError(f"processor time is read with psutil ({error})", "pip install 'dotsctl[bench]'") from None
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        raise ProcessLookupError(f"no process {pid}") from None
    return float(times.user + times.system)


def _use(pid: int) -> Use:
    use = memory_of(pid)
    if use is None:
        raise ProcessLookupError(f"no process {pid}")
    return use
