"""Where pages go: to standard output, to one file, or to a folder with one file for each input.

All three take pages in the order in which they finish. A stream (standard output, or one file) gives them in the
order of the inputs; a folder finishes a document as soon as its last page is there. ``render.py`` knows the formats,
``writers.py`` the files, ``naming.py`` the names in a folder, ``journal.py`` what a folder holds already.
"""

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dotsctl.client.inputs import PageInput
from dotsctl.client.journal import Entry, Journal
from dotsctl.client.naming import identity, name_outputs
from dotsctl.client.part_file import output_error
from dotsctl.client.pictures import Cutter, PagePixels
from dotsctl.client.records import Page
from dotsctl.client.render import FORMATS, OVERLAY, Sources, Stream, Style
from dotsctl.client.sources import Document
from dotsctl.client.writers import Writer, is_written, make_writer
from dotsctl.protocol.errors import ErrorCode, UsageError
from dotsctl.protocol.geometry import Box

STDOUT = "-"
ENDINGS = {OVERLAY: "overlay.png"}
"""Of formats that are not their own ending; beside a scan of the same name no overlay takes its place."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a result depends on besides the input."""

    fingerprint: str
    encoder: str
    decoder: str
    task: str
    prompt: str | None = None
    box: Box | None = None
    max_tokens: int | None = None
    max_pixels: int | None = None
    check_blank: bool = True
    reread: bool = True

    def key(self, digest: str, format_: str, variant: str = "") -> str:
        """One word for an input that is read in this way and written in a format; see :meth:`Document.variant`."""
        content = json.dumps([digest, format_, asdict(self), *filter(None, [variant])], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


class Output(ABC):
    """What the three kinds of output have in common."""

    @abstractmethod
    def prepare(self) -> None:
        """See that the output can be written, before any work is done. Raises OutputError."""

    def is_done(self, document: Document, reading: Reading) -> bool:
        """Whether an earlier run wrote this document; to be asked before its pages are read."""
        return False

    @abstractmethod
    def add(self, page: Page) -> None:
        """Take a page, failed ones included. Raises OutputError."""

    @abstractmethod
    def finish(self) -> None:
        """Write what is still held, also when pages are missing. Raises OutputError."""


class StreamOutput(Output):
    """Standard output: page by page, in the order of the inputs."""

    def __init__(self, documents: Sequence[Document], style: Style, write: Callable[[str], None]) -> None:
        pixels = PagePixels(documents)
        names = [document.name for document in documents]
        self._stream = Stream(names, style, Sources(Cutter(pixels, style.images).cut, pixels.load))
        self._write = write

    def prepare(self) -> None:
        """The terminal, or the pipe, is there."""

    def add(self, page: Page) -> None:
        """Print every page whose turn it is."""
        if text := self._stream.add(page):
            self._write(text)

    def finish(self) -> None:
        """Print the pages that wait for missing ones."""
        if text := self._stream.rest():
            self._write(text)


class FileOutput(Output):
    """One file with what standard output would get; it has its name when it is complete."""

    def __init__(self, path: Path, documents: Sequence[Document], style: Style) -> None:
        self._path = path
        self._writer = make_writer(path, documents, style)
        self._has_pages = False

    def prepare(self) -> None:
        """Make the folder of the file."""
        folder = self._path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(self._path, error) from None
        if not os.access(folder, os.W_OK):
            raise output_error(self._path, PermissionError(13, "Permission denied"))

    def add(self, page: Page) -> None:
        """Write every page whose turn it is."""
        self._has_pages = self._has_pages or page.error is None
        self._writer.add(page)

    def finish(self) -> None:
        """Complete the file, unless not a single page was read."""
        if self._has_pages:
            self._writer.commit()
        else:
            self._writer.discard()


@dataclass
class _Open:
    """A document of which not all pages have come."""

    writer: Writer
    some: Page
    missing: set[int]
    num_read: int = 0
    num_failed: int = 0


class FolderOutput(Output):
    """A folder with one output for each document, the tree of the inputs mirrored below it."""

    def __init__(self, folder: Path, documents: Sequence[Document], style: Style, *, force: bool = False) -> None:
        self._folder = folder
        self._style = style
        self._force = force
        self._journal = Journal(folder)
        self._documents = {document.name: document for document in documents}
        self._outputs = name_outputs(documents, ENDINGS.get(style.format_, style.format_), self._journal)
        self._open: dict[str, _Open] = {}
        self._keys: dict[str, tuple[str, str]] = {}

    def prepare(self) -> None:
        """Make the folder and its journal."""
        self._journal.probe()

    def path_of(self, name: str) -> Path:
        """Where the document of that name is written."""
        return self._folder / self._outputs[name]

    def is_done(self, document: Document, reading: Reading) -> bool:
        """Whether the output is there and was made of the same bytes in the same way."""
        digest = document.digest()
        variant = " ".join(filter(None, [document.variant(), self._style.variant]))
        key = reading.key(digest, self._style.format_, variant)
        self._keys[document.name] = (digest, key)
        entry = self._journal.entry(self._outputs[document.name])
        if self._force or entry is None or not digest:
            return False
        return entry.finished and entry.key == key and is_written(self.path_of(document.name), self._style)

    def add(self, page: Page) -> None:
        """Take the page; with the last one its document is complete."""
        name = page.source
        if name not in self._open:
            writer = make_writer(self.path_of(name), [self._documents[name]], self._style)
            self._open[name] = _Open(writer, page, set(page.wanted))
        document = self._open[name]
        self._take(document, page)
        if not document.missing:
            self._close(name, self._open.pop(name))

    def _take(self, document: _Open, page: Page) -> None:
        document.missing.discard(page.page)
        document.num_read += page.error is None
        document.num_failed += page.error is not None
        document.writer.add(page)

    def finish(self) -> None:
        """Complete documents of which pages are missing, but never in place of a result that is complete."""
        waiting, self._open = self._open, {}
        for name, document in waiting.items():
            entry = self._journal.entry(self._outputs[name])
            if entry is not None and entry.finished:
                document.writer.discard()
                continue
            for number in sorted(document.missing):
                self._take(document, _missing(document.some, number))
            self._close(name, document)

    def _close(self, name: str, document: _Open) -> None:
        """Give a document its name when a page of it was read, and note it in the journal."""
        if not document.num_read:
            document.writer.discard()
            return
        document.writer.commit()
        digest, key = self._keys.get(name, ("", ""))
        finished = bool(key) and not document.num_failed
        self._journal.append(Entry(self._outputs[name], identity(self._documents[name]), digest, key, finished))


def _missing(some: Page, number: int) -> Page:
    """In place of a page that did not come: one that says so; ``some`` is of the same document."""
    return Page.from_failure(
        PageInput(some.source, some.path, number, some.num_pages, some.chosen),
        ErrorCode.CANCELLED,
        "the run ended before this page was read",
        model=some.model,
        fingerprint=some.fingerprint,
        task=some.task,
    )


def choose_format(target: str | None, chosen: str | None) -> str:
    """The format: the one that was chosen, else the one of the output's ending, else Markdown."""
    ending = Path(target or "").suffix.lower().removeprefix(".")
    return chosen or (ending if ending in FORMATS else "md")


def choose_output(
    target: str | None,
    documents: Sequence[Document],
    style: Style,
    write: Callable[[str], None],
    *,
    force: bool = False,
) -> Output:
    """The output that ``-o`` names.

    A target that is a folder, ends with a slash, or stands for several inputs is a folder, unless its ending is
    that of the format: then it is one file with everything in it.

    Args:
        target: what the user wrote; none and ``-`` are standard output.
        documents: all inputs.
        style: how pages are written.
        write: prints to standard output.
        force: do finished documents again.

    Raises:
        UsageError: the file is one of the inputs.
    """
    if target in (None, STDOUT):
        return StreamOutput(documents, style, write)
    path = Path(target)
    is_file = not (path.is_dir() or target.endswith(("/", os.sep)))
    if is_file and (len(documents) == 1 or path.suffix.lower() == f".{style.format_}"):
        if any(document.path and path.exists() and path.samefile(document.path) for document in documents):
            raise UsageError(f"{path} is an input and would be lost: choose another place with -o")
        return FileOutput(path, documents, style)
    return FolderOutput(path, documents, style, force=force)
