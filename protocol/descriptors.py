"""File descriptors of this process: their limit, how many are free, and the error where none is."""

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dotsctl.protocol.errors import CommandFailedError

TARGET = 10_240
"""The soft limit at most; macOS begins with 256, and no system lets a process have more than its hard limit."""


def raise_limit() -> None:
    """Raise the soft limit of this process to 10,240 descriptors, or to its hard limit where that is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = TARGET if hard == resource.RLIM_INFINITY else min(hard, TARGET)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))


def limit() -> int:
    """Return the most descriptors that this process may have."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return TARGET if soft == resource.RLIM_INFINITY else soft


def num_free() -> int:
    """Return the number of descriptors that this process may still open."""
    try:
        return limit() - (sum(1 for _ in Path("/dev/fd").iterdir()) - 1)  # one is of the list itself
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        return 0


@contextmanager
def naming_shortage() -> Iterator[None]:
    """Turn the error of a system call that found no free descriptor into one for the user.

    Raises:
        CommandFailedError: this process, or the system, has no free descriptor.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        raise shortage() from error


def shortage() -> CommandFailedError:
    """Return the error of a process without a free descriptor."""
    return CommandFailedError(
        f"this process has no free file descriptor (its limit is {limit()})",
        "close files or clients in it, or raise the limit with 'ulimit -n'",
    )
