"""PDF through PDFium: how many pages a document has, and one page of it as pixels. PDFium is imported here alone.

A page opens its document, is rendered, and closes both. That costs 1 ms of the 73 ms of a scanned A4 page at 200 dpi
(9 ms in a document of 3000 pages), and it buys that no document is open between pages, that nothing is left to close
when a caller breaks off, and that one lock is enough: PDFium may be used by one thread at a time.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import ModuleType
from typing import IO, Any

from dotsctl.protocol.errors import PageError
from dotsctl.protocol.geometry import PixelLimits
from dotsctl.protocol.parts import MAX_RGB_BYTES

SIGNATURE = b"%PDF-"
SIGNATURE_WITHIN_BYTES = 1024
"""Readers accept a header that begins anywhere in so many bytes; mail programs and scanners put lines before it."""
POINTS_PER_INCH = 72
LARGEST_INPUT_PX = PixelLimits().max_pixels
MAX_PAGE_PX = min(4 * LARGEST_INPUT_PX, MAX_RGB_BYTES // 3)
"""Most pixels that a page is rendered to: twice the width and height of the largest model input."""
SHRINK = 1 - 1e-6
"""Sizes in points are float32 and pypdfium2 rounds pixels up: an A4 scan of 1654 px would be drawn 1655 px wide, and
every pixel of it blurred."""
EMPTY_WITHIN_BYTES = 1 << 20
"""A larger file that cannot be opened is damaged, and not merely without pages."""
ONE_AT_A_TIME = threading.Lock()


def count_pages(stream: IO[bytes], password: str | None) -> int:
    """Number of pages, at least 1. Raises PageError with the remedy; it never shows the password."""
    with _document(stream, password) as document:
        return len(document)


def render_page(stream: IO[bytes], page: int, dpi: int, password: str | None) -> tuple[bytes, int, int]:
    """Page number ``page``, from 1, as a viewer shows it: turned upright, on white, with what forms were filled with.

    A page that would have more than ``MAX_PAGE_PX`` pixels at ``dpi``, as a large drawing, is rendered at the
    resolution that fits: the model would be given no more of it anyway. PDFium does not tell of a ``UserUnit``, so a
    page that has one is rendered at ``dpi`` divided by it.

    Returns:
        RGB bytes of shape (height, width, 3), width, height in pixels.

    Raises:
        PageError: the document or the page cannot be read.
    """
    with _document(stream, password) as document:
        failure: type[Exception] = _library().PdfiumError
        try:
            document.init_forms()  # before any page: without it what was filled into a form is not drawn
            with closing(document[page - 1]) as opened:
                width_pt, height_pt = opened.get_size()
                scale = _scale(width_pt, height_pt, dpi)
                with closing(opened.render(scale=scale, rev_byteorder=True)) as bitmap:
                    pixels = bitmap.to_numpy()  # (height, width, 3) uint8
                    return pixels.tobytes(), bitmap.width, bitmap.height
        except (failure, IndexError, ValueError) as error:  # ValueError: a page without an area
            raise PageError(f"this page of the PDF is damaged ({error}): export the document again") from None


def _scale(width_pt: float, height_pt: float, dpi: int) -> float:
    """Pixels per point: as the resolution asks for, or fewer where the page would be too large."""
    fitting = (MAX_PAGE_PX / max(width_pt * height_pt, 1e-6)) ** 0.5
    return min(dpi / POINTS_PER_INCH, fitting) * SHRINK


def _library() -> ModuleType:
    """Import PDFium. Raises PageError, and not MissingError, for this input alone fails: the others are read."""
    try:
        import pypdfium2
    except ImportError:
        raise PageError("PDF is read with pypdfium2, which is not installed: pip install 'dotsctl[pdf]'") from None
    logger = logging.getLogger("pypdfium2")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.ERROR)  # for each page of an XFA form it would print how to build PDFium with XFA
    return pypdfium2


@contextmanager
def _document(stream: IO[bytes], password: str | None) -> Iterator[Any]:
    """The document, open while nobody else uses PDFium. Raises PageError."""
    library = _library()
    with ONE_AT_A_TIME:
        try:
            document = library.PdfDocument(stream, password=password)
        except library.PdfiumError as error:
            raise _explained(stream, password, error.err_code) from None
        with closing(document):
            yield document


def _explained(stream: IO[bytes], password: str | None, code: int | None) -> PageError:
    """Why a document cannot be opened, for the user."""
    from pypdfium2 import raw

    if _is_empty(stream, password):
        # Asked first, for PDFium then tells the error of whichever document failed before.
        return PageError("this PDF has no pages: export it again")
    if code == raw.FPDF_ERR_PASSWORD and password:
        return PageError("the password does not open this PDF: check --password or DOTSCTL_PASSWORD")
    if code == raw.FPDF_ERR_PASSWORD:
        return PageError("this PDF is protected: give its password with --password, or in DOTSCTL_PASSWORD")
    if code == raw.FPDF_ERR_SECURITY:
        return PageError("this PDF is encrypted in a way that PDFium does not know: save it without a password")
    return PageError("this PDF is damaged: export it again, or repair it, as with qpdf IN.pdf OUT.pdf")


def _is_empty(stream: IO[bytes], password: str | None) -> bool:
    """Whether a document that was not opened is whole and merely has no pages."""
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
