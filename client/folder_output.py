"""A folder of results: one output for each document, and a journal of what was done.

Every page is kept from the moment when it was read: in a hidden file until its document is whole, then in the document.
So whatever kills a run, the next one reads no page again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dotsctl.client.inputs import PageInput
from dotsctl.client.journal import Entry, Journal
from dotsctl.client.naming import identity, name_outputs
from dotsctl.client.output_base import Output, Reading
from dotsctl.client.page_store import PageStore
from dotsctl.client.records import Page
from dotsctl.client.render import OVERLAY, Style
from dotsctl.client.sources import Document
from dotsctl.client.writers import Writer, is_written, make_writer
from dotsctl.protocol.errors import ErrorCode

ENDINGS = {OVERLAY: "overlay.png"}
"""Of formats that are not their own ending; beside a scan of the same name no overlay takes its place."""


@dataclass
class _Open:
    """A document of which not all pages have come."""

    writer: Writer
    store: PageStore
    some: Page
    missing: set[int]
    num_read: int = 0
    num_missing: int = 0
    """Pages that were not read, for whatever reason."""
    has_failed: bool = False
    """Whether one of them could not be read, for another reason than the end of the run."""


class _Keys(NamedTuple):
    """What a document and its pages depend on."""

    digest: str
    """sha256 of the input; empty: it cannot be read."""
    key: str
    page_key: str


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
        self._keys: dict[str, _Keys] = {}
        self._stores: dict[str, PageStore] = {}

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
        self._keys[document.name] = _Keys(digest, key, reading.page_key(digest, document))
        entry, store = self._journal.entry(self._outputs[document.name]), self._store(document.name)
        if self._force:
            store.remove()
        if self._force or entry is None or not digest or not entry.finished or entry.key != key:
            return False
        if not is_written(self.path_of(document.name), self._style):
            return False
        store.remove()  # the run that wrote the document may have been killed before it did that
        del self._stores[document.name]
        return True

    def has_failed(self, document: Document) -> bool:
        """See :meth:`Output.has_failed`."""
        entry = self._journal.entry(self._outputs[document.name])
        return entry is not None and entry.failed and not entry.finished

    def kept(self, page: PageInput) -> Page | None:
        """See :meth:`Output.kept`."""
        keys = self._keys.get(page.source)
        return self._store(page.source).find(keys.page_key, page) if keys and keys.page_key else None

    def _store(self, name: str) -> PageStore:
        """Where the pages of a document are kept until it is whole."""
        return self._stores.setdefault(name, PageStore(self._folder, self._outputs[name]))

    def add(self, page: Page) -> None:
        """Take the page; with the last one its document is complete."""
        name = page.source
        if name not in self._open:
            writer = make_writer(self.path_of(name), [self._documents[name]], self._style)
            self._open[name] = _Open(writer, self._store(name), page, set(page.wanted))
        document = self._open[name]
        self._take(document, page)
        if not document.missing:
            self._close(name, self._open.pop(name))

    def _take(self, document: _Open, page: Page) -> None:
        document.missing.discard(page.page)
        if page.error is None:
            document.num_read += 1
            if (keys := self._keys.get(page.source)) and keys.page_key:
                document.store.add(keys.page_key, page)
        else:
            document.num_missing += 1
            document.has_failed = document.has_failed or page.error.code != ErrorCode.CANCELLED
        document.writer.add(page)

    def finish(self, *, is_whole: bool = True) -> None:
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
        """Give a document its name when a page of it was read, and note in the journal what became of it."""
        keys = self._keys.get(name, _Keys("", "", ""))
        finished = bool(keys.digest) and not document.num_missing
        if document.num_read:
            document.writer.commit()
        else:
            document.writer.discard()
        if document.num_read or (document.has_failed and self._folder.is_dir()):
            place = (self._outputs[name], identity(self._documents[name]))
            self._journal.append(Entry(*place, keys.digest, keys.key, finished, document.has_failed))
        if finished:
            document.store.remove()
        self._stores.pop(name, None)


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
