"""Generates complete pages with their truth; everything is a function of one ``random.Random``.

Sizes, type sizes and kinds of elements are those of a :class:`PageStyle`; the curriculum of the training is a list of
them, from a few plain lines to full pages.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from dotsctl.protocol.geometry import CELL_PX
from dotsctl.tools.pages import blocks
from dotsctl.tools.pages.blocks import BlockWriter
from dotsctl.tools.pages.elements import GeneratedPage
from dotsctl.tools.pages.noise import scanned, scanned_now_and_then
from dotsctl.tools.pages.sheet import Area, Sheet, TextStyle
from dotsctl.tools.pages.words import TrainingWords, Words, number
from PIL import Image

WHITE = (255, 255, 255)


@dataclass(frozen=True)
class PageStyle:
    """The appearance of pages."""

    rows: tuple[int, int]
    """Fewest and most cells of 28 px from top to bottom."""
    columns: tuple[int, int]
    body_px: tuple[int, int]
    """Smallest and largest type of the body."""
    plain_share: float
    """Share of pages with nothing but lines of text."""
    two_column_share: float
    noise_share: float
    """Share of pages that look scanned."""
    blank_share: float = 0.02
    furniture_share: float = 0.4
    """Share of pages with a header, and with a footer."""
    fewest_lines: int = 1
    """Fewest lines of a page with nothing else, as far as there is room."""


SMALL = PageStyle((3, 8), (5, 11), (18, 26), 0.7, 0.0, 0.15)
MEDIUM = PageStyle((6, 10), (8, 12), (18, 28), 0.4, 0.0, 0.25)
LARGE = PageStyle((10, 14), (10, 12), (18, 30), 0.3, 0.2, 0.25)
FULL = PageStyle((14, 20), (11, 14), (18, 32), 0.25, 0.3, 0.25)
"""Pages of up to 392x560 px, with type from 18 px. Type of 14 px takes a CPU hours more."""
WIDE = PageStyle((16, 28), (14, 20), (18, 32), 0.25, 0.35, 0.25)
"""Pages of up to 560x784 px, which is the model's limit of pixels."""
LONG = PageStyle((26, 28), (19, 20), (17, 22), 0.95, 0.3, 0.1, fewest_lines=40)
"""Full pages of 532x728 to 560x784 px: without them a reader loses its place where answers are longer than it knows."""
WHOLE = PageStyle((20, 40), (16, 28), (14, 36), 0.05, 0.5, 0.4)
"""Pages of up to 784x1120 px: for a GPU."""
STYLES = {"small": SMALL, "medium": MEDIUM, "large": LARGE, "full": FULL, "wide": WIDE, "long": LONG, "whole": WHOLE}

DENSE_PX = (16, 34)
"""Smallest and largest type of a dense page."""
BODY = (
    (blocks.text, 0.46),
    (blocks.heading, 0.18),
    (blocks.list_item, 0.16),
    (blocks.table, 0.1),
    (blocks.figure, 0.1),
)
"""The elements that follow each other in a column, with their shares."""


def grid_of(rng: random.Random, style: PageStyle) -> tuple[int, int]:
    """Rows and columns of cells for the next page or batch of pages."""
    return rng.randint(*style.rows), rng.randint(*style.columns)


def generate_page(
    rng: random.Random,
    style: PageStyle,
    families: tuple[str, ...],
    grid: tuple[int, int] | None = None,
    noise: float | None = None,
    words: Callable[[random.Random], Words] = TrainingWords,
    sheet_type: type[Sheet] = Sheet,
) -> GeneratedPage:
    """One page.

    Args:
        rng: the source of all random choices.
        style: its appearance.
        families: of which one is taken.
        grid: its rows and columns of cells; none: drawn from the style. Its sides differ from them by up to 8 px, as
            pages that are served do, but never so much that resizing gives another grid.
        noise: strength of the scan; none: that of the style.
        words: what its text is made of.
        sheet_type: what it is printed on.
    """
    rows, columns = grid or grid_of(rng, style)
    width, height = (CELL_PX * cells + rng.randint(-8, 8) for cells in (columns, rows))
    if rng.random() < style.blank_share:
        paper = (255, 255, 255) if rng.random() < 0.5 else tuple(rng.randrange(256) for _ in range(3))
        return GeneratedPage(Image.new("RGB", (width, height), paper), (), (), "")
    family = rng.choice(families)
    sheet = _sheet(rng, family, (width, height), sheet_type)
    writer = BlockWriter(sheet, words(rng), rng.randint(*style.body_px), rng.uniform(0, 0.35))
    margin = rng.uniform(2, 10) if width < 12 * CELL_PX else rng.uniform(8, 0.08 * width)
    area = Area(margin, rng.uniform(1, 10), width - max(3.0, margin * rng.uniform(0.4, 1)), height - 3.0)
    if rng.random() < style.plain_share:
        _lines(writer, area, style.fewest_lines)
    else:
        _document(writer, area, style)
    page = sheet.finish()
    return scanned_now_and_then(rng, page, style.noise_share) if noise is None else scanned(rng, page, noise)


