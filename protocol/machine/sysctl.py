"""Values of the macOS kernel by name, read in this process with ``sysctlbyname`` of the system library."""

import ctypes

LIBRARY: str | None = None
"""Path of the library with ``sysctlbyname``; None for the libraries that this process has loaded (libSystem)."""
MAX_TEXT_BYTES = 256


def sysctl_text(name: str) -> str | None:
    """Return a text such as ``machdep.cpu.brand_string`` or ``kern.osversion``; None where it does not exist."""
    value = _read(name, MAX_TEXT_BYTES)
    return None if value is None else value.partition(b"\0")[0].decode(errors="replace")


def sysctl_number(name: str) -> int | None:
    """Return an integer of 4 or 8 bytes such as ``hw.memsize``; None where it does not exist."""
    value = _read(name, 8)
    return int.from_bytes(value, "little") if value is not None and len(value) in (4, 8) else None


def _read(name: str, max_bytes: int) -> bytes | None:
    """Return the bytes of a value; None when the kernel does not know it, it is larger, or this is not macOS."""
    try:
        sysctlbyname = ctypes.CDLL(LIBRARY).sysctlbyname
    except (OSError, AttributeError):
        return None
    # int sysctlbyname(const char *, void *oldp, size_t *oldlenp, void *newp, size_t newlen), xnu bsd/sys/sysctl.h
    sysctlbyname.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    buffer, size_bytes = ctypes.create_string_buffer(max_bytes), ctypes.c_size_t(max_bytes)
    if sysctlbyname(name.encode(), buffer, ctypes.byref(size_bytes), None, 0):
        return None
    return buffer.raw[: size_bytes.value]
