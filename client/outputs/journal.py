"""The journal of a folder of results: what the folder holds already.

The journal has one JSON line for each output that was written or could not be made, with the size and the digest of its
files. It decides what a later run may skip, what it may try again, what others have written or changed, and which
input owns which name, so that ``a.png`` and ``a.jpg`` never overwrite each other, not even in different runs.

The line is on the disk before the files have their names. So the files at these paths are the last line's, an earlier
line's (a run was killed between the two), or those of others.

One run at a time writes to the journal of the folder. Other runs of the same time have a file each in the folder of
``runs.py``, as appending from several machines tears lines on network volumes; it is folded into the journal when its
run has ended. Lines are numbered: each has a higher number than all that its run had read when it wrote it, so that the
last line of an output is found without clocks.
"""

import contextlib
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path, PurePosixPath

from dotsctl.client.files.line_file import append_lines
from dotsctl.client.files.part_file import output_error
from dotsctl.client.files.streams import is_stream
from dotsctl.client.files.written import WrittenFile
from dotsctl.client.outputs.runs import MOST_TRIES, NOTES, RUNS_NAME, Runs, listed
from dotsctl.protocol.errors import OutputError
from dotsctl.protocol.model.file_names import path_shown, shown
from dotsctl.protocol.model.files import flush_path, make_folder, open_regular, remove_orphans
from dotsctl.protocol.typed_values import WrongValueError, from_json

JOURNAL_NAME = ".dotsctl-journal.jsonl"


class Found(StrEnum):
    """The kinds of files found at the paths of an output."""

    LAST = "last"
    """All files of the last line."""
    EARLIER = "earlier"
    """Nothing, or the files of an earlier line."""
    OTHER = "other"
    """Something that dotsctl did not write, or that was changed since."""


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
    files: tuple[WrittenFile, ...] | None = None
    """The files that were written, by paths below the folder; none: unknown, as in the lines of earlier versions."""
    pages: int = 0
    """Pages that were read."""
    number: int = 0
    """Higher than those of all lines before it."""


def same_file(output: str) -> str:
    """A form in which names are equal when a file system that ignores case, as that of a Mac, takes them for one."""
    return unicodedata.normalize("NFC", output).casefold()


