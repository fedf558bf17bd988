"""Prints how many lines and words of generated pages are found by ink projection."""

from collections.abc import Iterator
from pathlib import Path

import click
from dotsctl.client.results.ink_lines import InkLines
from dotsctl.client.results.lines import lines_of
from dotsctl.tools.dev.word_boxes.pages import TruePage, foreign_page, latin_page, rotated
from dotsctl.tools.dev.word_boxes.score import WordScore, score
from dotsctl.tools.pages.fonts import font

LEAST = {"upright": (0.97, 0.90), "skewed": (0.90, 0.0)}
"""The shares of lines and of words that must be found."""


def pages(kind: str, number: int, seed: int, han_font: str | None) -> Iterator[TruePage]:
    """Yield pages of one kind: ``latin``, ``hebrew``, ``arabic`` or ``han``."""
    file = han_font if kind == "han" else str(font("dejavu-sans", 20).path)
    for each in range(seed, seed + number):
        yield latin_page(each) if kind == "latin" else foreign_page(each, kind, file or "")


@click.command()
@click.option("--pages", "number", default=60, show_default=True, help="Number of pages.")
@click.option("--seed", default=1, show_default=True, help="Seed of the first page.")
@click.option("--skew", default=0.0, show_default=True, help="Degrees by which pages are turned.")
@click.option(
    "--han-font", type=click.Path(exists=True), help="Font with Han characters; without it they are left out."
)
@click.option("--check", is_flag=True, help="Exit with 1 when fewer lines or words are found than required.")
@click.option("--worst", type=click.Path(path_type=Path), help="Write pages with missing words to this folder, drawn.")
def main(number: int, seed: int, skew: float, han_font: str | None, check: bool, worst: Path | None) -> None:
    """Measure lines and words by ink projection."""
    foreign = number // 10
    kinds = {"latin": number - foreign * (3 if han_font else 2), "hebrew": foreign, "arabic": foreign}
    kinds |= {"han": foreign} if han_font else {}
    total = WordScore()
    for kind, count in kinds.items():
        part = WordScore()
        for place, page in enumerate(pages(kind, count, seed, han_font)):
            page = rotated(page, skew) if skew else page
            found = lines_of(page.cells, InkLines(page.image))
            own = score(page, found)
            part += own
            if worst is not None and own.word_share < 0.97:
                _draw(page, found, worst / f"{kind}-{place}-{own.words - own.words_found}.png")
        click.echo(_line(kind, count, part))
        total += part
    click.echo(_line("all", number, total))
    lines, words = LEAST["skewed" if skew else "upright"]
    if check and (total.line_share < lines or total.word_share < words):
        raise SystemExit(1)


def _line(name: str, number: int, found: WordScore) -> str:
    return (
        f"{name:8} {number:3} pages  lines {found.line_share:7.2%} of {found.lines:5}  "
        f"words {found.word_share:7.2%} of {found.words:5}  estimated lines {found.estimated}"
    )


def _draw(page: TruePage, found: object, path: Path) -> None:
    from PIL import ImageDraw

    image = page.image.convert("RGB").copy()
    pen = ImageDraw.Draw(image)
    for line in page.lines:
        for box in line.words:
            pen.rectangle(box, outline="green")
    for cell in found:  # type: ignore[attr-defined]
        for line in cell.lines:
            for word in line.words:
                pen.rectangle(word.bbox, outline="red")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


if __name__ == "__main__":
    main()
