"""A sheet that is printed on: draws lines, tables and pictures, and notes where every character stands."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from dotsctl.tools.pages.elements import Box, Element, GeneratedPage, Glyph
from dotsctl.tools.pages.fonts import font
from PIL import Image, ImageDraw, ImageFont

BULLETS = ("\N{BULLET}", "-", "*")
"""The marks that may stand before an item of a list; all are written as ``-``."""
SMOOTH_SCALE = 4
FAINT = 40
"""Ink of a lower coverage is outside of boxes, of 255."""


@dataclass
class Area:
    """A part of the sheet that is filled from the top."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """The width in pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """The height that is left, in pixels."""
        return self.bottom - self.top


@dataclass(frozen=True)
class TextStyle:
    """The setting and drawing of a page's text."""

    tracking: float = 0.0
    """Space added behind each character, as a share of the type size."""
    is_smooth: bool = False
    """Drawn four times as large and reduced, at fractions of a pixel, as browsers and PDF viewers do; else hinted."""
    gamma: float = 1.0
    """Exponent of the ink's coverage where it is smooth: below 1 the strokes are heavier."""
    is_justified: bool = False

    @classmethod
    def drawn(cls, rng: random.Random) -> "TextStyle":
        """Return a setting at random; two of five pages have the plain one."""
        if rng.random() < 0.4:
            return cls()
        tracking = rng.uniform(-0.03, 0.12) if rng.random() < 0.35 else 0.0
        return cls(tracking, rng.random() < 0.75, rng.uniform(0.7, 1.3), rng.random() < 0.3)


@dataclass(frozen=True)
class Type:
    """A face in a size, with the distance of its lines."""

    face: ImageFont.FreeTypeFont
    scale: int
    """Times that the face is larger than what is printed."""
    tracking: float
    """Pixels added behind each character."""
    lead: float
    """Pixels between two lines."""

    @property
    def height(self) -> float:
        """Pixels from the ascent to the descent."""
        return sum(self.face.getmetrics()) / self.scale

    @property
    def pitch(self) -> float:
        """Pixels from line to line."""
        return self.height + self.lead

    def length(self, text: str) -> float:
        """Return the advance of a text in pixels."""
        return self.face.getlength(text) / self.scale + self.tracking * len(text)


