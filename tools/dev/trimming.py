"""Measures what a model gains by trimming white margins: ``python -P -m dotsctl.tools.dev.trimming --model demo``.

Drawn pages are laid on larger white sheets, as scans are, and read twice with the same limit of pixels: complete, and
after their margins are trimmed. Both readings take about the same operations, so the difference in errors is that of
the pixels which went to paper instead of print.

Needs the extra ``[test]`` or ``[train]`` for the fonts and the edit distance.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from dotsctl.client.cli.printing import exiting_on_error
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.model.checkpoint import read_json
from dotsctl.protocol.model.config import sizes
from dotsctl.protocol.model.directory import find_model
from dotsctl.protocol.model.layout import VisionSizes
from dotsctl.protocol.model.validation import read_limits
from dotsctl.protocol.parts import QUALITY_PIXELS, Quality
from dotsctl.tools.dev.evaluate.evaluation import Evaluation, evaluate
from dotsctl.tools.pages import fonts as page_fonts
from dotsctl.tools.pages.generator import STYLES
from dotsctl.tools.pages.truths import Truth, generated_pages
from PIL import Image

PATCHES_AN_EMBEDDING = 4


def with_margins(page: Truth, margin: float) -> Truth:
    """A drawn page in the middle of a white sheet; ``margin`` is the white on each side, as a share of the page."""
    if not isinstance(page.image, Image.Image):
        raise TypeError(f"{page.name} is no drawn page")
    width, height = page.image.size
    across, down = round(margin * width), round(margin * height)
    sheet = Image.new("RGB", (width + 2 * across, height + 2 * down), "white")
    sheet.paste(page.image, (across, down))
    return replace(page, image=sheet, elements=None)


def tower_operations(vision: VisionSizes, evaluation: Evaluation) -> float:
    """Mean operations of the vision tower for a page."""
    patches = [PATCHES_AN_EMBEDDING * reading.tokens["image"] for reading in evaluation.readings]
    return sum(map(vision.operations, patches)) / max(1, len(patches))


@click.command()
@click.option("--pages", "num_pages", default=40, show_default=True, type=click.IntRange(1), help="Pages to draw.")
@click.option("--margin", default=0.15, show_default=True, type=click.FloatRange(0, 1), help="White on each side.")
@click.option("--style", default="full", show_default=True, type=click.Choice(list(STYLES)), help="Drawn pages.")
@click.option("--fonts", default="everywhere", show_default=True, help="Families or groups, comma-separated.")
@click.option("--seed", default=1_000_000, show_default=True, help="Seed of the first drawn page.")
@click.option("--model", default="demo", show_default=True, help="Name or path of the model.")
def main(num_pages: int, margin: float, style: str, fonts: str, seed: int, model: str) -> None:
    """Print the characters read wrongly with and without trimmed margins."""
    with exiting_on_error():
        drawn = generated_pages(num_pages, seed, style, page_fonts.families(fonts))
        pages = [with_margins(page, margin) for page in drawn]
        for line in measure(pages, model):
            click.echo(line)


def measure(pages: list[Truth], model: str) -> Iterator[str]:
    """Read the pages at full and at balanced quality with one limit of pixels; a line for each.

    Raises:
        UsageError: the model's limit is above that of balanced quality, so that the two would differ in more.
    """
    from dotsctl.client.api import Client  # not for --help

    folder: Path = find_model(model)[1]
    limit = read_limits(folder).max_pixels
    most = QUALITY_PIXELS[Quality.BALANCED] or limit
    _, vision = sizes(read_json(folder, "config.json"))
    if limit > most:
        raise UsageError(f"{model} takes {limit} pixels a page, balanced quality {most}", "choose a smaller model")
    with Client(private=True, model=model) as client:
        for quality in (Quality.FULL, Quality.BALANCED):

            def read(images: Iterable[Any], quality: Quality = quality) -> Iterator[Any]:
                return client.ocr(images, task="text", quality=str(quality))

            found = evaluate(read, pages, "text")
            trimmed = "trimmed" if quality is Quality.BALANCED else "whole"
            yield (
                f"{trimmed:8} {found.total.error_rate:.1%} of {found.total.characters} characters read wrongly, "
                f"{tower_operations(vision, found) / 1e9:.2f} G operations of the tower a page"
            )


if __name__ == "__main__":
    main()
