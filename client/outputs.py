"""Where pages go: to standard output, to one file, or to a folder with one file for each input.

All three take pages in the order in which they finish. A stream (standard output, or one file) gives them in the
order of the inputs; a folder writes a document as soon as its last page is there. ``render.py`` knows the formats,
``naming.py`` the names in a folder, ``journal.py`` what a folder holds already.
"""

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dotsctl.client.inputs import PageInput
from dotsctl.client.journal import Entry, Journal, output_error, write_atomically
from dotsctl.client.naming import identity, name_outputs
from dotsctl.client.records import Page
from dotsctl.client.render import FORMATS, Stream, render_document
from dotsctl.client.sources import Document
from dotsctl.protocol.errors import ErrorCode
from dotsctl.protocol.geometry import Box

STDOUT = "-"


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

    def __init__(self, documents: Sequence[Document], format_: str, write: Callable[[str], None]) -> None:
        self._stream = Stream([document.name for document in documents], format_)
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
    """One file with what standard output would get; written at the end, completely."""

    def __init__(self, path: Path, documents: Sequence[Document], format_: str) -> None:
        self._path = path
        self._stream = Stream([document.name for document in documents], format_)
        self._text: list[str] = []
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
        """Hold the page."""
        self._has_pages = self._has_pages or page.error is None
        self._text.append(self._stream.add(page))

    def finish(self) -> None:
        """Write the file, unless not a single page was read."""
        self._text.append(self._stream.rest())
        if self._has_pages:
            write_atomically(self._path, "".join(self._text).encode())


class FolderOutput(Output):
    """A folder with one file for each document, the tree of the inputs mirrored below it."""

    def __init__(self, folder: Path, documents: Sequence[Document], format_: str, *, force: bool = False) -> None:
        self._folder = folder
        self._format = format_
        self._force = force
        self._journal = Journal(folder)
        self._documents = {document.name: document for document in documents}
        self._outputs = name_outputs(documents, format_, self._journal)
        self._pages: dict[str, dict[int, Page]] = {}
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
        key = reading.key(digest, self._format, document.variant())
        self._keys[document.name] = (digest, key)
        entry = self._journal.entry(self._outputs[document.name])
        if self._force or entry is None or not digest:
            return False
        return entry.finished and entry.key == key and self.path_of(document.name).is_file()

    def add(self, page: Page) -> None:
        """Hold the page; the last one of its document has it written."""
        pages = self._pages.setdefault(page.source, {})
        pages[page.page] = page
        if len(pages) == len(page.wanted):
            self._write(page.source, self._pages.pop(page.source))

    def finish(self) -> None:
        """Write documents of which pages are missing, but never over a result that is complete."""
        waiting, self._pages = self._pages, {}
        for name, pages in waiting.items():
            entry = self._journal.entry(self._outputs[name])
            if entry is None or not entry.finished:
                self._write(name, _with_missing(pages))

    def _write(self, name: str, pages: dict[int, Page]) -> None:
        """Write a document of which at least one page was read, and note it in the journal."""
        if all(page.error for page in pages.values()):
            return
        text = render_document([pages[number] for number in sorted(pages)], self._format)
        write_atomically(self.path_of(name), text.encode())
        digest, key = self._keys.get(name, ("", ""))
        finished = bool(key) and not any(page.error for page in pages.values())
        self._journal.append(Entry(self._outputs[name], identity(self._documents[name]), digest, key, finished))


def _with_missing(pages: dict[int, Page]) -> dict[int, Page]:
    """The pages that came, and for each that did not a failed one that says so."""
    some = next(iter(pages.values()))
    complete = dict(pages)
    for number in some.wanted:
        if number not in pages:
            complete[number] = Page.from_failure(
                PageInput(some.source, some.path, number, some.num_pages, some.chosen),
                ErrorCode.CANCELLED,
                "the run ended before this page was read",
                model=some.model,
                fingerprint=some.fingerprint,
                task=some.task,
            )
    return complete


def choose_format(target: str | None, chosen: str | None) -> str:
    """The format: the one that was chosen, else the one of the output's ending, else Markdown."""
    ending = Path(target or "").suffix.lower().removeprefix(".")
    return chosen or (ending if ending in FORMATS else "md")


def choose_output(
    target: str | None,
    documents: Sequence[Document],
    format_: str,
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
        format_: one of ``FORMATS``.
        write: prints to standard output.
        force: do finished documents again.
    """
    if target in (None, STDOUT):
        return StreamOutput(documents, format_, write)
    path = Path(target)
    is_file = not (path.is_dir() or target.endswith(("/", os.sep)))
    if is_file and (len(documents) == 1 or path.suffix.lower() == f".{format_}"):
        return FileOutput(path, documents, format_)
    return FolderOutput(path, documents, format_, force=force)
