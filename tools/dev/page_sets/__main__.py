"""Makes sets of training pages that a browser or a PDF library sets: ``python -P -m dotsctl.tools.dev.page_sets
FILE.zip``.

A set is made once and read by any number of trainings (``train --sets FILE.zip``). Browser pages need Debian's
``chromium``, PDF pages ``pip install 'dotsctl[train]'``.
"""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import click
from dotsctl.client.cli.printing import exiting_on_error
from dotsctl.tools.dev.page_sets.browser_pages import browser_pages
from dotsctl.tools.dev.page_sets.page_set import write_set
from dotsctl.tools.dev.page_sets.pdf_sheet import pdf_pages
from dotsctl.tools.pages import fonts as page_fonts
from dotsctl.tools.pages.elements import GeneratedPage

GRIDS = ((6, 8), (8, 10), (10, 12), (14, 12), (20, 14), (24, 16), (28, 20))
"""Rows and columns of cells of 28 px: a batch of a training has pages of one grid, so a set has few grids."""


def set_pages(by: str, count: int, seed: int, families: tuple[str, ...]) -> Iterator[GeneratedPage]:
    """Return pages of all GRIDS in turn, about ``count`` in all.

    Raises:
        MissingError: the browser, a library or a font is not installed.
        DotsctlError: the browser failed.
    """
    for place, grid in enumerate(GRIDS):
        share = (count + place) // len(GRIDS)
        rng = random.Random(f"{by} pages {seed} {grid}")
        yield from browser_pages(rng, grid, share) if by == "browser" else pdf_pages(rng, grid, share, families)


@click.command()
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--by", required=True, type=click.Choice(["browser", "pdf"]), help="Program that sets and draws the pages."
)
@click.option("--pages", "count", default=700, show_default=True, type=click.IntRange(1), help="Pages of all sizes.")
@click.option("--fonts", default="first", show_default=True, help="Families of PDF pages, comma-separated.")
@click.option("--seed", default=0, show_default=True, help="Sets of different seeds have different pages.")
def main(target: Path, by: str, count: int, fonts: str, seed: int) -> None:
    """Write a set of training pages to TARGET."""
    with exiting_on_error():
        made = set_pages(by, count, seed, page_fonts.families(fonts))
        first = next(made)  # what is missing is reported before a file appears
        written = write_set(itertools.chain([first], made), target)
    click.echo(f"{target}: {written} pages, {target.stat().st_size / 1e6:.1f} MB", err=True)


if __name__ == "__main__":
    main()
