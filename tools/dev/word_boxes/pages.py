"""Generated pages with the true box of every word."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from dotsctl.client.results.cell import Cell, PixelBox
from dotsctl.tools.pages.elements import Box, GeneratedPage
from dotsctl.tools.pages.fonts import EVERYWHERE
from dotsctl.tools.pages.generator import STYLES, generate_page
from dotsctl.tools.pages.lexicon import foreign_words
from dotsctl.tools.pages.sheet import Sheet, Type
from dotsctl.tools.pages.words import LexiconWords
from PIL import Image, ImageDraw, ImageFont

STYLE = replace(STYLES["whole"], blank_share=0.0)
HEBREW = range(0x5D0, 0x5EB)
ARABIC = (*range(0x627, 0x63B), *range(0x641, 0x64B))
"""The letters of Arabic, without marks."""
IDEOGRAPHS = range(0x4E00, 0x8000)
MARGIN_PX = 40


@dataclass(frozen=True)
class TrueLine:
    """A printed line, or an entry of a table."""

    element: int
    """The position of its element in the page's list."""
    words: tuple[Box, ...]
    """The boxes around the ink of its words, in reading order."""


@dataclass(frozen=True)
class TruePage:
    """A page with its cells and its true lines."""

    image: Image.Image
    cells: tuple[Cell, ...]
    lines: tuple[TrueLine, ...]


@dataclass(frozen=True)
class _MarkedPage(GeneratedPage):
    lines: tuple[TrueLine, ...] = ()


@dataclass
class _MarkedSheet(Sheet):
    """A sheet that notes the box of every word."""

    lines: list[TrueLine] = field(default_factory=list)

    def line(self, left: float, top: float, text: str, kind: Type, width: float | None = None) -> Box:
        """See :meth:`Sheet.line`; each word is printed once more, on a sheet of its own."""
        box = super().line(left, top, text, kind, width)
        scratch = Sheet(self.rng, Image.new("RGB", self.image.size), self.family, self.ink, self.setting)
        stretch = max(0.0, width - kind.length(text)) / max(1, text.count(" ")) if width else 0.0
        if not self.setting.is_smooth:
            left, top = float(round(left)), float(round(top))
        boxes, at = [], 0
        for word in text.split():
            at = text.index(word, at)
            starts = [
                kind.length(text[:place]) + stretch * text[:place].count(" ") for place in range(at, at + len(word))
            ]
            parts = list(zip(word, starts, strict=True)) if kind.tracking else [(word, starts[0])]
            boxes.append(scratch.print(left, top, parts, kind))
            at += len(word)
        self.lines.append(TrueLine(len(self.elements), tuple(boxes)))
        return box

    def finish(self) -> GeneratedPage:
        """The page as it is now, with its lines."""
        page = super().finish()
        return _MarkedPage(page.image, page.elements, page.glyphs, page.family, tuple(self.lines))


def latin_page(seed: int) -> TruePage:
    """A page of one or two columns with headings, lists, tables and pictures."""
    rng = random.Random(seed)
    words = partial(LexiconWords, lexicon=foreign_words())
    page = generate_page(rng, STYLE, EVERYWHERE, noise=0.0, words=words, sheet_type=_MarkedSheet)
    assert isinstance(page, _MarkedPage)
    cells = tuple(Cell(_outer(element.box), element.category, element.text) for element in page.elements)
    return TruePage(page.image, cells, page.lines)


def foreign_page(seed: int, script: str, font_file: str) -> TruePage:
    """A page of paragraphs in one column.

    Args:
        seed: of its random choices.
        script: ``hebrew`` or ``arabic``, with some words and numbers from left to right; or ``han``, without spaces.
        font_file: a font with the script's characters.
    """
    rng = random.Random(seed)
    size_px = rng.randint(18, 34)
    face = ImageFont.truetype(font_file, size_px)
    image = Image.new("RGB", (rng.randint(600, 900), rng.randint(700, 1000)), "white")
    cells: list[Cell] = []
    lines: list[TrueLine] = []
    top = MARGIN_PX
    while True:
        setter = _Paragraph(image, face, size_px, script == "han", len(cells))
        words = _words(rng, script)
        bottom = setter.set(words, top)
        if bottom > image.height - MARGIN_PX:
            return TruePage(image, tuple(cells), tuple(lines))
        setter.draw()
        boxes = [box for line in setter.lines for box in line.words]
        text = ("" if script == "han" else " ").join(words)
        cells.append(Cell(_outer(around_all(boxes)), "Text", text))
        lines += setter.lines
        top = bottom + round(0.8 * size_px)


