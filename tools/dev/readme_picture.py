"""The picture of the README: a page with its boxes next to the Markdown that the demo model reads.

``python -P -m dotsctl.tools.dev.readme_picture client/sample_pages/letter.png client/sample.png``
"""

import tempfile
import textwrap
from pathlib import Path

import click
from dotsctl.client.api import Client
from dotsctl.client.outputs.document import Document
from dotsctl.protocol.model.files import replacing
from dotsctl.tools.pages.fonts import font
from PIL import Image, ImageDraw

SCALE = 2
"""Enlargement of the page."""
MARGIN_PX = 24
TEXT_PX = 17
"""Size of the letters of the Markdown."""
LINE_PX = 25
COLUMNS = 52
"""Characters of a line of the Markdown."""
FAMILY = "dejavu-mono"
BORDER, INK, FAINT = "#d0d7de", "#1f2328", "#59636e"


@click.command()
@click.argument("page", type=click.Path(exists=True, dir_okay=False))
@click.argument("output", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--model", default="demo", show_default=True)
def main(page: str, output: Path, model: str) -> None:
    """Read PAGE and draw it with its boxes, with its Markdown next to it, into OUTPUT (PNG)."""
    with Client(model=model) as client, tempfile.TemporaryDirectory() as folder:
        document = client.read(page)
        overlay = Path(folder) / "page.overlay.png"
        document.save(overlay)
        with Image.open(overlay) as image:
            picture = side_by_side(image.convert("RGB"), document)
    with replacing(output) as partial:
        picture.save(partial, "PNG", optimize=True)


def side_by_side(page: Image.Image, document: Document) -> Image.Image:
    """Return the page at the left and the text of the document at the right, with a heading above each."""
    page = page.resize((page.width * SCALE, page.height * SCALE), Image.Resampling.LANCZOS)
    letters = font(FAMILY, TEXT_PX)
    lines = [part for line in document.markdown.splitlines() for part in textwrap.wrap(line, COLUMNS) or [""]]
    text_width = round(max(letters.getlength(line) for line in [*lines, "m" * COLUMNS])) + 2 * MARGIN_PX
    top = MARGIN_PX + 2 * LINE_PX
    height = max(page.height, len(lines) * LINE_PX + 2 * MARGIN_PX) + top + MARGIN_PX
    picture = Image.new("RGB", (page.width + text_width + 3 * MARGIN_PX, height), "white")
    draw = ImageDraw.Draw(picture)
    left = page.width + 2 * MARGIN_PX
    draw.text((MARGIN_PX, MARGIN_PX), "page and elements", FAINT, letters)
    draw.text((left, MARGIN_PX), "Markdown", FAINT, letters)
    picture.paste(page, (MARGIN_PX, top))
    draw.rectangle((MARGIN_PX - 1, top - 1, MARGIN_PX + page.width, top + page.height), outline=BORDER)
    draw.rectangle((left, top - 1, left + text_width, height - MARGIN_PX), outline=BORDER)
    for number, line in enumerate(lines):
        draw.text((left + MARGIN_PX, top + MARGIN_PX + number * LINE_PX), line, INK, letters)
    return picture


if __name__ == "__main__":
    main()
