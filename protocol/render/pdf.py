"""PDF through PDFium: how many pages a document has, and one page of it as pixels. PDFium is imported here alone.

A document stays open between its pages: to open one of 100,000 pages takes up to 0.6 s. PDFium may be used by one
thread at a time, and the render process has one for it.
"""

import io
import logging
import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any

from dotsctl.protocol.errors import REINSTALL, PageError
from dotsctl.protocol.geometry import PixelLimits, require_shape
from dotsctl.protocol.page_hint import PageHint
from dotsctl.protocol.parts import MAX_RGB_BYTES
from dotsctl.protocol.render.exchange import RenderAnswer
from dotsctl.protocol.render.scans import may_hold_scans, scan_of

if TYPE_CHECKING:
    from dotsctl.protocol.render.hint_plugin import HintPlugin

POINTS_PER_INCH = 72
LARGEST_INPUT_PX = PixelLimits().max_pixels
MAX_PAGE_PX = min(4 * LARGEST_INPUT_PX, MAX_RGB_BYTES // 3)
"""Most pixels that a page is rendered to: twice the width and height of the largest model input."""
SHRINK = 1 - 1e-6
"""Sizes in points are float32 and pypdfium2 rounds pixels up: an A4 scan of 1654 px would be drawn 1655 px wide, and
every pixel of it blurred."""
EMPTY_WITHIN_BYTES = 1 << 20
"""A larger file that cannot be opened is damaged, and not merely without pages."""
STRIP_ROWS = 256
IN_MEMORY_BYTES = 64 << 20
"""A smaller file is read at once; of a larger one PDFium reads pieces."""


class OpenPdf:
    """A PDF that is open."""

    is_reusable = True

    def __init__(self, stream: IO[bytes], password: str | None) -> None:
        """Open the document. Raises PageError with the remedy; it never shows the password."""
        self._library, self._stream = library(), stream
        size_bytes = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        try:
            source = stream if size_bytes > IN_MEMORY_BYTES else stream.read()
            self._document = self._library.PdfDocument(source, password=password)
        except self._library.PdfiumError as error:
            raise _explained(stream, password, error.err_code) from None
        with self._damage():
            has_forms = self._document.init_forms()  # before any page: else what was filled into a form is not drawn
        self._may_hold_scans = isinstance(source, bytes) and not has_forms and may_hold_scans(source)

    def contents(self) -> RenderAnswer:
        """Return the number of pages, at least 1."""
        return RenderAnswer(num_pages=len(self._document), is_document=True, is_pdf=True)

    def render(self, page: int, dpi: int) -> tuple[RenderAnswer, Iterator[bytes | memoryview]]:
        """Render a page, from 1, as a viewer shows it: turned upright, on white, with the content of its forms.

        A page that would have more than ``MAX_PAGE_PX`` pixels at ``dpi``, as a large drawing, is rendered at the
        resolution that fits: the model would be given no more of it anyway. PDFium does not report a ``UserUnit``, so
        a page that has one is rendered at ``dpi`` divided by it.

        Returns:
            Its header, and its rows from top to bottom in strips.

        Raises:
            PageError: the page cannot be read.
        """
        with self._damage(), closing(self._document[page - 1]) as opened:
            width_pt, height_pt = opened.get_size()
            scale = _scale(width_pt, height_pt, dpi)
            require_shape(math.ceil(width_pt * scale), math.ceil(height_pt * scale))
            if self._may_hold_scans and (scan := scan_of(self._library.raw, opened, scale)) is not None:
                size, rows = scan
                return RenderAnswer(size=size, stored=size), rows
            bitmap = opened.render(scale=scale, rev_byteorder=True)
        size = (bitmap.width, bitmap.height)
        return RenderAnswer(size=size, stored=size), _strips(bitmap)

    def has_text(self, page: int) -> bool:
        """Return whether a page, from 1, has characters, drawn or not. Raises PageError."""
        with self._damage(), closing(self._document[page - 1]) as opened, closing(opened.get_textpage()) as text:
            return bool(text.get_text_range().strip())

    def hint(self, page: int, plugin: "HintPlugin") -> PageHint | None:
        """Return the hint that a plugin finds on a page, from 1. Raises whatever the plugin raises."""
        with closing(self._document[page - 1]) as opened:
            return plugin.hint(opened)

    def close(self) -> None:
        """Close document and file."""
        self._document.close()
        self._stream.close()

    @contextmanager
    def _damage(self) -> Iterator[None]:
        failure: type[Exception] = self._library.PdfiumError
        try:
            yield
        except (failure, IndexError, ValueError) as error:  # ValueError: a page without an area
            raise PageError(f"this page of the PDF is damaged ({error})", "export the document again") from None


def _strips(bitmap: Any) -> Iterator[bytes | memoryview]:
    """The rows of a bitmap without what fills each of them to a multiple of four bytes."""
    row_bytes, stride = 3 * bitmap.width, bitmap.stride
    pixels = memoryview(bitmap.buffer).cast("B")
    try:
        if row_bytes == stride:
            yield pixels
        else:
            for top in range(0, bitmap.height, STRIP_ROWS):
                rows = range(top, min(top + STRIP_ROWS, bitmap.height))
                yield b"".join([pixels[row * stride : row * stride + row_bytes] for row in rows])
    finally:
        pixels.release()
        bitmap.close()


def _scale(width_pt: float, height_pt: float, dpi: int) -> float:
    """Return pixels per point: those of the resolution, or fewer where the page would be too large."""
    fitting = (MAX_PAGE_PX / max(width_pt * height_pt, 1e-6)) ** 0.5
    return min(dpi / POINTS_PER_INCH, fitting) * SHRINK


def library() -> ModuleType:
    """Import PDFium. Raises PageError, and not MissingError, for this input alone fails: the others are read."""
    try:
        import pypdfium2
    except ImportError:
        raise PageError("PDF is read with pypdfium2, which is not installed", REINSTALL) from None
    logger = logging.getLogger("pypdfium2")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.ERROR)  # for each page of an XFA form it would print how to build PDFium with XFA
    return pypdfium2


def _explained(stream: IO[bytes], password: str | None, code: int | None) -> PageError:
    """The error of a document that cannot be opened, for the user."""
    from pypdfium2 import raw

    if _is_empty(stream, password):
        # Checked first, because PDFium then reports the error of a document that failed before.
        return PageError(
            "this PDF has no pages, or its page tree is damaged",
            "repair it, as with qpdf IN.pdf OUT.pdf, or export it again",
        )
    if code == raw.FPDF_ERR_PASSWORD and password:
        return PageError("the password does not open this PDF", "check --password or DOTSCTL_PASSWORD")
    if code == raw.FPDF_ERR_PASSWORD:
        return PageError("this PDF is protected", "give its password with --password, or in DOTSCTL_PASSWORD")
    if code == raw.FPDF_ERR_SECURITY:
        return PageError("this PDF is encrypted in a way that PDFium does not support", "save it without a password")
    return PageError("this PDF is damaged", "export it again, or repair it, as with qpdf IN.pdf OUT.pdf")


def _is_empty(stream: IO[bytes], password: str | None) -> bool:
    """Return whether a document that was not opened is undamaged and merely has no pages."""
    from pypdfium2 import raw

    stream.seek(0)
    content = stream.read(EMPTY_WITHIN_BYTES + 1)
    if len(content) > EMPTY_WITHIN_BYTES:
        return False
    document = raw.FPDF_LoadMemDocument64(content, len(content), password.encode() if password else None)
    if not document:
        return False
    raw.FPDF_CloseDocument(document)
    return True
