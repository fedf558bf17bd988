"""The lines of a page for formats that have boxes of lines and words; its pixels are read for them."""

from dotsctl.client.formats.format import PageSources
from dotsctl.client.results.ink_lines import InkLines
from dotsctl.client.results.lines import CellLines, lines_of
from dotsctl.client.results.page import Page


def page_lines(page: Page, sources: PageSources, *, header_footer: bool) -> tuple[CellLines, ...]:
    """Return the cells of a page with their lines; without pixels all lines are estimated.

    Raises:
        PageError: the page cannot be read again.
    """
    image = sources.pixels(page) if page.cells else None
    return lines_of(page.cells, InkLines(image) if image is not None else None, header_footer=header_footer)
