"""Files that are there completely or not at all, whatever happens meanwhile."""

import contextlib
import itertools
import os
import weakref
from pathlib import Path

from dotsctl.protocol.errors import OutputError

NUMBERS = itertools.count()


class PartFile:
    """A file that is written piece by piece beside its place, and gets its name when all of it is on the disk.

    Without :meth:`commit` nothing is left of it, also when the object is forgotten or the program ends in an error.
    """

    def __init__(self, path: Path) -> None:
        """Nothing is touched before the first piece is written."""
        self.path = path
        self._part = path.parent / f".dotsctl-{os.getpid()}-{next(NUMBERS)}.part"
        self._forget = weakref.finalize(self, _remove, self._part)

    def write(self, content: bytes) -> None:
        """Add a piece. Raises OutputError."""
        try:
            self._part.parent.mkdir(parents=True, exist_ok=True)
            with self._part.open("ab") as file:
                file.write(content)
        except OSError as error:
            raise output_error(self.path, error) from None

    def commit(self) -> None:
        """Give the file its name, in place of an older one. Raises OutputError."""
        try:
            with self._part.open("ab") as file:  # also makes an empty file where nothing was written
                os.fsync(file.fileno())
            self._part.replace(self.path)
            _sync_folder(self.path.parent)
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


def _sync_folder(folder: Path) -> None:
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
