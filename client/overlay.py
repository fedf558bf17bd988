"""A page with its boxes drawn on it, each in the colour of its category and with its number, as in the JSON."""

from dotsctl.client.categories import colour
from dotsctl.client.cell import Cell
from dotsctl.client.records import Page
from PIL import Image, ImageDraw, ImageFont

LABEL_SHARE = 1 / 90
"""Height of a label by the longest side of the page."""
SMALLEST_LABEL_PX = 9
LONGEST_LABEL = 24


def draw_overlay(page: Page, image: Image.Image) -> Image.Image:
    """The page with its boxes.

    Args:
        page: what was read.
        image: the page as viewers show it, RGB; it is not changed.
    """
    drawn = image.copy()
    size_px = max(SMALLEST_LABEL_PX, round(max(image.size) * LABEL_SHARE))
    font = ImageFont.load_default(size_px)
    draw = ImageDraw.Draw(drawn)
    for number, cell in enumerate(page.cells, start=1):
        if cell.bbox is not None:
            _draw(draw, cell, cell.bbox, f"{number} {cell.category}", font, max(1, size_px // 8))
    return drawn


def _draw(
    draw: ImageDraw.ImageDraw,
    cell: Cell,
    bbox: tuple[int, int, int, int],
    label: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    line_px: int,
) -> None:
    """One box, with its label at the beginning, within the page as far as the box is."""
    x0, y0, x1, y1 = bbox
    if cell.polygon:
        draw.polygon(cell.polygon, outline=colour(cell.category), width=line_px)
    else:
        draw.rectangle((x0, y0, x1, y1), outline=colour(cell.category), width=line_px)
    words = label[:LONGEST_LABEL].encode("ascii", "replace").decode()  # the font has no other letters
    left, _, right, bottom = draw.textbbox((x0, y0), words, font=font)
    draw.rectangle((left, y0, right + 2 * line_px, bottom + line_px), fill=colour(cell.category))
    draw.text((x0 + line_px, y0), words, fill="white", font=font)
