"""The pages on which magnitudes are measured."""

import numpy as np
from dotsctl.encoder_worker.coreml.golden_page import draw_page, patches_of
from dotsctl.encoder_worker.image import Patches
from dotsctl.protocol.geometry import PATCH_PX
from PIL import Image, ImageDraw, ImageFont

DASHES_PATCHES = 240
TEXT_SIZE_PX = (14 * PATCH_PX, 24 * PATCH_PX)
SMALL_SIZE_PX = (6 * PATCH_PX, 10 * PATCH_PX)
LINES = (
    "Invoice 2031-07",
    "Zwölf große Boxer",
    "12,345.67   89%",
    "pack my box with",
    "five dozen jugs",
    "$ x^2 + y_1 = z $",
)


def drawn_pages() -> list[Patches]:
    """Four pages, 696 patches together: enough to see each layer, and one to two minutes at the size of dots.ocr.

    - Dashes in lines, the golden page of the Core ML builds: edges everywhere.
    - Lines of text with a ruled table and a wide margin, as users have them. Patches of a margin are known to collect
      the largest magnitudes of a vision transformer (T. Darcet and others, "Vision Transformers Need Registers", 2023).
    - A coloured gradient with black, white and saturated areas, the extremes of the pixels.
    - White paper: all patches equal, so that nothing averages out.
    """
    pictures = _text(), _colours(), Image.new("RGB", SMALL_SIZE_PX, "white")
    return [draw_page(DASHES_PATCHES), *map(patches_of, pictures)]


def _text() -> Image.Image:
    page = Image.new("RGB", TEXT_SIZE_PX, "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(18)
    for number, line in enumerate(LINES):
        draw.text((20, 20 + 26 * number), line, "black", font)
    for row in range(4):
        draw.line((20, 200 + 30 * row, 160, 200 + 30 * row), "black", 1)
        draw.line((20 + 46 * row, 200, 20 + 46 * row, 290), "black", 1)
    return page


def _colours() -> Image.Image:
    width, height = SMALL_SIZE_PX
    down, across = np.mgrid[0:height, 0:width]
    levels = np.stack([down * 255 // height, across * 255 // width, (down + across) % 256], axis=-1)
    levels[: height // 4, : width // 3] = (255, 0, 0)
    levels[: height // 4, width // 3 : 2 * width // 3] = 0
    levels[: height // 4, 2 * width // 3 :] = (0, 0, 255)
    return Image.fromarray(levels.astype(np.uint8))