def dense_page(
    rng: random.Random,
    families: tuple[str, ...],
    grid: tuple[int, int],
    noise_share: float = 0.35,
    words: Callable[[random.Random], Words] = TrainingWords,
) -> GeneratedPage:
    """A page full of lines, each of a family and size of its own: ten times the characters of a document.

    Args:
        rng: what decides.
        families: of which each line takes one.
        grid: rows and columns of cells.
        noise_share: share of pages that look scanned.
        words: what its text is made of.
    """
    height, width = (CELL_PX * cells + rng.randint(-8, 8) for cells in grid)
    sheet = _sheet(rng, families[0], (width, height))
    writer, top = BlockWriter(sheet, words(rng), 0, 0), rng.uniform(0, 6)
    while True:
        sheet.family = rng.choice(families)
        kind = sheet.type(rng.randint(*DENSE_PX), bold=rng.random() < 0.3, lead=rng.uniform(0, 0.15))
        if top + kind.pitch > height:
            return scanned_now_and_then(rng, sheet.finish(), noise_share)
        area = Area(rng.uniform(0, 10), top, width - 1.0, top + 1.5 * kind.pitch)
        (line,) = writer.wrapped("", area, kind, 1, 0.0)
        box = sheet.line(area.left, top, line, kind)
        sheet.add("Text", [box], line, line)
        top += kind.pitch


def _sheet(rng: random.Random, family: str, size: tuple[int, int], sheet_type: type[Sheet] = Sheet) -> Sheet:
    """Return an empty sheet of white or nearly white paper, with dark ink and a setting of its own."""
    paper = rng.choice((WHITE, WHITE, WHITE, _colour(rng, 215, 255)))
    ink = rng.choice(((0, 0, 0), _colour(rng, 0, 70), (rng.randint(0, 115),) * 3))
    return sheet_type(rng, Image.new("RGB", size, paper), family, ink, TextStyle.drawn(rng))


def _colour(rng: random.Random, least: int, most: int) -> tuple[int, int, int]:
    return rng.randint(least, most), rng.randint(least, most), rng.randint(least, most)


def _lines(writer: BlockWriter, area: Area, fewest: int) -> None:
    """Lines of one type from top to bottom, at least ``fewest`` if there is room; one element; many end early."""
    kind = writer.sheet.type(writer.body_px, lead=writer.lead, bold=writer.sheet.rng.random() < 0.3)
    most, ending = writer.sheet.rng.randint(fewest, max(fewest, 32)), writer.sheet.rng.choice((0.0, 0.03, 0.08))
    lines: list[str] = []
    while len(lines) < most and (len(lines) + 1) * kind.pitch <= area.height:
        lines += writer.wrapped("", area, kind, 1, ending)
    writer.print(lines, area, kind, "Text")


def _document(writer: BlockWriter, area: Area, style: PageStyle) -> None:
    """Header, title, one or two columns, footer; elements are noted in reading order."""
    rng = writer.sheet.rng
    small = writer.sheet.type(max(14.0, writer.body_px * 0.85))
    if rng.random() < style.furniture_share:
        line = writer.wrapped("", area, small, 1, 0.3)
        if writer.print(line, area, small, "Page-header"):
            area.top += rng.uniform(0, 10)
    footer = ""
    if rng.random() < style.furniture_share:
        footer = rng.choice((number(rng), f"Page {rng.randint(1, 400)}", writer.prose.words(1, 3)))
        area.bottom -= small.pitch + rng.uniform(4, 14)
    bottom = writer.sheet.image.height - 3.0
    if rng.random() < 0.5:
        blocks.title(writer, area)
    for column in _columns(rng, area, style):
        _fill(writer, column)
    if footer:
        width = small.length(footer)
        left = area.left + rng.choice((0.0, 0.5, 1.0)) * max(0.0, area.width - width)
        writer.print([footer], Area(left, bottom - small.pitch, area.right, bottom), small, "Page-footer")


def _columns(rng: random.Random, area: Area, style: PageStyle) -> list[Area]:
    if rng.random() >= style.two_column_share:
        return [area]
    gap = rng.uniform(0.04, 0.09) * area.width
    middle = (area.left + area.right) / 2
    left = Area(area.left, area.top, middle - gap / 2, area.bottom)
    return [left, Area(middle + gap / 2, area.top, area.right, area.bottom)]


def _fill(writer: BlockWriter, area: Area) -> None:
    """Elements below each other until the column is full or ends early."""
    rng = writer.sheet.rng
    least = area.top + rng.uniform(0.3, 1.0) * area.height
    misses = 0
    while area.top < least and misses < 3:
        (block,) = rng.choices([block for block, _ in BODY], [share for _, share in BODY])
        misses += not block(writer, area)
