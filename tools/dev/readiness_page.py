"""Draws the readiness page of the runtime: ``python -P -m dotsctl.tools.dev.readiness_page FILE``.

Dark ink on white, DejaVu Sans from matplotlib's wheel, 20 px. Prints the block of the words, which
``client/runtime/readiness_page.py`` states. The same versions of Pillow and matplotlib always draw the same pixels.
"""

import struct
import zlib
from pathlib import Path

import click
import numpy as np
from dotsctl.client.runtime.readiness_page import WORDS
from dotsctl.tools.pages.fonts import font as find_font
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZE = (336, 140)
"""Width and height in pixels, multiples of 28."""
TYPE_PX, LEADING_PX, MARGIN_PX = 20, 25, 8


def draw() -> NDArray[np.uint8]:
    """Return the page as grey levels (height, width)."""
    page = Image.new("L", SIZE, 255)
    font, pen = find_font("dejavu-sans", TYPE_PX), ImageDraw.Draw(page)
    line, y = "", MARGIN_PX - 2
    for word in WORDS:
        longer = f"{line} {word}".strip()
        if pen.textlength(longer, font) > SIZE[0] - 2 * MARGIN_PX:
            pen.text((MARGIN_PX, y), line, 0, font)
            longer, y = word, y + LEADING_PX
        line = longer
    pen.text((MARGIN_PX, y), line, 0, font)
    return np.asarray(page)


def png(levels: NDArray[np.uint8]) -> bytes:
    """Return a PNG of grey levels (height, width) whose rows have no filter."""
    height, width = levels.shape
    rows = np.zeros((height, width + 1), np.uint8)  # a filter byte of 0 before each row
    rows[:, 1:] = levels
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def main(file: Path) -> None:
    """Write the readiness page to FILE and print the block of its words."""
    levels = draw()
    file.write_bytes(png(levels))
    ys, xs = np.nonzero(levels < 128)
    click.echo(f"block of the words: {xs.min()}, {ys.min()}, {xs.max() + 1}, {ys.max() + 1}")


if __name__ == "__main__":
    main()
