"""Converts a page image to the rows that the vision tower takes. Pillow and numpy only.

Source of the pixel pipeline: ``Qwen2VLImageProcessor`` of transformers with ``temporal_patch_size`` 1, which is what
the ``preprocessor_config.json`` of dots.ocr requires.
"""

from dataclasses import dataclass

import numpy as np
from dotsctl.protocol.geometry import PATCH_PX, PageGeometry, PixelLimits, Window, fit
from numpy.typing import NDArray
from PIL import Image

MERGE = 2
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""The standard deviations of red, green and blue; CLIP's."""


def _normalised() -> NDArray[np.float32]:
    """(3, 256) value of each channel and 8-bit level.

    Rounded as transformers does it: scaled in float64, normalised in float32.
    """
    levels = (np.arange(256, dtype=np.float64) * (1 / 255)).astype(np.float32)
    mean, deviation = np.array(MEAN, np.float32)[:, None], np.array(DEVIATION, np.float32)[:, None]
    return (levels - mean) / deviation


NORMALISED = _normalised()


@dataclass(frozen=True)
class Patches:
    """One page as the tower takes it."""

    values: NDArray[np.float32]
    """(num_patches, 588): channel, row, column of each 14x14 patch; the four patches of a 2x2 block follow each
    other."""
    grid: tuple[int, int]
    """Patches from top to bottom and from left to right; both even."""
    geometry: PageGeometry


def resize_window(image: Image.Image, size: tuple[int, int], window: Window | None = None) -> Image.Image:
    """Resize the window of an image, or all of it, to (width, height) by cubic interpolation."""
    if window is None and image.size == size:
        return image
    return image.resize(size, Image.Resampling.BICUBIC, window)


def patchify(
    image: Image.Image,
    source: tuple[int, int],
    orientation: int,
    limits: PixelLimits,
    window: Window | None = None,
) -> Patches:
    """Resize an oriented RGB image by the rule of dots.ocr and cut it into patches.

    With a ``window`` only that part of it is used; boxes still map to the page.
    """
    geometry = fit(source, orientation, limits, window)
    image = resize_window(image, geometry.resized, window)
    pixels = np.asarray(image)  # (height, width, 3) uint8
    rows, columns = pixels.shape[0] // PATCH_PX, pixels.shape[1] // PATCH_PX
    blocks = pixels.reshape(rows // MERGE, MERGE, PATCH_PX, columns // MERGE, MERGE, PATCH_PX, 3)
    blocks = blocks.transpose(6, 0, 3, 1, 4, 2, 5)  # (3, rows/2, columns/2, 2, 2, 14, 14)
    levels = blocks.reshape(3, rows * columns, PATCH_PX**2)  # (3, num_patches, 196)
    values = np.empty((rows * columns, 3, PATCH_PX**2), np.float32)
    for channel in range(3):
        values[:, channel] = NORMALISED[channel][levels[channel]]
    values = values.reshape(rows * columns, 3 * PATCH_PX**2)  # (num_patches, 588)
    return Patches(values, (rows, columns), geometry)
