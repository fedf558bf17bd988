"""Draws the sample pages of ``dotsctl demo``: ``python -P -m dotsctl.tools.dev.sample_pages client/sample_pages``.

FOLDER gets a PNG and a text file with the truth for each page: a letter, an invoice, a notice, a page of a book and a
table. Dark ink on white, DejaVu fonts from matplotlib's wheel, type of 20 to 22 px, as the demo model reads it best.
The same versions of Pillow and matplotlib always draw the same pixels.
"""

from dataclasses import dataclass
from pathlib import Path

import click
from dotsctl.protocol.errors import UsageError
from PIL import Image, ImageDraw, ImageFont

MARGIN_PX = 8
RULE = (150, 150, 150)
"""Ink of the rules of a table."""


@dataclass(frozen=True)
class SamplePage:
    """One page of our own words."""

    name: str
    text: str
    """Lines; entries of a table with a tab between them."""
    face: str
    size_px: int
    """The size of the font."""
    page_px: tuple[int, int]
    """Width and height."""
    ink: tuple[int, int, int]
    columns_px: tuple[int, ...] = (0,)
    """Left edges of the columns of a table, from the margin; others than a table have one column."""

    @property
    def truth(self) -> str:
        """The text as an answer to the task ``text`` has it."""
        return self.text.replace("\t", " ")


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
    SamplePage(
        "book",
        "24     The House by the River\n"
        "When the rain stopped at last, she\n"
        "went down to the water. The boat\n"
        "was gone, and with it the lamp,\n"
        "the oars and her father's coat.\n"
        '"Somebody was here," she said.\n'
        "   Nobody answered. Far away a\n"
        "dog barked twice, then all was\n"
        "quiet. She turned and ran back\n"
        "across the field to the house.",
        "DejaVuSerif",
        20,
        (364, 290),
        (30, 30, 30),
    ),
    SamplePage(
        "table",
        "Town\tHeight\tPeople\n"
        "Aarau\t388 m\t21,700\n"
        "Bern\t542 m\t134,600\n"
        "Genf\t375 m\t203,800\n"
        "Lugano\t273 m\t62,300\n"
        "Zug\t425 m\t31,400",
        "DejaVuSans",
        21,
        (312, 196),
        (0, 0, 0),
        (0, 96, 190),
    ),
)


def draw(sample: SamplePage) -> Image.Image:
    """RGB image of a page.

    Raises:
        UsageError: the text does not fit on the page.
    """
    import matplotlib  # heavy, and only its fonts are needed

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    font = ImageFont.truetype(str(fonts / f"{sample.face}.ttf"), sample.size_px)
    lines = sample.text.split("\n")
    pitch_px = sum(font.getmetrics()) + 4
    entries = [list(zip(sample.columns_px, line.split("\t"), strict=True)) for line in lines]
    wide = MARGIN_PX + max(left + font.getlength(text) for row in entries for left, text in row) + 4
    high = MARGIN_PX + len(lines) * pitch_px
    if wide > sample.page_px[0] or high > sample.page_px[1]:
        raise UsageError(f"{sample.name}: the text needs {wide:.0f}x{high} px, the page has {sample.page_px}")
    image = Image.new("RGB", sample.page_px, (255, 255, 255))
    pen = ImageDraw.Draw(image)
    for number, row in enumerate(entries):
        top = MARGIN_PX + number * pitch_px
        for left, text in row:
            pen.text((MARGIN_PX + left, top), text, fill=sample.ink, font=font)
        if len(row) > 1 and number:
            pen.line((MARGIN_PX, top - 1, wide, top - 1), fill=RULE)
    return image


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Write the sample pages and their texts into FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    for sample in SAMPLES:
        draw(sample).save(folder / f"{sample.name}.png", optimize=True)
        (folder / f"{sample.name}.txt").write_text(sample.truth + "\n", encoding="utf-8")
        click.echo(f"{folder / sample.name}.png, .txt", err=True)


if __name__ == "__main__":
    main()
