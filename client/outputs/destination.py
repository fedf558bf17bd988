"""The output of pages: standard output or another stream, one file, or a folder with one file for each input.

All three take pages in the order in which they finish. A stream and one file give them in the order of the inputs; a
folder (``folder_output.py``) finishes a document as soon as its last page is read. ``formats/`` has the formats,
``writers.py`` the files, ``naming.py`` the names in a folder, ``journal.py`` what a folder holds already, and
``page_store.py`` the pages of what is not complete yet.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from dotsctl.client.files.part_file import (
    NOT_OURS,
    REMEDY,
    PartFile,
    output_error,
    require_replaceable,
    require_writable,
)
from dotsctl.client.files.streams import is_stream
from dotsctl.client.formats.format import PageSources, TextFormat
from dotsctl.client.formats.pictures import Cutter, PagePixels
from dotsctl.client.formats.registry import FORMATS, format_of
from dotsctl.client.formats.stream import Stream
from dotsctl.client.formats.style import Style
from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.inputs.sources import InputFile
from dotsctl.client.outputs.folder_output import FolderOutput
from dotsctl.client.outputs.journal import Entry, Journal, relative
from dotsctl.client.outputs.naming import identity
from dotsctl.client.outputs.output_base import DEFAULT, Output, Reading, State, WriteOptions
from dotsctl.client.outputs.page_store import PageStore
from dotsctl.client.outputs.writers import make_writer
from dotsctl.client.results.page import Page
from dotsctl.protocol.errors import OutputError, PageError, UsageError
from dotsctl.protocol.model.file_names import path_shown, shown
from dotsctl.protocol.model.files import resolved

STDOUT = "-"


class StreamOutput(Output):
    """Standard output, a FIFO or a device: page by page, in the order of the inputs."""

    def __init__(
        self,
        documents: Sequence[InputFile],
        style: Style,
        write: Callable[[str], None],
        options: WriteOptions = DEFAULT,
        file: PartFile | None = None,
    ) -> None:
        """``write`` takes text; ``file`` is the stream that ``-o`` names; none: standard output, which is open."""
        pixels = PagePixels.of_files(documents)
        sources = PageSources(Cutter(pixels, style.images).cut, pixels.load)
        self._stream = Stream(pixels.names, style, sources, options.events.lose)
        self._write = write
        self._file = file

    def prepare(self) -> None:
        """Open the stream; a FIFO waits here for its reader."""
        if self._file is not None:
            self._file.write(b"")

    def add(self, page: Page) -> None:
        """Print every page whose turn it is."""
        if text := self._stream.add(page):
            self._write(text)

    def finish(self, *, is_complete: bool = True) -> None:
        """Print the pages that wait for missing ones."""
        if text := self._stream.rest():
            self._write(text)
        if self._file is not None:
            self._file.commit()

    def close(self) -> None:
        """See :meth:`Output.close`."""
        if self._file is not None:
            self._file.discard()


class FileOutput(Output):
    """One file with what standard output would get; it has its name when it is complete."""

    def __init__(
        self, path: Path, documents: Sequence[InputFile], style: Style, options: WriteOptions = DEFAULT
    ) -> None:
        self._path, self._options = path, options
        self._journal = Journal(path.parent)
        self._writer = make_writer(
            path, PagePixels.of_files(documents), style, options.events.lose, options.events.note
        )
        self._source = identity(documents[0]) if len(documents) == 1 else ""
        place = _place(path)
        self._store = PageStore(place.parent, place.name)
        self._page_keys: dict[str, str] = {}
        self._has_pages = self._has_failures = False

    def prepare(self) -> None:
        """Make the folder of the file, and check that a file can be written there."""
        is_own = not self._journal.others([shown(self._path.name)])
        require_replaceable(self._path, overwrite=self._options.overwrite, is_own=is_own)
        require_writable(self._path)
        if self._options.force:
            self._store.remove()

    def state(self, document: InputFile, reading: Reading) -> State:
        """All is to be read, as such a file is made anew each time; but an interrupted run has left pages."""
        self._page_keys[document.name] = reading.page_key(document.digest(), document)
        return State.TO_READ

    def kept(self, page: PageInput) -> Page | None:
        """See :meth:`Output.kept`."""
        key = self._page_keys.get(page.source)
        return self._store.find(key, page) if key else None

    def add(self, page: Page) -> None:
        """Write every page whose turn it is."""
        self._has_pages = self._has_pages or page.error is None
        self._has_failures = self._has_failures or page.error is not None
        is_single = self._source and len(page.requested) == 1  # nothing to wait for, so nothing to keep
        if page.error is None and not is_single and (key := self._page_keys.get(page.source)):
            self._store.add(key, page)
        try:
            self._writer.add(page)
        except PageError as error:  # of a picture that could not be drawn
            self._options.events.lose(page.source, error)

    def finish(self, *, is_complete: bool = True) -> None:
        """Complete the file, unless not a single page was read; its pages are kept as long as some are missing."""
        if self._has_pages:
            self._write()
        else:
            self._writer.discard()
        if is_complete and not self._has_failures:
            self._store.remove()

    def _write(self) -> None:
        """Note in the journal of the folder what is written, and then give it its names."""
        files = relative(self._writer.seal(), self._path.parent)
        self._journal.refresh()  # another run may have written it meanwhile
        if (others := self._journal.others(file.path for file in files)) and not self._options.overwrite:
            self._writer.discard()
            raise OutputError(f"{shown(self._path.parent / path_shown(others[0]))} {NOT_OURS}", REMEDY)
        self._journal.start()
        entry = Entry(shown(self._path.name), self._source, "", "", finished=False, files=files)
        self._journal.append(replace(entry, failed=self._has_failures))
        self._writer.commit()

    def close(self) -> None:
        """See :meth:`Output.close`."""
        self._writer.discard()
        self._journal.close()


def _place(path: Path) -> Path:
    """Return the path of an output that may be a link. Raises OutputError."""
    try:
        return resolved(path)
    except OSError as error:
        raise output_error(path, error) from None


def goes_to_stream(target: str | None) -> bool:
    """Return whether ``-o`` names standard output or another stream, next to which no pictures can be written."""
    return target in (None, STDOUT) or is_stream(Path(target))


def choose_format(target: str | None, chosen: str | None) -> str:
    """The format: the one that was chosen, else the one of the output's ending, else Markdown.

    Raises:
        UsageError: the name is empty, or has an ending that is that of no format, and none was chosen.
    """
    if target == "":
        raise UsageError("-o has an empty name", "name a folder or a file, or - for standard output")
    if chosen or target in (None, STDOUT):
        return chosen or "md"
    path = Path(target)
    if found := format_of(path):
        return found
    is_folder = target.endswith(("/", os.sep)) or path.is_dir()
    if not path.suffix or is_folder or is_stream(path):
        return "md"
    raise UsageError(
        f"-o {target} has no known file extension; formats are {', '.join(FORMATS)}",
        "choose one with -f (-f md writes Markdown into a file of that name), or end the name of a folder with /",
    )


def choose_output(
    target: str | None,
    documents: Sequence[InputFile],
    style: Style,
    write: Callable[[str], None],
    options: WriteOptions = DEFAULT,
) -> Output:
    """The output that ``-o`` names.

    A target that is a folder, ends with a slash, or stands for several inputs is a folder, unless its ending is
    that of the format: then it is one file with everything in it.

    Args:
        target: what the user wrote; none and ``-`` are standard output.
        documents: all inputs.
        style: how pages are written.
        write: prints to standard output.
        options: what may be done again.

    Raises:
        UsageError: the file is one of the inputs.
        OutputError: it is a link that leads in a circle.
    """
    if target in (None, STDOUT):
        return StreamOutput(documents, style, write, options)
    path = Path(target)
    if is_stream(path):
        stream = PartFile(path)
        return StreamOutput(documents, style, lambda text: stream.write(text.encode()), options, stream)
    is_file = not (path.is_dir() or target.endswith(("/", os.sep)))
    takes_all = isinstance(style.format, TextFormat) and path.name.lower().endswith(f".{style.format.ending}")
    if is_file and (len(documents) == 1 or takes_all):
        require_replaceable(path, [document.path for document in documents], overwrite=True)
        return FileOutput(path, documents, style, options)
    return FolderOutput(path, documents, style, options)