class _Paragraph:
    """Sets words from one margin to the other, and notes their boxes."""

    def __init__(
        self, image: Image.Image, face: ImageFont.FreeTypeFont, size_px: int, is_han: bool, element: int
    ) -> None:
        self._image, self._face, self._size_px, self._is_han, self._element = image, face, size_px, is_han, element
        self._pen = ImageDraw.Draw(image)
        self._drawn: list[tuple[tuple[float, float], str]] = []
        self.lines: list[TrueLine] = []

    def set(self, words: Sequence[str], top: int) -> int:
        """Place all words; returns the bottom of the last line."""
        space = 0.0 if self._is_han else self._face.getlength(" ")
        room = self._image.width - 2 * MARGIN_PX
        line: list[str] = []
        for word in words:
            if line and sum(map(self._face.getlength, [*line, word])) + space * len(line) > room:
                self._finish(line, top, space)
                top += round(1.35 * self._size_px)
                line = []
            line.append(word)
        self._finish(line, top, space)
        return top + round(1.35 * self._size_px)

    def _finish(self, line: Sequence[str], top: int, space: float) -> None:
        """Place a line: of Han from the left, else from the right, with words of Latin letters in their own order."""
        at = 0.0
        boxes: dict[int, Box] = {}
        for place, word in enumerate(line) if self._is_han else _seen_from_right(line):
            length = self._face.getlength(word)
            x = MARGIN_PX + at if self._is_han else self._image.width - MARGIN_PX - at - length
            self._drawn.append(((x, top), word))
            x0, y0, x1, y1 = self._pen.textbbox((x, top), word, font=self._face)
            boxes[place] = float(x0), float(y0), float(x1), float(y1)
            at += length + space
        words = tuple(boxes[place] for place in range(len(line)))
        self.lines.append(TrueLine(self._element, (around_all(words),) if self._is_han else words))

    def draw(self) -> None:
        """Print what was placed."""
        for place, word in self._drawn:
            self._pen.text(place, word, fill="black", font=self._face)


def _seen_from_right(line: Sequence[str]) -> list[tuple[int, str]]:
    """Return the words of a line of right-to-left text as they follow each other from the right, with their places."""
    found: list[tuple[int, str]] = []
    own: list[tuple[int, str]] = []
    for each in enumerate(line):
        if each[1][0].isascii() and each[1][0].isalpha():
            own.insert(0, each)
            continue
        found += [*own, each]
        own = []
    return found + own


def _words(rng: random.Random, script: str) -> list[str]:
    """The words of a paragraph; of Han single characters."""
    if script == "han":
        return [
            chr(rng.choice(IDEOGRAPHS)) + "\N{FULLWIDTH COMMA}" * (rng.random() < 0.08)
            for _ in range(rng.randint(20, 120))
        ]
    letters = HEBREW if script == "hebrew" else ARABIC
    words = []
    for _ in range(rng.randint(8, 50)):
        kind = rng.random()
        if kind < 0.05:
            words += [rng.choice(foreign_words()) for _ in range(rng.randint(1, 3))]
        elif kind < 0.1:
            words.append(str(rng.randrange(10000)))
        else:
            words.append("".join(chr(rng.choice(letters)) for _ in range(rng.randint(2, 8))))
    return words


def rotated(page: TruePage, degrees: float) -> TruePage:
    """The page as a scan that lies askew, turned clockwise around its centre; boxes are those around turned ones."""
    image = page.image.rotate(-degrees, Image.Resampling.BICUBIC, expand=True, fillcolor="white")
    angle = math.radians(degrees)
    cx, cy = page.image.width / 2, page.image.height / 2

    def turned(box: Box) -> Box:
        points = [
            (
                image.width / 2 + (x - cx) * math.cos(angle) - (y - cy) * math.sin(angle),
                image.height / 2 + (x - cx) * math.sin(angle) + (y - cy) * math.cos(angle),
            )
            for x in box[::2]
            for y in box[1::2]
        ]
        return around_all([(x, y, x, y) for x, y in points])

    cells = tuple(replace(cell, bbox=_outer(turned(cell.bbox))) for cell in page.cells if cell.bbox is not None)
    lines = tuple(replace(line, words=tuple(map(turned, line.words))) for line in page.lines)
    return TruePage(image, cells, lines)


def around_all(boxes: Sequence[Box]) -> Box:
    """Return the box around some boxes, at least one."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def _outer(box: Box) -> PixelBox:
    """Return the whole pixels that a box touches."""
    x0, y0, x1, y1 = box
    return math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)
