"""A page with its boxes drawn on it, each in the colour of its category and with its number, as in the JSON."""

from pathlib import Path

from dotsctl.client.files.part_file import PartFiles
from dotsctl.client.files.written import WrittenFile
from dotsctl.client.formats.format import FileFormat, Note, Writer
from dotsctl.client.formats.pictures import PagePixels, png
from dotsctl.client.results.categories import colour
from dotsctl.client.results.cell import Cell
from dotsctl.client.results.page import Page
from PIL import Image, ImageDraw, ImageFont

FAST = 1
"""The compression of complete pages, which are viewed once and thrown away."""

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
    shown = label[:LONGEST_LABEL].encode("ascii", "replace").decode()  # the font has no other letters
    left, _, right, bottom = draw.textbbox((x0, y0), shown, font=font)
    draw.rectangle((left, y0, right + 2 * line_px, bottom + line_px), fill=colour(cell.category))
    draw.text((x0 + line_px, y0), shown, fill="white", font=font)


class OverlayWriter(Writer):
    """Pages with their boxes: one PNG file, or a folder with one for each page of a document that has several."""

    def __init__(self, path: Path, pixels: PagePixels) -> None:
        """``path`` is that of a single page; the folder of several has its name without the ending."""
        self._path, self._pixels = path, pixels
        self._files = PartFiles()

    def add(self, page: Page) -> None:
        """Draw the page; one that failed has no picture."""
        if page.error is None:
            several = overlay_folder(self._path) / f"page-{page.page:04}.png"
            drawn = draw_overlay(page, self._pixels.load(page))
            path = self._path if page.num_pages == 1 else several
            self._files.add(path, png(drawn, compress_level=FAST))

    def seal(self) -> list[WrittenFile]:
        """Flush the files to the disk."""
        return self._files.seal()

    def commit(self) -> None:
        """Give the files their names."""
        self._files.commit()

    def discard(self) -> None:
        """Remove the unfinished files."""
        self._files.discard()


def overlay_folder(path: Path) -> Path:
    """Return the folder for the pages of a document whose single page would be at ``path``."""
    return path.with_suffix("") if path.suffix else path.with_name(f"{path.name}.pages")


class OverlayFormat(FileFormat):
    """The format ``overlay``."""

    ending = "overlay.png"  # next to a scan of the same name no overlay takes its place
    content = "pictures"
    needs_cells = True

    def writer(self, path: Path, pixels: PagePixels, note: Note) -> Writer:
        """See :meth:`FileFormat.writer`."""
        return OverlayWriter(path, pixels)


FORMAT = OverlayFormat()
