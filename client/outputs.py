"""Where pages go: to standard output, to one file, or to a folder with one file for each input.

All three take pages in the order in which they finish. A stream (standard output, or one file) gives them in the
order of the inputs; a folder (``folder_output.py``) finishes a document as soon as its last page is there.
``render.py`` knows the formats, ``writers.py`` the files, ``naming.py`` the names in a folder, ``journal.py`` what a
folder holds already, ``page_store.py`` the pages of what is not whole yet.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from dotsctl.client.folder_output import FolderOutput
from dotsctl.client.inputs import PageInput
from dotsctl.client.output_base import Output, Reading
from dotsctl.client.page_store import PageStore
from dotsctl.client.part_file import make_folder, output_error
from dotsctl.client.pictures import Cutter, PagePixels
from dotsctl.client.records import Page
from dotsctl.client.render import FORMATS, Sources, Stream, Style
from dotsctl.client.sources import Document
from dotsctl.client.writers import make_writer
from dotsctl.protocol.errors import UsageError

STDOUT = "-"


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

    def finish(self, *, is_whole: bool = True) -> None:
        """Print the pages that wait for missing ones."""
        if text := self._stream.rest():
            self._write(text)


class FileOutput(Output):
    """One file with what standard output would get; it has its name when it is complete."""

    def __init__(self, path: Path, documents: Sequence[Document], style: Style, *, force: bool = False) -> None:
        self._path, self._force = path, force
        self._writer = make_writer(path, documents, style)
        self._store = PageStore(path.parent, path.name)
        self._page_keys: dict[str, str] = {}
        self._has_pages = self._has_failures = False

    def prepare(self) -> None:
        """Make the folder of the file."""
        folder = self._path.parent
        try:
            make_folder(folder)
        except OSError as error:
            raise output_error(self._path, error) from None
        if not os.access(folder, os.W_OK):
            raise output_error(self._path, PermissionError(13, "Permission denied"))
        if self._force:
            self._store.remove()

    def is_done(self, document: Document, reading: Reading) -> bool:
        """Never, as nothing is known of what such a file was made of; but a run that broke off has left pages."""
        self._page_keys[document.name] = reading.page_key(document.digest(), document)
        return False

    def kept(self, page: PageInput) -> Page | None:
        """See :meth:`Output.kept`."""
        key = self._page_keys.get(page.source)
        return self._store.find(key, page) if key else None

    def add(self, page: Page) -> None:
        """Write every page whose turn it is."""
        self._has_pages = self._has_pages or page.error is None
        self._has_failures = self._has_failures or page.error is not None
        if page.error is None and (key := self._page_keys.get(page.source)):
            self._store.add(key, page)
        self._writer.add(page)

    def finish(self, *, is_whole: bool = True) -> None:
        """Complete the file, unless not a single page was read; its pages are kept as long as some are missing."""
        if self._has_pages:
            self._writer.commit()
        else:
            self._writer.discard()
        if is_whole and not self._has_failures:
            self._store.remove()


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
        return FileOutput(path, documents, style, force=force)
    return FolderOutput(path, documents, style, force=force)
