"""What a folder of results holds already: its journal.

The journal has one JSON line for each output that was written or could not be made. It decides what a later run may
skip, what it may try again, and which input owns which name, so that ``a.png`` and ``a.jpg`` never overwrite each
other, not even in different runs. The last line of a given output holds; a line that was cut by a crash is ignored.
"""

import unicodedata
from dataclasses import asdict, dataclass
from pathlib import Path

from dotsctl.client.line_file import append_line, read_lines
from dotsctl.client.part_file import make_folder, output_error, remove_orphans, sync_folder

JOURNAL_NAME = ".dotsctl-journal.jsonl"


@dataclass(frozen=True, slots=True)
class Entry:
    """One output."""

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
    failed: bool = False
    """Whether a page could not be read, for another reason than the end of the run."""


def same_file(output: str) -> str:
    """A form in which names are equal when a file system that ignores case, as that of a Mac, takes them for one."""
    return unicodedata.normalize("NFC", output).casefold()


class Journal:
    """The journal of one folder; read at once, written line by line."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOURNAL_NAME
        self._entries: dict[str, Entry] = {}
        for entry in read_lines(self._path, Entry):
            self._entries[same_file(entry.output)] = entry

    def entry(self, output: str) -> Entry | None:
        """What is known of an output."""
        return self._entries.get(same_file(output))

    def append(self, entry: Entry) -> None:
        """Note an output, on the disk before this returns. Raises OutputError."""
        append_line(self._path, asdict(entry))
        self._entries[same_file(entry.output)] = entry

    def probe(self) -> None:
        """Make the folder and see that it can be written, before any work is done. Raises OutputError."""
        folder = self._path.parent
        try:
            make_folder(folder)
            self._path.open("ab").close()
            sync_folder(folder)
            remove_orphans(folder)
        except OSError as error:
            raise output_error(folder, error) from None
