"""Files that are there completely or not at all, whatever happens meanwhile."""

import contextlib
import hashlib
import itertools
import os
import platform
import re
import weakref
from pathlib import Path

from dotsctl.protocol.errors import OutputError

NUMBERS = itertools.count()
HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
"""Process ids mean something on one machine alone, and folders may be shared."""
PART = re.compile(r"\.dotsctl-([0-9a-f]{8})-([0-9]+)-[0-9]+\.part")
_LOOKED_AT: set[Path] = set()
"""Folders in which this process has removed what dead ones left."""


class PartFile:
    """A file that is written piece by piece beside its place, and gets its name when all of it is on the disk.

    Without :meth:`commit` nothing is left of it, also when the object is forgotten or the program ends in an error.
    """

    def __init__(self, path: Path) -> None:
        """Nothing is touched before the first piece is written."""
        self.path = path
        self._part = path.parent / f".dotsctl-{HOST}-{os.getpid()}-{next(NUMBERS)}.part"
        self._is_made = False
        self._forget = weakref.finalize(self, _remove, self._part)

    def write(self, content: bytes) -> None:
        """Add a piece. Raises OutputError."""
        try:
            self._make()
            with self._part.open("r+b") as file:
                file.seek(0, os.SEEK_END)
                file.write(content)
        except OSError as error:
            raise output_error(self.path, error) from None

    def _make(self) -> None:
        """Make the file once: one that somebody has removed since is an error, and no shorter file."""
        if self._is_made:
            return
        make_folder(self._part.parent)
        remove_orphans(self._part.parent)
        self._part.touch(exist_ok=False)
        self._is_made = True

    def commit(self) -> None:
        """Give the file its name, in place of an older one. Raises OutputError."""
        try:
            self._make()  # an empty file where nothing was written
            with self._part.open("r+b") as file:
                os.fsync(file.fileno())
            self._part.replace(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise output_error(self.path, error) from None
        finally:
            self.discard()

    def discard(self) -> None:
        """Take away what was written; nothing more is written then."""
        self._forget()


class PartFiles:
    """Files that belong together: all get their names at once, or none does."""

    def __init__(self) -> None:
        self._files: list[PartFile] = []

    def add(self, path: Path, content: bytes) -> None:
        """Write a file, without its name yet. Raises OutputError."""
        file = PartFile(path)
        self._files.append(file)
        file.write(content)

    def commit(self) -> None:
        """Give the files their names. Raises OutputError."""
        for file in self._files:
            file.commit()
        self._files.clear()

    def discard(self) -> None:
        """Take the files away that have no names yet."""
        for file in self._files:
            file.discard()
        self._files.clear()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file at once. Raises OutputError."""
    file = PartFile(path)
    try:
        file.write(content)
        file.commit()
    finally:
        file.discard()


def _remove(part: Path) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # nothing was written, or it has its name
        part.unlink()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they survive a loss of power. Raises OSError."""
    missing = list(itertools.takewhile(lambda each: not each.is_dir(), (folder, *folder.parents)))
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync_folder(each.parent)


def remove_orphans(folder: Path) -> None:
    """Remove what processes of this machine left that were killed while they wrote; once for each folder."""
    if folder in _LOOKED_AT:
        return
    _LOOKED_AT.add(folder)
    for path in list(folder.glob(".dotsctl-*.part")):
        match = PART.fullmatch(path.name)
        if match and match[1] == HOST and not _is_running(int(match[2])):
            path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # it is somebody else's
    return True


def sync_folder(folder: Path) -> None:
    """Make a rename survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def output_error(path: Path | str, error: OSError) -> OutputError:
    """The error for the user when ``path`` cannot be written."""
    reason = error.strerror or str(error)
    return OutputError(f"cannot write {path}: {reason}. Results written so far are kept; choose another place with -o")
