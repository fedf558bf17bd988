"""Lines and words of a page, each with its box: the level below cells. Pure.

A :class:`LineSource` finds where the text of a cell is printed. ``ink_lines.py`` is one that reads the pixels of the
page; where no source finds the text, ``estimated_lines.py`` spreads it over the box of the cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dotsctl.client.results.cell import Cell, PixelBox
from dotsctl.client.results.estimated_lines import estimated
from dotsctl.client.results.markdown import chosen
from dotsctl.client.results.placed import Line, PrintedWord
from dotsctl.client.results.printed import Printed, printed

__all__ = ["CellLines", "Line", "LineSource", "PrintedWord", "lines_of"]


class LineSource(Protocol):
    """Finds the lines of a cell on the page."""

    def lines(self, bbox: PixelBox, text: Printed) -> tuple[Line, ...] | None:
        """Return the lines of a text within a box, in reading order; none: nothing there fits the text."""


@dataclass(frozen=True, slots=True)
class CellLines:
    """A cell with its lines."""

    place: int
    """The place of the cell among those of its page, from 0."""
    cell: Cell
    lines: tuple[Line, ...]
    """The lines in reading order; none for a picture, and for a cell without a text or without a box."""
    is_rtl: bool = False
    """Whether the text runs from right to left."""


def lines_of(
    cells: Sequence[Cell], source: LineSource | None = None, *, header_footer: bool = True
) -> tuple[CellLines, ...]:
    """Return the cells of a page with their lines, in reading order.

    Args:
        cells: of one page.
        source: finds lines on the page; none: every line is estimated from the box of its cell.
        header_footer: whether the page's header and footer are part of it.
    """
    return tuple(_cell(place, cell, source) for place, cell in chosen(cells, header_footer=header_footer))


def _cell(place: int, cell: Cell, source: LineSource | None) -> CellLines:
    text = printed(cell)
    if cell.bbox is None or not text.pieces:
        return CellLines(place, cell, ())
    found = source.lines(cell.bbox, text) if source is not None and text.is_on_page else None
    return CellLines(place, cell, found or estimated(cell.bbox, text), text.is_rtl)
