"""The test for blank pages: models make text up for them (dots.ocr issue 292), so they are not decoded."""

import numpy as np
from PIL import Image

CHECKED_PX = 1200
"""Longest side to which a page is averaged down, which averages dust away; strokes of 6 pt print at 300 dpi stay."""
INK_LEVELS = 24
"""Least difference to the paper, of 255; scanner noise and JPEG blocks stay below it after averaging."""
BLANK_SHARE = 1e-5
"""Share of inked pixels below which a page is blank; a page number in 10 pt has three times as many."""


def is_blank(image: Image.Image) -> bool:
    """Return whether an RGB image shows paper and nothing else.

    It errs to one side: shadows, show-through and stains count as ink, and such a page is read as usual.
    """
    factor = max(1, max(image.size) // CHECKED_PX)
    pixels = np.asarray(image.reduce(factor) if factor > 1 else image, np.int16)  # (height, width, 3)
    paper = np.median(pixels[::4, ::4].reshape(-1, 3), axis=0)
    ink = np.abs(pixels - paper.astype(np.int16)).max(axis=2) >= INK_LEVELS  # (height, width)
    return bool(ink.mean() < BLANK_SHARE)
