"""The test for blank pages: models make text up for them (dots.ocr issue 292), so they are not decoded."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CHECKED_PX = 1200
"""Longest side to which a page is averaged down, which averages dust away; strokes of 6 pt print at 300 dpi stay."""
INK_LEVELS = 24
"""Least difference to the paper, of 255; scanner noise and JPEG blocks stay below it after averaging."""
BLANK_SHARE = 1e-5
"""Share of inked pixels below which a page is blank; a page number in 10 pt has three times as many."""
PAPER_STEP = 4
"""Every so many rows and columns a pixel is taken to find the colour of the paper."""


def is_blank(image: Image.Image) -> bool:
    """Return whether an RGB image shows paper and nothing else.

    It errs to one side: shadows, show-through and stains count as ink, and such a page is read as usual.
    """
    factor = max(1, max(image.size) // CHECKED_PX)
    pixels = np.asarray(image.reduce(factor) if factor > 1 else image)  # (height, width, 3) uint8
    return _count_ink(pixels) < BLANK_SHARE * (pixels.shape[0] * pixels.shape[1])


def _count_ink(pixels: NDArray[np.uint8]) -> int:
    """Return how many pixels (height, width, 3) differ from the paper by ``INK_LEVELS`` in some channel.

    A level is compared in its own type, with bounds that no level exceeds where there is no darker or lighter ink.
    """
    height, width, _ = pixels.shape
    paper = np.array([_median(pixels[::PAPER_STEP, ::PAPER_STEP, channel]) for channel in range(3)])
    lightest = np.minimum(paper + INK_LEVELS - 1, 255).astype(np.uint8)
    darkest = np.maximum(paper - INK_LEVELS + 1, 0).astype(np.uint8)
    levels = pixels.reshape(height, 3 * width)  # of a row, which numpy compares far faster than of a pixel
    inked = (levels > np.tile(lightest, width)) | (levels < np.tile(darkest, width))  # (height, 3 * width)
    return len(np.unique(np.flatnonzero(inked) // 3)) if inked.any() else 0


def _median(levels: NDArray[np.uint8]) -> int:
    """Return the median of 8-bit levels, rounded down, from their histogram."""
    below = np.cumsum(np.bincount(levels.ravel(), minlength=256))
    lower, upper = np.searchsorted(below, [(levels.size - 1) // 2, levels.size // 2], side="right")
    return int(lower + upper) // 2
