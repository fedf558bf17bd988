"""Searchable PDF: the pages as they were, with the text that was read on top of them, invisible.

A PDF keeps its pages and their streams, a picture becomes a page. ``pdf_text.py`` writes the text, ``pdf_pages.py``
the documents; that runs in a process of its own (``pdf_process.py``), as the documents are those of others.
"""

import tempfile
from pathlib import Path

from dotsctl.client.files.part_file import PartFile
from dotsctl.client.files.written import WrittenFile
from dotsctl.client.formats.format import FileFormat, Note, Writer
from dotsctl.client.formats.pdf_process import PdfJob, run
from dotsctl.client.formats.pdf_text import PicturePage, PlacedText
from dotsctl.client.formats.pictures import PagePixels
from dotsctl.client.results.ink_lines import InkLines
from dotsctl.client.results.lines import lines_of
from dotsctl.client.results.page import Page
from dotsctl.protocol.errors import PageError
from dotsctl.protocol.model.files import open_regular
from dotsctl.protocol.render.opening import SIGNATURE, SIGNATURE_WITHIN_BYTES
from PIL import Image, ImageChops

DEFAULT_DPI = 200
"""The resolution of pictures that state none."""
PIECE_BYTES = 1 << 20


class PdfWriter(Writer):
    """One PDF of one document."""

    def __init__(self, path: Path, pixels: PagePixels, note: Note) -> None:
        """``note`` is called with the name of the input and what the user should know."""
        self._pixels, self._note = pixels, note
        self._file = PartFile(path)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._source: Path | None = None
        self._is_pdf = False
        self._name = ""
        self._texts: dict[int, PlacedText] = {}
        self._pictures: dict[int, PicturePage] = {}
        self._num_kept = 0
        """Pages that have a text already."""

    def add(self, page: Page) -> None:
        """Place the text of a page; one that failed has none."""
        if not self._name:
            self._begin(page)
        if self._is_pdf:
            if page.error is None and page.cells:
                if self._pixels.has_text(page):
                    self._num_kept += 1
                else:
                    self._texts[page.page] = self._placed(page, self._pixels.load(page))
        elif page.error is None:
            self._add_picture(page)

    def _begin(self, page: Page) -> None:
        """Find out what the document is; all its pages come from it."""
        self._name = page.source
        original = self._pixels.original(page)
        if isinstance(original, bytes):
            self._source = self._temporary("source")
            self._source.write_bytes(original)
        else:
            self._source = original
        self._is_pdf = self._source is not None and _is_pdf(self._source)

    def _add_picture(self, page: Page) -> None:
        image = self._pixels.load(page)
        path = self._temporary(f"{page.page}.png")
        _reduced(image).save(path, "PNG")
        is_kept = page.num_pages == 1
        text = self._placed(page, image)
        self._pictures[page.page] = PicturePage(self._source, is_kept, path, text, float(DEFAULT_DPI))

    def _placed(self, page: Page, image: Image.Image) -> PlacedText:
        lines = tuple(line for cell in lines_of(page.cells, InkLines(image)) for line in cell.lines)
        return PlacedText(image.width, image.height, lines)

    def seal(self) -> list[WrittenFile]:
        """See :meth:`Writer.seal`."""
        target = self._temporary("target.pdf")
        password = self._pixels.password(self._name)
        done = run(
            PdfJob(self._name, self._source if self._is_pdf else None, target, password, self._texts, self._pictures)
        )
        if done.was_encrypted:
            self._note(self._name, "the PDF was encrypted; the searchable one is not")
        if self._num_kept:
            count = f"{self._num_kept} page{'s' * (self._num_kept > 1)}"
            self._note(self._name, f"{count} had text already and kept it")
        with open_regular(target) as stream:
            while piece := stream.read(PIECE_BYTES):
                self._file.write(piece)
        written = self._file.seal()
        return [written] if written is not None else []

    def commit(self) -> None:
        """Give the file its name."""
        self._file.commit()
        self._clean_up()

    def discard(self) -> None:
        """Remove what is unfinished."""
        self._file.discard()
        self._clean_up()

    def _clean_up(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _temporary(self, name: str) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="dotsctl-pdf-")
        return Path(self._folder.name, name)


def _is_pdf(path: Path) -> bool:
    """Return whether a file is a PDF. Raises PageError: it cannot be read any more."""
    try:
        with open_regular(path) as stream:
            return SIGNATURE in stream.read(SIGNATURE_WITHIN_BYTES + len(SIGNATURE))
    except OSError as error:
        raise PageError(f"the file cannot be read again: {error.strerror}", "run the command again") from None


def _reduced(image: Image.Image) -> Image.Image:
    """Return a picture in the fewest bits that hold all of it: 1 for black and white, 8 for grey, else 24."""
    red, green, blue = image.split()
    if ImageChops.difference(red, green).getbbox() or ImageChops.difference(red, blue).getbbox():
        return image
    is_bilevel = not any(red.histogram()[1:255])
    return red.convert("1") if is_bilevel else red


class PdfFormat(FileFormat):
    """The format ``pdf``."""

    ending = "searchable.pdf"  # a later run over the same folder does not take it for a scan
    content = "a PDF"
    needs_cells = True

    def writer(self, path: Path, pixels: PagePixels, note: Note) -> Writer:
        """See :meth:`FileFormat.writer`."""
        return PdfWriter(path, pixels, note)


FORMAT = PdfFormat()
