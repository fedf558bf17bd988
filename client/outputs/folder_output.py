"""A folder of results: one output for each document, and a journal of what was done.

Every page is kept once it is read: in a hidden file until its document is complete, then in the document.
So whatever kills a run, the next one reads no page again. Several runs share one folder: each claims a document before
it reads it (``runs.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dotsctl.client.files.streams import is_stream
from dotsctl.client.formats.format import Writer
from dotsctl.client.formats.pictures import PagePixels
from dotsctl.client.formats.style import Style
from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.inputs.sources import InputFile
from dotsctl.client.outputs.journal import Entry, Found, Journal, relative, same_file
from dotsctl.client.outputs.naming import OutputNames, identity
from dotsctl.client.outputs.output_base import DEFAULT, Output, Reading, State, WriteOptions
from dotsctl.client.outputs.page_store import PageStore
from dotsctl.client.outputs.writers import make_writer
from dotsctl.client.results.page import Failure, Page
from dotsctl.protocol.errors import ErrorCode, PageError, ResultError
from dotsctl.protocol.model.file_names import path_shown, shown


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
    is_lost: bool = False
    """Whether it cannot be written; its pages are kept as far as that is possible."""


class _Keys(NamedTuple):
    """The values that a document and its pages depend on."""

    digest: str
    """sha256 of the input; empty: it cannot be read."""
    key: str
    page_key: str


class FolderOutput(Output):
    """A folder with one output for each document, the tree of the inputs mirrored below it."""

    def __init__(
        self, folder: Path, documents: Sequence[InputFile], style: Style, options: WriteOptions = DEFAULT
    ) -> None:
        self._folder = folder
        self._style = style
        self._options = options
        self._events = options.events
        self._journal = Journal(folder)
        self._documents = {document.name: document for document in documents}
        self._names = OutputNames(documents, style.format.ending, self._journal)
        self._open: dict[str, _Open] = {}
        self._keys: dict[str, _Keys] = {}
        self._stores: dict[str, PageStore] = {}

    def prepare(self) -> None:
        """Make the folder and its journal."""
        self._journal.probe()

    def path_of(self, name: str) -> Path:
        """Return where the document of that name is written."""
        return self._folder / path_shown(self._names.names[name])

    # --- what there is to do -----------------------------------------------------------------------------------------

    def state(self, document: InputFile, reading: Reading) -> State:
        """See :meth:`Output.state`."""
        output = self._names.names[document.name]
        digest = document.digest()
        variant = " ".join(filter(None, [document.variant(), self._style.variant]))
        key = reading.key(digest, self._style.format_, variant)
        self._keys[document.name] = _Keys(digest, key, reading.page_key(digest, document))
        entry, found = self._journal.entry(output), self._journal.found(output)
        if found is Found.OTHER and (not self._options.overwrite or is_stream(self.path_of(document.name))):
            return State.OTHERS
        if not (entry and digest and entry.finished and entry.key == key and found is Found.LAST):
            return State.TO_READ
        if entry.number > self._journal.number_at_start:
            return State.DONE_ELSEWHERE
        return State.TO_READ if self._options.force else State.DONE

    def take(self, document: InputFile, reading: Reading) -> State:
        """See :meth:`Output.take`; reports documents that this run does not read."""
        state = self._claimed(document, reading)
        output, store = self._names.names[document.name], self._store(document.name)
        if state is State.TO_READ and self._options.force:
            store.remove()
        elif state in (State.DONE, State.DONE_ELSEWHERE):
            store.remove()  # the run that wrote the document may have been killed before it did that
        if state is not State.TO_READ:
            self._release(document.name)
        if state is State.OTHERS:
            self._events.keep_changed(shown(self.path_of(document.name)))
        if state is State.DONE_ELSEWHERE and (entry := self._journal.entry(output)) is not None:
            self._events.read_elsewhere(entry.pages)
        return state

    def _claimed(self, document: InputFile, reading: Reading) -> State:
        """Claim a document and return what there is to do; the journal may then show that the name is taken."""
        while (state := self._state_now(document, reading)) is State.TO_READ and self._journal.runs.is_started:
            output = self._names.names[document.name]
            if not self._journal.runs.claim(same_file(output)):
                return State.BUSY
            self._journal.refresh()
            if self._names.is_free(output, document):
                return self.state(document, reading)
            self._release(document.name)
            self._names.choose(document)
        return state

    def _state_now(self, document: InputFile, reading: Reading) -> State:
        """Return the state, as :meth:`state`; for a file of others, after reading the journal again."""
        if (state := self.state(document, reading)) is State.OTHERS:
            self._journal.refresh()
            return self.state(document, reading)
        return state

    def _release(self, name: str) -> None:
        """Let other runs have a document."""
        self._journal.runs.release(same_file(self._names.names[name]))
        self._stores.pop(name, None)

    def has_failed(self, document: InputFile) -> bool:
        """Return whether an earlier run could not read this document, or a page of it."""
        entry = self._journal.entry(self._names.names[document.name])
        return entry is not None and entry.failed

    def kept(self, page: PageInput) -> Page | None:
        """See :meth:`Output.kept`."""
        keys = self._keys.get(page.source)
        return self._store(page.source).find(keys.page_key, page) if keys and keys.page_key else None

    def _store(self, name: str) -> PageStore:
        """Return the store that keeps the pages of a document until it is complete."""
        return self._stores.setdefault(name, PageStore(self._folder, self._names.names[name]))

    # --- what is written ---------------------------------------------------------------------------------------------

    def add(self, page: Page) -> None:
        """Take the page; with the last one its document is complete."""
        name = page.source
        if name not in self._open:
            pixels = PagePixels.of_files([self._documents[name]])
            writer = make_writer(self.path_of(name), pixels, self._style, note=self._events.note)
            self._open[name] = _Open(writer, self._store(name), page, set(page.requested))
        document = self._open[name]
        self._take(document, page)
        if not document.missing:
            self._close(name, self._open.pop(name))

    def _take(self, document: _Open, page: Page) -> None:
        document.missing.discard(page.page)
        if page.error is None:
            document.num_read += 1
        else:
            document.num_missing += 1
            document.has_failed = document.has_failed or page.error.code != ErrorCode.CANCELLED
        try:
            keys = self._keys.get(page.source)
            if page.error is None and keys and keys.page_key and self._is_ours(page.source):
                document.store.add(keys.page_key, page)  # a kill before the journal's line must not cost the page
            if not document.is_lost:
                document.writer.add(page)
        except (ResultError, PageError) as error:
            self._lose(page.source, document, error)

    def _is_ours(self, name: str) -> bool:
        """Return whether no other run has claimed the document since, as from a machine that slept."""
        return not self._journal.runs.is_started or self._journal.runs.holds(same_file(self._names.names[name]))

    def _lose(self, name: str, document: _Open, error: ResultError | PageError) -> None:
        """Continue without a document. Raises OutputError where the folder itself is at fault."""
        if isinstance(error, ResultError):
            self._journal.probe()
        if not document.is_lost:
            document.is_lost = True
            document.writer.discard()
            self._events.lose(name, error)

    def finish(self, *, is_complete: bool = True) -> None:
        """Complete documents of which pages are missing, but never in place of a result that is complete."""
        waiting, self._open = self._open, {}
        for name, document in waiting.items():
            entry = self._journal.entry(self._names.names[name])
            if entry is not None and entry.finished:
                document.writer.discard()
                continue
            for number in sorted(document.missing):
                self._take(document, _missing(document.some, number))
            self._close(name, document)
        self.close()

    def close(self) -> None:
        """See :meth:`Output.close`."""
        self._journal.close()

    def _close(self, name: str, document: _Open) -> None:
        """Write a document of which a page was read, and let other runs have it."""
        try:
            if not self._is_ours(name):
                document.writer.discard()
            elif document.num_read and not document.is_lost:
                self._write(name, document)
            if document.is_lost or not document.num_read:
                document.writer.discard()
                self._note_failure(name, document)
        except (ResultError, PageError) as error:
            self._lose(name, document, error)
            self._note_failure(name, document)
        self._release(name)

    def _write(self, name: str, document: _Open) -> None:
        """Note in the journal what is written, and then give it its names."""
        keys, output = self._keys.get(name, _Keys("", "", "")), self._names.names[name]
        files = relative(document.writer.seal(), self._folder)
        others = [file.path for file in files if self._names.is_input(file.path)]
        others += self._journal.to_keep((file.path for file in files), overwrite=self._options.overwrite)
        if others:
            document.writer.discard()
            self._events.keep_changed(shown(self._folder / path_shown(others[0])))
            return
        finished = bool(keys.digest) and not document.num_missing
        place = (output, identity(self._documents[name]), keys.digest, keys.key)
        self._journal.append(Entry(*place, finished, document.has_failed, files, document.num_read))
        if not self._is_ours(name):  # this machine slept meanwhile
            document.writer.discard()
            return
        document.writer.commit()
        if finished:
            document.store.remove()

    def _note_failure(self, name: str, document: _Open) -> None:
        """Note that a document could not be read or written, where there is a folder."""
        keys = self._keys.get(name, _Keys("", "", ""))
        if (document.is_lost or document.has_failed) and self._folder.is_dir() and self._is_ours(name):
            place = (self._names.names[name], identity(self._documents[name]), keys.digest, keys.key)
            self._journal.append(Entry(*place, finished=False, failed=True, files=()))


def _missing(some: Page, number: int) -> Page:
    """Return a page with an error for one that was not read; ``some`` is of the same document."""
    return Page.from_failure(
        PageInput(some.source, some.path, number, some.num_pages, some.chosen),
        Failure(ErrorCode.CANCELLED, "the run ended before this page was read"),
        model=some.model,
        fingerprint=some.fingerprint,
        task=some.task,
    )
