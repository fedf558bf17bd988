"""Find the white margins of a page, so that its pixels go to what is printed on it.

Ink is never cut: everything that is darker than the paper counts as ink, also dust, shadows and the dark border of a
scan. Where these reach the edge of the page nothing is trimmed there.
"""

import numpy as np
from dotsctl.protocol.geometry import CELL_PX, MAX_ASPECT, Window
from numpy.typing import NDArray
from PIL import Image

BLOCK_PX = 4
"""Least side of the blocks that are averaged, which averages the noise of a scanner away and keeps a full stop."""
BLOCKS_ACROSS = 400
"""Blocks along the shorter side of a page at least, where it has that many."""
WHITE_LEVEL = 225
"""Least level of the paper in each channel, of 255; a darker edge is a shadow, a table or a coloured page."""
INK_LEVELS = 12
"""Least difference of a block's mean to the paper in a channel; noise of a scanner and JPEG blocks stay below it."""
KEPT_SHARE = 0.02
"""Margin that is kept around the ink, as a share of the shorter side: 4 mm of A4."""
LEAST_GAIN = 0.03
"""Share of the page's area that must go; less is not worth another geometry."""


def find_window(image: Image.Image) -> Window | None:
    """Return the part of an upright RGB page inside its white margins; none: the complete page is taken.

    A page without ink, without clearly white edges, or with next to no margins is taken completely. The result depends
    on the pixels alone.
    """
    width, height = image.size
    side_px = max(BLOCK_PX, min(width, height) // BLOCKS_ACROSS)
    blocks = np.asarray(image.reduce(side_px))  # (rows, columns, 3) uint8, means of side_px x side_px pixels
    edge = np.concatenate([blocks[0], blocks[-1], blocks[:, 0], blocks[:, -1]])  # (2 * (rows + columns), 3)
    paper = np.median(edge, axis=0)  # (3,)
    if paper.min() < WHITE_LEVEL:
        return None
    darkest = (paper - INK_LEVELS).astype(np.uint8)
    flat = blocks.reshape(len(blocks), -1)  # (rows, columns * 3), which numpy compares thirty times as fast
    ink = flat <= np.tile(darkest, blocks.shape[1])  # (rows, columns * 3)
    rows = np.flatnonzero(ink.any(axis=1))
    columns = np.flatnonzero(ink.any(axis=0).reshape(-1, 3).any(axis=1))
    if not len(rows):
        return None
    kept_px = max(CELL_PX // 2, round(KEPT_SHARE * min(width, height)))
    x0, x1 = _span(columns, side_px, kept_px, width)
    y0, y1 = _span(rows, side_px, kept_px, height)
    area_left = (x1 - x0) * (y1 - y0) / (width * height)
    longest, shortest = max(x1 - x0, y1 - y0), min(x1 - x0, y1 - y0)
    if area_left > 1 - LEAST_GAIN or longest > MAX_ASPECT * shortest:
        return None
    return x0, y0, x1, y1


def _span(inked: NDArray[np.intp], side_px: int, kept_px: int, length_px: int) -> tuple[int, int]:
    """First and last pixel to keep along one axis, from the blocks with ink."""
    first, last = int(inked[0]) * side_px, (int(inked[-1]) + 1) * side_px
    return max(0, first - kept_px), min(length_px, last + kept_px)
