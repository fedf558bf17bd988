"""A sheet that is a page of a PDF: reportlab writes it, and PDFium draws it as a viewer would."""

import io
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dotsctl.protocol.errors import MissingError
from dotsctl.tools.dev.page_sets.page_set import ink_box
from dotsctl.tools.pages.elements import Box, GeneratedPage
from dotsctl.tools.pages.generator import STYLES, generate_page
from dotsctl.tools.pages.sheet import Sheet, Type

Colour = tuple[int, int, int]
MARGIN_PX = 3
"""The margin that is searched for ink around the box that the metrics of a line give."""


class PdfPen:
    """The shapes of a sheet, in pixels from the top left, as Pillow's ImageDraw has them."""

    def __init__(self, canvas: Any, height: int) -> None:
        self._canvas, self._height = canvas, height

    def line(self, ends: Sequence[float], fill: Colour, width: int = 1) -> None:
        """Draw a line of (x0, y0, x1, y1)."""
        self._canvas.setStrokeColorRGB(*_share(fill))
        self._canvas.setLineWidth(width)
        self._canvas.line(ends[0], self._height - ends[1], ends[2], self._height - ends[3])

    def rectangle(self, box: Sequence[float], fill: Colour, outline: Colour | None = None) -> None:
        """Draw a filled rectangle."""
        self._begin(fill, outline)
        x0, y0, x1, y1 = box
        self._canvas.rect(x0, self._height - y1, x1 - x0, y1 - y0, fill=1, stroke=int(outline is not None))

    def ellipse(self, box: Sequence[float], fill: Colour) -> None:
        """Draw a filled ellipse."""
        self._begin(fill, None)
        x0, y0, x1, y1 = box
        self._canvas.ellipse(x0, self._height - y1, x1, self._height - y0, fill=1, stroke=0)

    def _begin(self, fill: Colour, outline: Colour | None) -> None:
        self._canvas.setFillColorRGB(*_share(fill))
        self._canvas.setStrokeColorRGB(*_share(outline or fill))
        self._canvas.setLineWidth(1)


@dataclass
class PdfSheet(Sheet):
    """A page whose lines and shapes go to a PDF of a point a pixel."""

    def __post_init__(self) -> None:
        self.setting = replace(self.setting, is_smooth=True)  # metrics that are not rounded to whole pixels
        self._buffer = io.BytesIO()
        self._canvas = _libraries()[0].Canvas(self._buffer, pagesize=self.image.size)
        self.paper: Colour = self.image.getpixel((0, 0))  # type: ignore[assignment]
        self.draw = PdfPen(self._canvas, self.image.height)  # type: ignore[assignment]
        self.draw.rectangle((0, 0, *self.image.size), fill=self.paper)

    def print(self, left: float, top: float, parts: Sequence[tuple[str, float]], kind: Type) -> Box:
        """Write parts of a line; return the box that the font's metrics give."""
        size_px = kind.face.size / kind.scale
        ascent, _ = kind.face.getmetrics()
        baseline = top + ascent / kind.scale
        self._canvas.setFont(_registered(str(kind.face.path)), size_px)
        self._canvas.setFillColorRGB(*_share(self.ink))
        for part, start in parts:
            self._canvas.drawString(left + start, self.image.height - baseline, part)
        last, start = parts[-1]
        return left, top, left + start + kind.length(last), top + kind.height

    def finish(self) -> GeneratedPage:
        """Draw the PDF with PDFium, and take the boxes of the ink in it."""
        _, _, _, pypdfium2 = _libraries()
        self._canvas.showPage()
        self._canvas.save()
        document = pypdfium2.PdfDocument(self._buffer.getvalue())
        mode = self.rng.choice((None, None, "print"))
        self.image = document[0].render(scale=1.0, optimize_mode=mode).to_pil().convert("RGB")
        document.close()
        for place, element in enumerate(self.elements):
            x0, y0, x1, y1 = element.box
            around = x0 - MARGIN_PX, y0 - MARGIN_PX, x1 + MARGIN_PX, y1 + MARGIN_PX
            found = ink_box(self.image, around, self.paper)
            if found and element.category != "Picture":
                self.elements[place] = replace(element, box=found)
        return super().finish()


def pdf_pages(
    rng: random.Random, grid: tuple[int, int], count: int, families: tuple[str, ...]
) -> Iterator[GeneratedPage]:
    """Yield clean pages of a grid of (rows, columns) cells that PDFium draws.

    Raises:
        MissingError: reportlab or pypdfium2 is not installed.
    """
    styles = [style for style in STYLES.values() if style.rows[0] <= grid[0] <= style.rows[1]]
    for _ in range(count):
        yield generate_page(rng, rng.choice(styles), families, grid, noise=0.0, sheet_type=PdfSheet)


def _share(colour: Colour) -> tuple[float, float, float]:
    return colour[0] / 255, colour[1] / 255, colour[2] / 255


def _registered(path: str) -> str:
    """Return reportlab's name of a font file."""
    _, metrics, fonts, _ = _libraries()
    if path not in metrics.getRegisteredFontNames():
        metrics.registerFont(fonts.TTFont(path, path))
    return path


def _libraries() -> tuple[Any, Any, Any, Any]:
    """Return reportlab's modules for pages, font metrics and fonts, and pypdfium2."""
    try:
        import pypdfium2
        from reportlab.pdfbase import pdfmetrics, ttfonts
        from reportlab.pdfgen import canvas
    except ImportError as error:
        raise MissingError(f"{error.name} is not installed", "pip install 'dotsctl[train]'") from None
    return canvas, pdfmetrics, ttfonts, pypdfium2
