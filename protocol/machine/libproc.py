"""State and memory of other processes on macOS, read from libproc (part of libSystem) without starting a program."""

import ctypes
from typing import Any

LIBRARY: str | None = None
"""Path of the library with ``proc_pidinfo``; None for the libraries that this process has loaded (libSystem)."""
PROC_PIDTBSDINFO = 3  # xnu bsd/sys/proc_info.h
PROC_FLAG_TRACED = 2  # likewise
SSTOP = 4  # xnu bsd/sys/proc.h
RUSAGE_INFO_V4 = 4  # xnu bsd/sys/resource.h
_UINT32 = ctypes.c_uint32
_UINT64 = ctypes.c_uint64


class ProcBsdInfo(ctypes.Structure):
    """``struct proc_bsdinfo`` of xnu bsd/sys/proc_info.h, 136 bytes."""

    _fields_ = [
        ("pbi_flags", _UINT32),
        ("pbi_status", _UINT32),
        ("ids", _UINT32 * 10),  # pbi_xstatus to rfu_1
        ("pbi_comm", ctypes.c_char * 16),
        ("pbi_name", ctypes.c_char * 32),
        ("terminal", _UINT32 * 6),  # pbi_nfiles to pbi_nice
        ("pbi_start_tvsec", _UINT64),
        ("pbi_start_tvusec", _UINT64),
    ]


class RusageInfoV4(ctypes.Structure):
    """``struct rusage_info_v4`` of xnu bsd/sys/resource.h, 296 bytes."""

    _fields_ = [
        ("ri_uuid", ctypes.c_uint8 * 16),
        ("times", _UINT64 * 7),  # ri_user_time to ri_resident_size
        ("ri_phys_footprint", _UINT64),
        ("counters", _UINT64 * 20),  # ri_proc_start_abstime to ri_logical_writes
        ("ri_lifetime_max_phys_footprint", _UINT64),
        ("rest", _UINT64 * 6),  # ri_instructions to ri_runnable_time
    ]


def is_stopped(pid: int) -> bool:
    """Return whether a process is stopped by a signal, and not by a debugger; false for one that is gone."""
    found = ProcBsdInfo()
    size_bytes = ctypes.sizeof(found)
    proc_pidinfo = _function("proc_pidinfo", ctypes.c_int, ctypes.c_int, _UINT64, ctypes.c_void_p, ctypes.c_int)
    if proc_pidinfo(pid, PROC_PIDTBSDINFO, 0, ctypes.byref(found), size_bytes) != size_bytes:
        return False
    return found.pbi_status == SSTOP and not found.pbi_flags & PROC_FLAG_TRACED


def footprint(pid: int) -> tuple[int, int] | None:
    """Return the memory of a process now and at its peak, in bytes; None for one that is gone.

    The physical footprint is what Activity Monitor shows as memory. It includes compressed pages and buffers of the
    GPU that the process owns, which resident memory does not.
    """
    found = RusageInfoV4()
    proc_pid_rusage = _function("proc_pid_rusage", ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
    if proc_pid_rusage(pid, RUSAGE_INFO_V4, ctypes.byref(found)):
        return None
    return found.ri_phys_footprint, found.ri_lifetime_max_phys_footprint


def _function(name: str, *arguments: type[Any]) -> Any:
    """Return a function of libproc that takes these arguments and returns an int."""
    function = getattr(ctypes.CDLL(LIBRARY), name)
    function.argtypes = arguments
    return function
