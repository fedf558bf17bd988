"""Files that are complete or absent, and JSON of a dataclass that is read back with its types checked.

Every file that dotsctl writes goes through this module; ``client/files`` adds errors for users, streams and folders.
It stands with the models because that is the lowest sub-package of the protocol: ``machine`` imports ``model``, and
the root of the protocol, which describes the wire alone, imports neither. The workers may use it, too.
"""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import io
import itertools
import json
import os
import platform
import re
import stat
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from dotsctl.protocol.typed_values import WrongValueError, from_json

T = TypeVar("T")
F_FULLFSYNC: int = getattr(fcntl, "F_FULLFSYNC", 51)
"""Flushes the cache of the drive as well; ``fsync`` of macOS leaves data there, which a power cut loses."""
UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS}
"""Answers of a volume that knows no such flush, as network and FAT volumes do not."""
SECRET_MODE, NEW_MODE = 0o600, 0o666
"""The mode of a part file that replaces a file, until it gets that file's mode, and of any other, less the umask."""
NUMBERS = itertools.count()
HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
"""Process ids mean something on one machine alone, and folders may be shared."""
PART = re.compile(r"\.dotsctl-([0-9a-f]{8})-([0-9]+)-[0-9]+\.part")
_CLEANED: set[Path] = set()
"""Folders from which this process has removed what ended processes left."""


def flush(descriptor: int) -> None:
    """Flush a file, or the names in a folder, to the drive as far as the volume can. Raises OSError."""
    if sys.platform != "darwin" or not _did(partial(fcntl.fcntl, descriptor, F_FULLFSYNC)):
        _did(partial(os.fsync, descriptor))


def _did(call: Callable[[], object]) -> bool:
    """Return whether the volume supports a flush. Raises OSError when it does and the flush fails."""
    try:
        call()
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return False
    return True


def flush_path(path: Path) -> None:
    """Flush a file, or a folder so that a rename in it survives a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(folder: Path) -> None:
    """Flush all files and folders below a folder, and the drive once at the end. Raises OSError."""
    for path in folder.rglob("*"):
        if not path.is_symlink():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                _did(partial(os.fsync, descriptor))
            finally:
                os.close(descriptor)
    flush_path(folder)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they survive a power cut. Raises OSError."""
    missing = list(itertools.takewhile(lambda each: not each.is_dir(), (folder, *folder.parents)))
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        flush_path(each.parent)


def resolved(path: Path) -> Path:
    """The file that a path stands for: the path itself, or the end of a symbolic link, which need not exist.

    Raises:
        OSError: links lead in a circle.
    """
    if not path.is_symlink():
        return path
    place = Path(os.path.realpath(path))
    if place.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return place


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file for reading, but nothing that is endless or may block: FIFOs, devices, sockets.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    return open(path, "rb", opener=_open_regular)


