"""A sheet that is printed on: draws lines, tables and pictures, and notes where every character stands."""

import random
from dataclasses import dataclass, field

from dotsctl.tools.pages.elements import Box, Element, GeneratedPage, Glyph
from dotsctl.tools.pages.fonts import font
from PIL import Image, ImageDraw, ImageFont

BULLETS = ("\N{BULLET}", "-", "*")
"""What may stand before an item of a list; all are written as ``-``."""


@dataclass
class Area:
    """A part of the sheet that is filled from the top."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """In pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """What is left, in pixels."""
        return self.bottom - self.top


@dataclass(frozen=True)
class Type:
    """A face in a size, with the distance of its lines."""

    face: ImageFont.FreeTypeFont
    ascent: int
    descent: int
    lead: float
    """Pixels between two lines."""

    @property
    def pitch(self) -> float:
        """Pixels from line to line."""
        return self.ascent + self.descent + self.lead


@dataclass
class Sheet:
    """One page in the making."""

    rng: random.Random
    image: Image.Image
    family: str
    ink: tuple[int, int, int]
    elements: list[Element] = field(default_factory=list)
    glyphs: list[Glyph] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draw = ImageDraw.Draw(self.image)

    def type(self, size_px: float, *, bold: bool = False, lead: float = 0.0) -> Type:
        """The family in a size of at least 8 px; ``lead`` is a share of it."""
        face = font(self.family, max(8, round(size_px)), bold)
        ascent, descent = face.getmetrics()
        return Type(face, ascent, descent, lead * size_px)

    def line(self, left: float, top: float, text: str, kind: Type) -> Box:
        """Print one line and note its characters; the box around its ink."""
        left, top = float(round(left)), float(round(top))  # Pillow's boxes of texts at fractions of a pixel are off
        self.draw.text((left, top), text, fill=self.ink, font=kind.face)
        start, middle = left, top + (kind.ascent + kind.descent) / 2
        for place, character in enumerate(text, start=1):
            end = left + kind.face.getlength(text[:place])
            if character != " ":
                noted = "-" if character in BULLETS[:1] else character
                self.glyphs.append(Glyph((start + end) / 2, middle, noted, len(self.elements)))
            start = end
        x0, y0, x1, y1 = self.draw.textbbox((left, top), text, font=kind.face)
        return float(x0), float(y0), float(x1), float(y1)

    def add(self, category: str, boxes: list[Box], text: str = "", plain: str = "") -> None:
        """Note an element whose lines were just printed."""
        sides = list(zip(*boxes, strict=True))
        box = (
            max(0.0, min(sides[0])),
            max(0.0, min(sides[1])),
            min(float(self.image.width), max(sides[2])),
            min(float(self.image.height), max(sides[3])),
        )
        self.elements.append(Element(box, category, text, plain))

    def finish(self) -> GeneratedPage:
        """The page as it is now."""
        return GeneratedPage(self.image, tuple(self.elements), tuple(self.glyphs), self.family if self.glyphs else "")


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
