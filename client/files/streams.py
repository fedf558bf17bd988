"""Outputs that are no files to be replaced: FIFOs, devices, and descriptors that are open already.

``-o /dev/null`` once replaced the device by a file. A descriptor, as ``/dev/stdout``, is written through even where a
shell has opened a file for it: others may be writing to that file, too.
"""

import errno
import os
import re
import stat
import weakref
from collections.abc import Callable
from pathlib import Path

MAX_LINKS = 40
"""Links in a row that are followed, as the kernel does."""


def is_stream(path: Path) -> bool:
    """Return whether the path is neither a file nor a folder, or an open descriptor."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return descriptor_of(path) is not None
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or descriptor_of(path) is not None


def descriptor_of(path: Path) -> int | None:
    """The descriptor of this process that a path names, as ``/dev/stdout`` and ``/dev/fd/63`` do; none: it does not."""
    own = re.compile(rf"/dev/fd|/proc/{os.getpid()}(/task/[0-9]+)?/fd")
    try:
        here = path if path.is_absolute() else Path.cwd() / path
    except OSError:  # the current folder was removed
        return None
    for _ in range(MAX_LINKS):
        folder = os.path.realpath(here.parent)
        if re.fullmatch("[0-9]{1,9}", here.name) and own.fullmatch(folder):
            return int(here.name)
        try:
            here = Path(folder, here.readlink())
        except (OSError, ValueError):  # no link
            return None
    return None


class OpenStream:
    """A stream that is opened with the first piece; opening a FIFO waits until a process reads from it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._close: Callable[[], object] = lambda: None

    def write(self, content: bytes) -> None:
        """Write a piece through. Raises OSError."""
        if self._descriptor < 0:
            self._descriptor = _opened(self._path)
            self._close = weakref.finalize(self, os.close, self._descriptor)
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def commit(self) -> None:
        """Close the stream; one that nothing was written to is opened, as its reader waits for that. Raises OSError."""
        self.write(b"")
        self.discard()

    def discard(self) -> None:
        """Close the stream."""
        self._close()
        self._descriptor = -1


def _opened(path: Path) -> int:
    if (number := descriptor_of(path)) is not None:
        return os.dup(number)  # opened again, a file would be written from its start
    mode = path.stat().st_mode
    if stat.S_ISSOCK(mode):
        raise OSError(errno.EINVAL, "it is a socket", str(path))
    if stat.S_ISBLK(mode):
        raise OSError(errno.EINVAL, "it is a disk, and what is on it would be destroyed", str(path))
    return os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
