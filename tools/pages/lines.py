"""Renders small plain pages, lines of one face on white: what the model that ships was trained on and is measured with.

Needs Pillow, numpy and matplotlib; the latter only for the DejaVu fonts that its wheel carries, so that a page
looks the same on every machine. Everything is a function of one ``random.Random``.
"""

import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from dotsctl.tools.pages.words import CHARACTERS, word
from PIL import Image, ImageDraw, ImageFont

CELL_PX = 28
"""Side of the square that becomes one embedding: 2x2 patches of 14 pixels."""
CELL_CHARACTERS = 4
"""Most characters that the auxiliary target names for one cell."""
NOTHING = len(CHARACTERS)
"""Class of the auxiliary target for "no further character in this cell"."""

FACES = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
)
"""Few on purpose: after an hour with twelve faces and larger pages the model misread 27 % of the characters."""


@dataclass(frozen=True)
class PageKind:
    """What the pages of one stage of the curriculum look like."""

    rows: tuple[int, int]
    """Fewest and most cells from top to bottom."""
    columns: tuple[int, int]
    max_lines: int
    faces: tuple[str, ...]
    jitter_px: int
    """The page is drawn up to this much larger or smaller than its cells and then resized, as a scan would be."""
    blank_share: float
    """Share of pages without any text, of any plain colour."""


@dataclass(frozen=True)
class RenderedPage:
    """One page with its truth."""

    image: Image.Image
    """RGB; its sides differ from whole cells by at most ``jitter_px``."""
    text: str
    """Lines joined by newlines."""
    cells: np.ndarray
    """(rows, columns, CELL_CHARACTERS) int64: indices into CHARACTERS of what stands in each cell, else NOTHING."""
    face: str
    """Font of the text; empty on a page without text."""


@cache
def _font(face: str, size_px: int) -> ImageFont.FreeTypeFont:
    import matplotlib  # heavy, and only its fonts are wanted

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"
    return ImageFont.truetype(str(path), size_px)


def _line(rng: random.Random, font: ImageFont.FreeTypeFont, width_px: float) -> str:
    """Words that fit into ``width_px``; some lines end early, as the last line of a paragraph does."""
    line = ""
    while True:
        longer = f"{line} {word(rng)}".strip()
        if font.getlength(longer) > width_px:
            return line
        line = longer
        if rng.random() < 0.08:
            return line


def _mark_cells(
    cells: np.ndarray, line: str, font: ImageFont.FreeTypeFont, left: float, middle: float, size_px: tuple[int, int]
) -> None:
    """Note in ``cells`` which characters of ``line`` have their centre in which cell."""
    rows, columns, _ = cells.shape
    width_px, height_px = size_px
    row = min(rows - 1, int(middle * rows / height_px))
    start = left
    for position, char in enumerate(line):
        end = left + font.getlength(line[: position + 1])
        column = min(columns - 1, int((start + end) / 2 * columns / width_px))
        start = end
        used = int((cells[row, column] < NOTHING).sum())
        if char != " " and used < CELL_CHARACTERS:
            cells[row, column, used] = CHARACTERS.index(char)


def render_page(rng: random.Random, kind: PageKind, rows: int, columns: int) -> RenderedPage:
    """Draw one page of about ``rows`` x ``columns`` cells."""
    width_px = columns * CELL_PX + rng.randint(-kind.jitter_px, kind.jitter_px)
    height_px = rows * CELL_PX + rng.randint(-kind.jitter_px, kind.jitter_px)
    cells = np.full((rows, columns, CELL_CHARACTERS), NOTHING, np.int64)
    if rng.random() < kind.blank_share:
        paper = (255, 255, 255) if rng.random() < 0.5 else tuple(rng.randrange(256) for _ in range(3))
        return RenderedPage(Image.new("RGB", (width_px, height_px), paper), "", cells, "")
    image = Image.new("RGB", (width_px, height_px), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    face = rng.choice(kind.faces)
    font = _font(face, rng.randint(15, 20))
    ascent, descent = font.getmetrics()
    pitch_px = ascent + descent + rng.randint(0, 6)
    ink = tuple(rng.randint(0, 70) for _ in range(3))
    top, left, lines = rng.randint(1, 8), rng.randint(1, 12), list[str]()
    while len(lines) < kind.max_lines and top + ascent + descent <= height_px:
        if line := _line(rng, font, width_px - 4 - left):
            draw.text((left, top), line, fill=ink, font=font)
            lines.append(line)
            _mark_cells(cells, line, font, left, top + (ascent + descent) / 2, (width_px, height_px))
        top += pitch_px
    return RenderedPage(image, "\n".join(lines), cells, face if lines else "")


def grid_of(rng: random.Random, kind: PageKind) -> tuple[int, int]:
    """Rows and columns of cells for the next page or batch of pages."""
    return rng.randint(*kind.rows), rng.randint(*kind.columns)


CURRICULUM = (
    PageKind((1, 1), (2, 6), 1, FACES, 0, 0.03),
    PageKind((1, 3), (4, 8), 3, FACES, 6, 0.03),
    PageKind((2, 6), (5, 9), 8, FACES, 10, 0.02),
    PageKind((3, 8), (6, 11), 12, FACES, 10, 0.02),
)
"""From one short line to whole pages; the last entry is what the trained model is said to read."""
