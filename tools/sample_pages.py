"""Draws the sample pages of the tests: ``python -P -m dotsctl.tools.sample_pages tests/pages``.

FOLDER gets a PNG and a text file with the truth for each page. The pages look like those that the demo model was
trained on: dark ink on white, DejaVu fonts from matplotlib's wheel, type of 20 to 22 px. The same
versions of Pillow and matplotlib always draw the same pixels.
"""

from dataclasses import dataclass
from pathlib import Path

import click
from dotsctl.protocol.errors import UsageError
from PIL import Image, ImageDraw, ImageFont

MARGIN_PX = 8


@dataclass(frozen=True)
class SamplePage:
    """One page of our own words."""

    name: str
    text: str
    face: str
    size_px: int
    """Of the font."""
    page_px: tuple[int, int]
    """Width and height."""
    ink: tuple[int, int, int]


SAMPLES = (
    SamplePage(
        "letter",
        "Dear Ms Keller,\n"
        "thank you for your letter of 3 May.\n"
        "The two books that you asked for\n"
        "will be sent on Monday, and the\n"
        "third one before the end of June.\n"
        "Please keep this note with them.\n"
        "Best wishes, Thomas Reed",
        "DejaVuSerif",
        20,
        (364, 224),
        (20, 20, 60),
    ),
    SamplePage(
        "invoice",
        "Invoice 20417\n"
        "Date: 12 June 2024\n"
        "4 chairs: 380.00\n"
        "1 table: 240.50\n"
        "2 lamps: 61.80\n"
        "Delivery: 35.00\n"
        "Total: 717.30\n"
        "Please pay within 14 days.",
        "DejaVuSans",
        22,
        (308, 280),
        (0, 0, 0),
    ),
    SamplePage(
        "notice",
        "NOTICE\nThe library is closed\non Friday, 9 August.\nBooks may be returned at\nthe side door until 6 pm.\n"
        "Open again: Monday, 8 am",
        "DejaVuSans-Bold",
        21,
        (330, 190),
        (40, 10, 10),
    ),
)


def draw(sample: SamplePage) -> Image.Image:
    """RGB image of a page.

    Raises:
        UsageError: the text does not fit on the page.
    """
    import matplotlib  # heavy, and only its fonts are wanted

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    font = ImageFont.truetype(str(fonts / f"{sample.face}.ttf"), sample.size_px)
    lines = sample.text.split("\n")
    pitch_px = sum(font.getmetrics()) + 4
    wide, high = MARGIN_PX + max(map(font.getlength, lines)) + 4, MARGIN_PX + len(lines) * pitch_px
    if wide > sample.page_px[0] or high > sample.page_px[1]:
        raise UsageError(f"{sample.name}: the text needs {wide:.0f}x{high} px, the page has {sample.page_px}")
    image = Image.new("RGB", sample.page_px, (255, 255, 255))
    pen = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        pen.text((MARGIN_PX, MARGIN_PX + number * pitch_px), line, fill=sample.ink, font=font)
    return image


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Write the sample pages and their texts into FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    for sample in SAMPLES:
        draw(sample).save(folder / f"{sample.name}.png", optimize=True)
        (folder / f"{sample.name}.txt").write_text(sample.text + "\n", encoding="utf-8")
        click.echo(f"{folder / sample.name}.png, .txt", err=True)


if __name__ == "__main__":
    main()