def _open_regular(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise OSError(errno.EINVAL, "Not a regular file", path)


def read_file(path: Path) -> bytes:
    """Read all of a regular file. Raises OSError."""
    with open_regular(path) as stream:
        return stream.read()


class AtomicFile:
    """A file that is written under another name in its folder, and renamed when all of it is on the disk.

    A link is followed, so its target is replaced and not the link. A file that is replaced keeps its mode, and its
    owner as far as the system allows. Without :meth:`commit` nothing is left, also when the object is forgotten or the
    program ends in an error.
    """

    def __init__(self, path: Path, *, is_flushed: bool = True) -> None:
        """Touch nothing before the first piece is written.

        Args:
            path: the later place.
            is_flushed: whether the file survives a power cut; a cache that is read with its types checked need not.
        """
        self._path, self._is_flushed = path, is_flushed
        self._place = self._part = path
        self._is_sealed = False
        self._forget: Callable[[], object] = lambda: None

    def write(self, content: bytes) -> None:
        """Add a piece. Raises OSError."""
        with self.part().open("r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(content)

    def part(self) -> Path:
        """The file that grows, made once: if it was removed since, the next piece is an error.

        Raises:
            OSError: it cannot be made, or the path is something that is no regular file.
        """
        if self._part is self._path:
            self._place = resolved(self._path)
            is_replaced = _regular(self._place) is not None
            if self._is_flushed:
                make_folder(self._place.parent)
            self._place.parent.mkdir(parents=True, exist_ok=True)
            remove_orphans(self._place.parent)
            part = self._place.parent / f".dotsctl-{HOST}-{os.getpid()}-{next(NUMBERS)}.part"
            mode = SECRET_MODE if is_replaced else NEW_MODE
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode))
            self._part, self._forget = part, weakref.finalize(self, _remove, part)
        return self._part

    def seal(self) -> os.stat_result:
        """Flush the file to the disk, without its name yet; return its status, as it will be. Raises OSError."""
        with self.part().open("r+b") as file:  # an empty file where nothing was written
            if (old := _regular(self._place)) is not None:
                _copy_owner(old, file.fileno())
            if self._is_flushed:
                flush(file.fileno())
            self._is_sealed = True
            return os.fstat(file.fileno())

    def commit(self) -> None:
        """Give the file its name, in place of an older one. Raises OSError."""
        try:
            if not self._is_sealed:
                self.seal()
            self.part().replace(self._place)
            if self._is_flushed:
                flush_path(self._place.parent)
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what was written; nothing more is written then."""
        self._forget()


def _regular(place: Path) -> os.stat_result | None:
    """The status of a file that may be replaced; none where there is nothing. Raises OSError for everything else."""
    try:
        found = place.lstat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(place))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", str(place))
    return found


def _copy_owner(old: os.stat_result, descriptor: int) -> None:
    """Give a new file owner and mode of the one that it replaces; it is never open to more people than that one."""
    mode = old.st_mode & 0o777
    with contextlib.suppress(OSError):
        os.fchown(descriptor, -1, old.st_gid)
        os.fchown(descriptor, old.st_uid, -1)
    if os.fstat(descriptor).st_gid != old.st_gid:  # its group may not get what was meant for another one
        mode = mode & ~0o070 | (mode & 0o007) << 3
    with contextlib.suppress(PermissionError):  # a volume without modes, as FAT
        os.fchmod(descriptor, mode)


def _remove(part: Path) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # it has its name
        part.unlink()


def remove_orphans(folder: Path) -> None:
    """Remove the part files of processes of this machine that were killed; once for each folder. Raises OSError."""
    if folder in _CLEANED:
        return
    _CLEANED.add(folder)
    for path in list(folder.glob(".dotsctl-*.part")):
        match = PART.fullmatch(path.name)
        if match and match[1] == HOST and not is_running(int(match[2])):
            path.unlink(missing_ok=True)


def is_running(pid: int) -> bool:
    """Return whether a process of this machine exists, whoever owns it."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # it is another user's
    return True


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file for a library that writes to a path: it replaces ``path`` when the block ends without error.

    Raises:
        OSError: it cannot be written.
    """
    file = AtomicFile(path)
    try:
        yield file.part()
        file.commit()
    finally:
        file.discard()


def write_file(path: Path, content: bytes, *, is_flushed: bool = True) -> None:
    """Write a file at once, see :class:`AtomicFile`. Raises OSError."""
    file = AtomicFile(path, is_flushed=is_flushed)
    try:
        file.write(content)
        file.commit()
    finally:
        file.discard()


def json_bytes(value: Any, indent: int = 1) -> bytes:
    """A dataclass, or plain values, as the bytes of a JSON file."""
    content = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
    return (json.dumps(content, indent=indent) + "\n").encode()


def write_cache(path: Path, value: Any) -> None:
    """Write JSON for :func:`read_cache`; a cache that cannot be written costs only the work that it saves."""
    with contextlib.suppress(OSError):  # as on a full disk, or where its folder may not be a folder
        write_file(path, json_bytes(value), is_flushed=False)


def read_cache(kind: type[T], path: Path) -> T | None:
    """Return what :func:`write_cache` wrote; none: there is no such file, or it is damaged or of another version."""
    try:
        return from_json(kind, read_file(path))
    except (OSError, WrongValueError):
        return None
