"""The text layer of a PDF page: characters with boxes, as the program that made the PDF or a scanner wrote them.

PDFium gives characters in the order of the page's content, which is mostly the reading order, and marks the ends of
lines. Invisible text counts: it is what a scanner read.
"""

import ctypes
import functools
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from dotsctl.protocol.page_geometry import Box
from dotsctl.protocol.page_hint import PageHint
from dotsctl.protocol.render.text_blocks import TextLine, limited, paragraphs, union
from dotsctl.protocol.worker.plugins import PluginDescription

NAME = "textlayer"
MAX_CHARACTERS = 50_000
"""Characters of a page that are read; the densest page of a newspaper has fewer."""
FAR = 1.5
"""Space that ends a line, in heights of what it draws: the next column, or the next cell of a table."""
TALLEST = 3.0
"""Height of the letters of a font, in heights of what a line of them draws, above which it is not believed."""
SLACK_PT = 1.0
LINE = re.compile(r"([^\r\n\x02]+)(\x02?)")
"""PDFium gives U+0002 for a hyphen at the end of a line, whose end it does not mark then."""
WORD = re.compile(r"\S+")
NOT_TEXT = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\ue000-\uf8ff\ufff0-\uffff]")
"""Control characters, halves of characters, and those that fonts use for symbols of their own."""
UNKNOWN = "\ufffd"
REPEATED = re.compile(r"(.)\1+")
MAX_CODE = 0x10FFFF
SAMPLED = 8
"""Number of characters of which one is looked up in the font; all of them where it has no meaning there."""
MOST_UNKNOWN = 0.2
"""Share of characters without a meaning above which a layer is useless."""
LEAST_LETTERS = 0.3
"""Share of letters and digits below which a layer is useless: codes of a font that were taken for characters."""
SURE_CHARACTERS = 20
"""Characters from which that share means something."""


class TextLayerHints:
    """The hint plugin."""

    description = PluginDescription(
        help="Text layer of a PDF page, with boxes; takes a few milliseconds.",
        needs_model=False,
        reads_document=True,
        turn=0,
    )

    def load(self) -> None:
        """Load nothing: PDFium is there where a document is open."""

    def hint(self, page: Any) -> PageHint | None:
        """Return the paragraphs of an open ``pypdfium2.PdfPage``; none: it has no text, or useless text."""
        with closing(page.get_textpage()) as layer:
            reader = _LayerReader(page, layer)
            lines = reader.lines()
        if reader.is_useless():
            return None
        return limited(paragraphs(lines), reader.size, NAME)


@dataclass
class _Part:
    """The part of a line that stands in one column."""

    words: list[str]
    box: Box
    span: tuple[float, float]
    """Upper and lower end of the letters of its font."""

    def line(self) -> TextLine:
        """Return the line that it is."""
        top, bottom = self.span
        is_sound = bottom - top <= TALLEST * (self.box[3] - self.box[1])
        return TextLine(" ".join(self.words), self.box, *(self.span if is_sound else (self.box[1], self.box[3])))