class Journal:
    """The journal of one folder: read at once, written line by line. Paths are text, see :func:`shown`."""

    def __init__(self, folder: Path) -> None:
        """Read what there is. Raises OutputError."""
        self.runs = Runs(folder)
        self.folder = folder
        """The folder of the results."""
        self._path = folder / JOURNAL_NAME
        self._own = folder / RUNS_NAME / f"{self.runs.name}.jsonl"
        self._entries: dict[str, Entry] = {}
        self._written: dict[str, list[WrittenFile]] = {}
        """All that was ever written to a path."""
        self._unknown: set[str] = set()
        """Outputs, and the folders of their pictures, whose files are unknown."""
        self._read_bytes: dict[Path, int] = {}
        self._last = 0
        self.refresh()
        self.number_at_start = self._last
        """Lines with a higher number were written since."""

    def refresh(self) -> None:
        """Read what other runs have noted since. Raises OutputError."""
        for _ in range(MOST_TRIES):
            found = set(listed(self.folder / RUNS_NAME, NOTES)) - {self._own}
            for path in [*found, self._path]:  # what is folded meanwhile stands in the last one
                for entry in self._new_entries(path):
                    self._take(entry)
            if found <= set(listed(self.folder / RUNS_NAME, NOTES)):  # none was renamed before it was read
                break

    def _new_entries(self, path: Path) -> Iterable[Entry]:
        """Yield the complete lines after those that were read; one that is cut, or of a later version, is ignored."""
        found = self._read_bytes.get(path, 0)
        try:
            with open_regular(path) as stream:
                stream.seek(found)
                for line in stream:
                    if not line.endswith(b"\n"):
                        break
                    found += len(line)
                    with contextlib.suppress(WrongValueError):  # its content is unknown, and will be done again
                        yield from_json(Entry, line)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise output_error(path, error) from None
        self._read_bytes[path] = found

    def _take(self, entry: Entry) -> None:
        self._last = max(self._last, entry.number)
        for file in entry.files or ():
            self._written.setdefault(same_file(file.path), []).append(file)
        places = {same_file(entry.output), same_file(PurePosixPath(entry.output).with_suffix("").as_posix())}
        self._unknown = self._unknown | places if entry.files is None else self._unknown - places
        known = self._entries.get(same_file(entry.output))
        if known is None or entry.number >= known.number:
            self._entries[same_file(entry.output)] = entry

    def entry(self, output: str) -> Entry | None:
        """Return the last line of an output."""
        return self._entries.get(same_file(output))

    def found(self, output: str) -> Found:
        """Return what is found at the paths of an output."""
        entry = self.entry(output)
        if entry is not None and entry.files is None:
            return Found.LAST if (self.folder / path_shown(output)).is_file() else Found.EARLIER
        files = () if entry is None or entry.files is None else entry.files
        if files and all(file.is_still(self.folder / path_shown(file.path)) for file in files):
            return Found.LAST
        return Found.OTHER if self.others([output, *(file.path for file in files)]) else Found.EARLIER

    def others(self, paths: Iterable[str]) -> list[str]:
        """Those of the paths below the folder at which something lies that dotsctl did not write like this."""
        return [path for path in paths if not self._is_own(path)]

    def to_keep(self, paths: Iterable[str], *, overwrite: bool) -> list[str]:
        """Return the paths below the folder whose files must stay; with ``overwrite`` only FIFOs and devices do."""
        return [path for path in self.others(paths) if not overwrite or is_stream(self.folder / path_shown(path))]

    def _is_own(self, path: str) -> bool:
        place = self.folder / path_shown(path)
        if os.path.isdir(place) or not os.path.exists(place):  # noqa: PTH112, PTH110 - Path's raise for long names
            return True  # a folder is never replaced
        if any(same_file(str(each)) in self._unknown for each in (path, *PurePosixPath(path).parents)):
            return True
        return any(written.is_still(place) for written in reversed(self._written.get(same_file(path), [])))

    def append(self, entry: Entry) -> None:
        """Note an output, on the disk before this returns. Raises OutputError."""
        entry = replace(entry, number=self._last + 1)
        if self.runs.holds(JOURNAL_NAME):
            append_lines(self._path, [entry])
        else:
            if not self._own.exists():
                _make_flushed(self._own.parent)
            append_lines(self._own, [entry])
        self._take(entry)

    def probe(self) -> None:
        """Make the folder and see that it can be written, before any work is done. Raises OutputError."""
        try:
            make_folder(self.folder)
            is_new = not self._path.exists()
            self._path.open("ab").close()
            if is_new:
                flush_path(self.folder)
            remove_orphans(self.folder)
        except OSError as error:
            raise output_error(self.folder, error) from None
        self.start()

    def start(self) -> None:
        """Take part in the runs of this folder. Raises OutputError."""
        self.runs.start()
        self.runs.claim(JOURNAL_NAME)

    def close(self) -> None:
        """Fold what this run and those that have ended noted in files of their own; nothing is written after this."""
        with contextlib.suppress(OutputError, OSError):  # what could not be folded is read where it is
            if self._own.exists():
                self._own.rename(self._own.with_suffix(".closed.jsonl"))
            # A run whose claim fails leaves its file to the one that holds it; that one looks again after each release.
            self.runs.release(JOURNAL_NAME)
            while (closed := self._closed()) and self.runs.claim(JOURNAL_NAME):
                for path in closed:
                    self._fold(path)
                self.runs.release(JOURNAL_NAME)
        self.runs.stop()

    def _closed(self) -> list[Path]:
        """The files of runs that note nothing more."""
        if not self.runs.is_started:
            return []
        alive = self.runs.clear()
        return [path for path in listed(self.folder / RUNS_NAME, NOTES) if path.stem not in alive]

    def _fold(self, path: Path) -> None:
        """Move the lines of a file into the journal; after a crash they may be in both."""
        self._read_bytes.pop(path, None)
        append_lines(self._path, list(self._new_entries(path)))
        path.unlink(missing_ok=True)


def _make_flushed(folder: Path) -> None:
    """Make a folder below one that exists; it survives a power cut. Raises OutputError."""
    try:
        folder.mkdir(exist_ok=True)
        flush_path(folder.parent)
    except OSError as error:
        raise output_error(folder, error) from None


def relative(files: Sequence[WrittenFile], folder: Path) -> tuple[WrittenFile, ...]:
    """Files with their paths below a folder."""
    return tuple(replace(file, path=shown(path_shown(file.path).relative_to(folder))) for file in files)