@dataclass
class Sheet:
    """One page in the making."""

    rng: random.Random
    image: Image.Image
    family: str
    ink: tuple[int, int, int]
    setting: TextStyle = TextStyle()
    elements: list[Element] = field(default_factory=list)
    glyphs: list[Glyph] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draw = ImageDraw.Draw(self.image)

    def type(self, size_px: float, *, bold: bool = False, lead: float = 0.0) -> Type:
        """Return the family in a size of at least 8 px; ``lead`` is a share of it."""
        scale = SMOOTH_SCALE if self.setting.is_smooth else 1
        face = font(self.family, max(8 * scale, round(size_px * scale)), bold)
        return Type(face, scale, self.setting.tracking * size_px, lead * size_px)

    def line(self, left: float, top: float, text: str, kind: Type, width: float | None = None) -> Box:
        """Print one line and note its characters; return the box around its ink.

        Args:
            left: where its first character begins, in pixels.
            top: where its ascent begins.
            text: without a line end.
            kind: its type.
            width: stretch the blanks so that the line is as wide; none: as wide as it is.
        """
        if not self.setting.is_smooth:  # Pillow's boxes of texts at fractions of a pixel are off
            left, top = float(round(left)), float(round(top))
        stretch = max(0.0, width - kind.length(text)) / max(1, text.count(" ")) if width else 0.0
        ends = [kind.length(text[:place]) + stretch * text[:place].count(" ") for place in range(len(text) + 1)]
        middle = top + kind.height / 2
        for start, end, character in zip(ends, ends[1:], text, strict=False):
            if character != " ":
                noted = "-" if character in BULLETS[:1] else character
                self.glyphs.append(Glyph(left + (start + end) / 2, middle, noted, len(self.elements)))
        if kind.tracking:
            parts = [(text[place], ends[place]) for place in range(len(text))]
        elif stretch:
            parts = [(word.group(), ends[word.start()]) for word in re.finditer(r"\S+", text)]
        else:
            parts = [(text, 0.0)]
        return self.print(left, top, parts, kind)

    def print(self, left: float, top: float, parts: Sequence[tuple[str, float]], kind: Type) -> Box:
        """Draw parts of a line, each with its distance from ``left``; return the box around their ink."""
        return self._smooth(left, top, parts, kind) if kind.scale > 1 else self._hinted(left, top, parts, kind)

    def _hinted(self, left: float, top: float, parts: Sequence[tuple[str, float]], kind: Type) -> Box:
        """Draw parts of a line at whole pixels."""
        boxes = []
        for part, start in parts:
            place = (float(round(left + start)), top)
            self.draw.text(place, part, fill=self.ink, font=kind.face)
            boxes.append(self.draw.textbbox(place, part, font=kind.face))
        return _around([box for box in boxes if box[2] > box[0]] or boxes)

    def _smooth(self, left: float, top: float, parts: Sequence[tuple[str, float]], kind: Type) -> Box:
        """Draw parts of a line at fractions of a pixel."""
        scale, room = kind.scale, round(0.5 * kind.height)
        x0, y0 = int(left) - room, int(top) - room
        size = (int(parts[-1][1] + kind.length(parts[-1][0])) + 3 * room, int(kind.height) + 3 * room)
        mask = Image.new("L", (size[0] * scale, size[1] * scale))
        pen = ImageDraw.Draw(mask)
        for part, start in parts:
            pen.text(((left + start - x0) * scale, (top - y0) * scale), part, fill=255, font=kind.face)
        mask = mask.reduce(scale)
        gamma = self.setting.gamma
        mask = mask.point([round(255 * (value / 255) ** gamma) for value in range(256)])
        self.image.paste(self.ink, (x0, y0), mask)
        found = mask.point([0] * FAINT + [255] * (256 - FAINT)).getbbox() or (0, 0, 0, 0)
        return float(x0 + found[0]), float(y0 + found[1]), float(x0 + found[2]), float(y0 + found[3])

    def add(self, category: str, boxes: list[Box], text: str = "", plain: str = "") -> None:
        """Record an element whose lines were just printed."""
        x0, y0, x1, y1 = _around(boxes)
        box = max(0.0, x0), max(0.0, y0), min(float(self.image.width), x1), min(float(self.image.height), y1)
        self.elements.append(Element(box, category, text, plain))

    def finish(self) -> GeneratedPage:
        """The page as it is now."""
        return GeneratedPage(self.image, tuple(self.elements), tuple(self.glyphs), self.family if self.glyphs else "")


def _around(boxes: Sequence[Box]) -> Box:
    """Return the box around some boxes."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return float(min(x0)), float(min(y0)), float(max(x1)), float(max(y1))


def picture(sheet: Sheet, box: Box) -> None:
    """Fill a box with something that is no text: a coloured ground, shapes and lines."""
    rng, draw = sheet.rng, sheet.draw
    colour = tuple(rng.randint(90, 235) for _ in range(3))
    draw.rectangle(box, fill=colour, outline=sheet.ink if rng.random() < 0.5 else None)
    x0, y0, x1, y1 = box
    for _ in range(rng.randint(2, 7)):
        xs = sorted(rng.uniform(x0 + 1, x1 - 1) for _ in range(2))
        ys = sorted(rng.uniform(y0 + 1, y1 - 1) for _ in range(2))
        shade = tuple(rng.randint(20, 255) for _ in range(3))
        kind = rng.random()
        if kind < 0.4:
            draw.ellipse((xs[0], ys[0], xs[1], ys[1]), fill=shade)
        elif kind < 0.7:
            draw.rectangle((xs[0], ys[0], xs[1], ys[1]), fill=shade)
        else:
            draw.line((xs[0], rng.choice(ys), xs[1], rng.choice(ys)), fill=shade, width=rng.randint(1, 4))