class _LayerReader:
    """Reads the characters of one page."""

    def __init__(self, page: Any, layer: Any) -> None:
        import pypdfium2.raw

        self._raw: ModuleType = pypdfium2.raw
        self._layer = layer.raw
        self.size: tuple[float, float] = page.get_size()
        self._place = _Placement(self._raw, page, self.size)
        self._sides = [ctypes.c_double() for _ in range(4)]
        self._loose = self._raw.FS_RECTF()
        self._known_texts: list[str] = []
        """The lines on the page, without white space and repeated characters, as in a line of dots."""
        self._num_unknown = 0
        """Characters on the page that have no meaning."""

    def lines(self) -> list[TextLine]:
        """The lines in the order of the page's content."""
        read, layer = self._raw.FPDFText_GetUnicode, self._layer
        codes = [read(layer, index) for index in range(min(self._raw.FPDFText_CountChars(layer), MAX_CHARACTERS))]
        content = "".join([chr(code) if 0 < code <= MAX_CODE else UNKNOWN for code in codes])
        return [line for found in LINE.finditer(content) for line in self._lines(found[1], found[2], found.start())]

    def is_useless(self) -> bool:
        """Return whether the characters that were read are no text of a language."""
        known = "".join(self._known_texts)
        if self._num_unknown > MOST_UNKNOWN * (self._num_unknown + len(known)):
            return True
        return len(known) >= SURE_CHARACTERS and sum(map(str.isalnum, known)) < LEAST_LETTERS * len(known)

    def _lines(self, text: str, hyphen: str, start: int) -> Iterator[TextLine]:
        """The parts of a line of PDFium; what is not on the page is left out."""
        rectangles = self._rectangles(start, start + len(text))
        pieces = [(text, rectangles, start)]
        if None in rectangles or _is_apart(rectangles):
            words = [(found[0], start + found.start()) for found in WORD.finditer(text)]
            pieces = [(word, self._rectangles(place, place + len(word)), place) for word, place in words]
        parts: list[_Part] = []
        for piece, found, place in pieces:
            boxes = [box for box in found if box is not None]
            known = self._known(piece, place).split() if boxes else []
            if not known:
                continue
            box = functools.reduce(union, boxes)
            if not parts or _is_far(parts[-1].box, box):
                parts.append(_Part([], box, self._span(place + len(piece) - len(piece.lstrip()), box)))
            parts[-1].words += known
            parts[-1].box = union(parts[-1].box, box)
        if parts and hyphen:
            parts[-1].words[-1] += "-"
        return (part.line() for part in parts)

    def _known(self, text: str, start: int) -> str:
        """A text without what has no meaning, which is counted."""
        layer, unmapped = self._layer, self._raw.FPDFText_HasUnicodeMapError
        if any(unmapped(layer, place) == 1 for place in range(start, start + len(text), SAMPLED)):
            text = "".join(UNKNOWN if unmapped(layer, start + at) == 1 else each for at, each in enumerate(text))
        known, unknown = NOT_TEXT.subn("", text)
        self._num_unknown += unknown
        self._known_texts.append(REPEATED.sub(r"\1", "".join(known.split())))
        return known

    def _rectangles(self, start: int, end: int) -> list[Box | None]:
        """The boxes of what characters draw, one for each piece of the content; none for one outside of the page."""
        left, top, right, bottom = self._sides
        found = []
        for index in range(self._raw.FPDFText_CountRects(self._layer, start, end - start)):
            if self._raw.FPDFText_GetRect(self._layer, index, left, top, right, bottom):
                found.append(self._place.box(left.value, bottom.value, right.value, top.value))
        return found

    def _span(self, index: int, box: Box) -> tuple[float, float]:
        """Upper and lower end of the letters of a character's font; those of the box where it is not upright."""
        loose = self._loose
        if self._raw.FPDFText_GetLooseCharBox(self._layer, index, loose):
            found = self._place.box(loose.left, loose.bottom, loose.right, loose.top)
            if found is not None and found[1] <= box[1] + SLACK_PT and found[3] >= box[3] - SLACK_PT:
                return found[1], found[3]
        return box[1], box[3]


def _is_apart(boxes: Sequence[Box | None]) -> bool:
    """Return whether there is a large space in a line."""
    total: Box | None = None
    for box in filter(None, boxes):
        if total is not None and _is_far(total, box):
            return True
        total = box if total is None else union(total, box)
    return False


def _is_far(line: Box, box: Box) -> bool:
    """Return whether a box stands too far away to belong to a line."""
    height = max(line[3] - line[1], box[3] - box[1])
    return max(line[0] - box[2], box[0] - line[2], line[1] - box[3], box[1] - line[3]) > FAR * height


class _Placement:
    """Maps boxes of a page's content to the page as viewers show it: cropped, turned, from its upper left corner."""

    def __init__(self, raw: ModuleType, page: Any, size: tuple[float, float]) -> None:
        box = raw.FS_RECTF()
        if not raw.FPDF_GetPageBoundingBox(page, box):
            raise ValueError("the page has no size")
        self._left, self._bottom, self._right, self._top = box.left, box.bottom, box.right, box.top
        self._quarters = raw.FPDFPage_GetRotation(page) % 4
        self._size = size

    def box(self, left: float, bottom: float, right: float, top: float) -> Box | None:
        """The part of a box that is on the page; none: its middle is not, or a side is no number."""
        match self._quarters:
            case 0:
                found = left - self._left, self._top - top, right - self._left, self._top - bottom
            case 1:
                found = bottom - self._bottom, left - self._left, top - self._bottom, right - self._left
            case 2:
                found = self._right - right, bottom - self._bottom, self._right - left, top - self._bottom
            case _:
                found = self._top - top, self._right - right, self._top - bottom, self._right - left
        width, height = self._size
        x0, y0, x1, y1 = found
        if not (0 <= x0 + x1 <= 2 * width and 0 <= y0 + y1 <= 2 * height) or not all(map(math.isfinite, found)):
            return None
        return max(x0, 0.0), max(y0, 0.0), min(max(x0, x1), width), min(max(y0, y1), height)
