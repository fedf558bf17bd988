"""Files of JSON lines that survive a crash: a line is on the disk once it was appended, a cut one is ignored."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from dotsctl.client.part_file import make_folder, output_error, sync_folder
from dotsctl.protocol.typed_values import WrongValueError, from_json

T = TypeVar("T")


def read_lines(path: Path, kind: type[T]) -> Iterator[T]:
    """The lines of a file that are values of a dataclass; none when there is no file. Raises OutputError.

    A line that was cut by a crash, or is of a later version, is as if it were not there.
    """
    try:
        with path.open("rb") as lines:
            for line in lines:
                try:
                    yield from_json(kind, line)
                except WrongValueError:
                    continue  # what it told is not known, and will be done again
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise output_error(path, error) from None


def append_line(path: Path, content: dict[str, Any]) -> None:
    """Add a line; it is on the disk before this returns. Raises OutputError."""
    line = json.dumps(content).encode() + b"\n"
    try:
        is_new = not path.exists()
        if is_new:
            make_folder(path.parent)
        with path.open("a+b") as file:
            if file.tell() and not _ends_with_newline(file.fileno(), file.tell()):
                line = b"\n" + line  # the line before was cut by a crash
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_folder(path.parent)
    except OSError as error:
        raise output_error(path, error) from None


def _ends_with_newline(descriptor: int, size_bytes: int) -> bool:
    return os.pread(descriptor, 1, size_bytes - 1) == b"\n"
