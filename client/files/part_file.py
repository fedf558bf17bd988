"""Outputs that exist completely or not at all, or are written through to a stream, with errors for users."""

import errno
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dotsctl.client.files.streams import OpenStream, is_stream
from dotsctl.client.files.written import WrittenFile
from dotsctl.protocol.errors import OutputError, ResultError, UsageError
from dotsctl.protocol.model.file_names import shown
from dotsctl.protocol.model.files import AtomicFile, json_bytes

NOT_OURS = "exists, and it was edited or not written by dotsctl"
REMEDY = "choose another path, or replace it with --overwrite (in Python: overwrite=True)"
FULL = {errno.ENOSPC, errno.EDQUOT}


class PartFile:
    """A file that is written piece by piece under a hidden name, and gets its name when all of it is on the disk.

    A FIFO, a device, or an open descriptor as ``/dev/stdout`` cannot be replaced: there each piece is written at once.
    """

    def __init__(self, path: Path) -> None:
        """Nothing is touched before the first piece is written."""
        self.path = path
        self._digest = hashlib.sha256()
        self._sink: AtomicFile | OpenStream = OpenStream(path) if is_stream(path) else AtomicFile(path)

    def write(self, content: bytes) -> None:
        """Add a piece. Raises OutputError."""
        try:
            self._sink.write(content)
        except OSError as error:
            raise output_error(self.path, error) from None
        self._digest.update(content)

    def seal(self) -> WrittenFile | None:
        """Bring the file to the disk, without its name yet; none: it is a stream. Raises OutputError."""
        if isinstance(self._sink, OpenStream):
            return None
        try:
            status = self._sink.seal()
        except OSError as error:
            raise output_error(self.path, error) from None
        return WrittenFile(shown(self.path), status.st_size, status.st_mtime_ns, self._digest.hexdigest())

    def commit(self) -> None:
        """Give the file its name, in place of an older one. Raises OutputError."""
        try:
            self._sink.commit()
        except OSError as error:
            raise output_error(self.path, error) from None

    def discard(self) -> None:
        """Remove what was written; nothing more is written then."""
        self._sink.discard()


class PartFiles:
    """Files that belong together: all get their names at once, or none does."""

    def __init__(self) -> None:
        self._files: list[PartFile] = []

    def add(self, path: Path, content: bytes) -> None:
        """Write a file, without its name yet. Raises OutputError."""
        file = PartFile(path)
        self._files.append(file)
        file.write(content)

    def seal(self) -> list[WrittenFile]:
        """Bring the files to the disk, without their names yet. Raises OutputError."""
        return [written for file in self._files if (written := file.seal()) is not None]

    def commit(self) -> None:
        """Give the files their names. Raises OutputError."""
        for file in self._files:
            file.commit()
        self._files.clear()

    def discard(self) -> None:
        """Remove the files that have no names yet."""
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


def write_json(path: Path, value: Any, indent: int = 1) -> None:
    """Write a dataclass, or plain values, as JSON at once. Raises OutputError."""
    write_atomically(path, json_bytes(value, indent))


def require_replaceable(
    path: Path, inputs: Iterable[Path | None] = (), *, overwrite: bool, is_own: bool = False
) -> None:
    """Check that an output replaces nothing that must stay; a stream is written through.

    Args:
        path: the path of the output.
        inputs: files that are read, which are never replaced.
        overwrite: whether other files are to be replaced.
        is_own: whether dotsctl wrote the file at the path, and it was not changed since.

    Raises:
        UsageError: the path is an input, or a file that dotsctl did not write.
    """
    if not os.path.isfile(path) or is_stream(path):  # noqa: PTH113 - Path's raises for long names
        return
    if any(each is not None and each.exists() and path.samefile(each) for each in inputs):
        raise UsageError(f"{shown(path)} is an input and would be lost", "choose another path")
    if not (overwrite or is_own):
        raise UsageError(f"{shown(path)} {NOT_OURS}", REMEDY)


def require_writable(path: Path) -> None:
    """Check that an output can be written, before any work is done; its folder is made. Raises OutputError."""
    file = PartFile(path)
    try:
        file.write(b"")
    finally:
        file.discard()


def output_error(path: Path | str, error: OSError) -> OutputError:
    """The error for the user when ``path`` cannot be written; a ResultError where others may be."""
    reason = error.strerror or str(error)
    remedy = "free some space, or choose another path with -o" if error.errno in FULL else "choose another path with -o"
    kind = OutputError if error.errno in {*FULL, errno.EROFS} else ResultError
    return kind(f"cannot write {shown(path)}: {reason}. Results written so far are kept", remedy)
