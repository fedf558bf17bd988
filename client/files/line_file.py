"""Files of JSON lines that survive a crash: a line is on the disk once it was appended, a cut one is ignored."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from dotsctl.client.files.part_file import output_error
from dotsctl.protocol.model.files import flush, flush_path, make_folder, open_regular
from dotsctl.protocol.typed_values import WrongValueError, from_json

T = TypeVar("T")


def read_lines(path: Path, kind: type[T]) -> Iterator[T]:
    """Return the lines of a file that are values of a dataclass; none when there is no file. Raises OutputError.

    A line that was cut by a crash, or is of a later version, is ignored.
    """
    try:
        with open_regular(path) as lines:
            for line in lines:
                try:
                    yield from_json(kind, line)
                except WrongValueError:
                    continue  # its content is unknown, and will be done again
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise output_error(path, error) from None


def append_lines(path: Path, contents: Sequence[Any]) -> None:
    """Add lines of dataclasses; they are on the disk before this returns. Raises OutputError."""
    lines = b"".join(json.dumps(_fields(content), default=_fields).encode() + b"\n" for content in contents)
    if not lines:
        return
    try:
        is_new = not path.exists()
        if is_new:
            make_folder(path.parent)
        with path.open("a+b") as file:
            if file.tell() and not _ends_with_newline(file.fileno(), file.tell()):
                lines = b"\n" + lines  # the line before was cut by a crash
            file.write(lines)
            file.flush()
            flush(file.fileno())
        if is_new:
            flush_path(path.parent)
    except OSError as error:
        raise output_error(path, error) from None


def _fields(content: Any) -> dict[str, Any]:
    """The fields of a dataclass; ``dataclasses.asdict``, which copies all values, takes six times as long."""
    return {name: getattr(content, name) for name in content.__dataclass_fields__}


def _ends_with_newline(descriptor: int, size_bytes: int) -> bool:
    return os.pread(descriptor, 1, size_bytes - 1) == b"\n"
