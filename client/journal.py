"""What a folder of results holds already: its journal.

The journal has one JSON line for each output that was written. It decides what a later run may skip, and which
input owns which name, so that ``a.png`` and ``a.jpg`` never overwrite each other, not even in different runs. The last
line of a given output holds; a line that was cut by a crash is ignored.
"""

import contextlib
import json
import os
import unicodedata
from dataclasses import asdict, dataclass
from pathlib import Path

from dotsctl.client.part_file import output_error

JOURNAL_NAME = ".dotsctl-journal.jsonl"


@dataclass(frozen=True, slots=True)
class Entry:
    """One output that was written."""

    output: str
    """Path below the folder, with ``/``."""
    source: str
    """Absolute path of the input."""
    digest: str
    """sha256 of the input, hexadecimal."""
    key: str
    """Digest of everything that the result depends on."""
    finished: bool
    """Whether all pages were read; only then a later run skips it."""


def same_file(output: str) -> str:
    """A form in which names are equal when a file system that ignores case, as that of a Mac, takes them for one."""
    return unicodedata.normalize("NFC", output).casefold()


class Journal:
    """The journal of one folder; read at once, written line by line."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOURNAL_NAME
        self._entries: dict[str, Entry] = {}
        for line in self._lines():
            with contextlib.suppress(ValueError, TypeError):  # cut by a crash, or of a later version: not done then
                entry = Entry(**json.loads(line))
                self._entries[same_file(entry.output)] = entry

    def _lines(self) -> list[bytes]:
        try:
            return self._path.read_bytes().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise output_error(self._path, error) from None

    def entry(self, output: str) -> Entry | None:
        """What is known of an output."""
        return self._entries.get(same_file(output))

    def append(self, entry: Entry) -> None:
        """Note an output, on the disk before this returns. Raises OutputError."""
        line = json.dumps(asdict(entry)).encode() + b"\n"
        try:
            with self._path.open("a+b") as file:
                if file.tell() and not _ends_with_newline(file.fileno(), file.tell()):
                    line = b"\n" + line  # the line before was cut by a crash
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise output_error(self._path, error) from None
        self._entries[same_file(entry.output)] = entry

    def probe(self) -> None:
        """Make the folder and see that it can be written, before any work is done. Raises OutputError."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.open("ab").close()
        except OSError as error:
            raise output_error(self._path.parent, error) from None


def _ends_with_newline(descriptor: int, size_bytes: int) -> bool:
    return os.pread(descriptor, 1, size_bytes - 1) == b"\n"
