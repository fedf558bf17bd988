"""One output on its way to the disk: takes pages in any order, and is there completely or not at all.

Text is written as soon as it is the turn of its page, so a document of any number of pages costs the memory of
those that wait; JSON alone, being one value, is held until the end.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from dotsctl.client.overlay import draw_overlay
from dotsctl.client.part_file import PartFile, PartFiles
from dotsctl.client.pictures import Cutter, PagePixels, png
from dotsctl.client.records import Page
from dotsctl.client.render import OVERLAY, Sources, Stream, Style
from dotsctl.client.sources import Document

FAST = 1
"""Compression of whole pages, which are looked at and thrown away."""


class Writer(ABC):
    """What the outputs on the disk have in common."""

    @abstractmethod
    def add(self, page: Page) -> None:
        """Take a page, failed ones included. Raises OutputError."""

    @abstractmethod
    def commit(self) -> None:
        """Write what still waits, and give all files their names. Raises OutputError."""

    @abstractmethod
    def discard(self) -> None:
        """Leave nothing of it."""


class TextWriter(Writer):
    """One file with the text of one or more documents, and the pictures that it links to."""

    def __init__(self, path: Path, documents: Sequence[Document], style: Style) -> None:
        pixels = PagePixels(documents)
        self._cutter = Cutter(pixels, style.images, path)
        self._file = PartFile(path)
        names = [document.name for document in documents]
        self._stream = Stream(names, style, Sources(self._cutter.cut, pixels.load))

    def add(self, page: Page) -> None:
        """Write every page whose turn it is."""
        self._write(self._stream.add(page))

    def commit(self) -> None:
        """The pictures come first, so that no link of the document leads nowhere."""
        self._write(self._stream.rest())
        self._cutter.commit()
        self._file.commit()

    def _write(self, text: str) -> None:
        if text:
            self._file.write(text.encode())

    def discard(self) -> None:
        """Take the parts away."""
        self._cutter.discard()
        self._file.discard()


class OverlayWriter(Writer):
    """Pages with their boxes: one PNG file, or a folder with one for each page of a document that has several."""

    def __init__(self, path: Path, document: Document) -> None:
        """``path`` is that of a single page; the folder of several has its name without the ending."""
        self._path = path
        self._pixels = PagePixels([document])
        self._files = PartFiles()

    def add(self, page: Page) -> None:
        """Draw the page; one that failed has no picture."""
        if page.error is None:
            several = overlay_folder(self._path) / f"page-{page.page:04}.png"
            drawn = draw_overlay(page, self._pixels.load(page))
            path = self._path if page.num_pages == 1 else several
            self._files.add(path, png(drawn, compress_level=FAST))

    def commit(self) -> None:
        """Give the files their names."""
        self._files.commit()

    def discard(self) -> None:
        """Take the parts away."""
        self._files.discard()


def overlay_folder(path: Path) -> Path:
    """Where the pages of a document lie whose single page would be at ``path``."""
    return path.with_suffix("") if path.suffix else path.with_name(f"{path.name}.pages")


def make_writer(path: Path, documents: Sequence[Document], style: Style) -> Writer:
    """What writes the format; an overlay is made of one document."""
    return OverlayWriter(path, documents[0]) if style.format_ == OVERLAY else TextWriter(path, documents, style)


def is_written(path: Path, style: Style) -> bool:
    """Whether the output is there."""
    return path.is_file() or (style.format_ == OVERLAY and overlay_folder(path).is_dir())
