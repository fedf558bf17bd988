"""The resize rule of dots.ocr. Pure; ``page_geometry.py`` has the pixel spaces and what maps boxes between them."""

import math
from dataclasses import dataclass

from dotsctl.protocol.errors import PageError
from dotsctl.protocol.page_geometry import Box as Box
from dotsctl.protocol.page_geometry import PageGeometry as PageGeometry

PATCH_PX = 14
"""Pixels of one patch's side."""
CELL_PX = 28
"""Pixels of one embedding's side: patch 14 times merge 2."""
MAX_ASPECT = 200
"""Longest side over shortest side that the resize rule accepts."""

MOST_PIXELS = 50_000_000
"""Largest upper limit of a model: beyond it a page of patches alone has gigabytes."""

Window = tuple[int, int, int, int]
"""The part of an oriented page that is kept when its margins are trimmed: x0, y0, x1, y1 in whole pixels."""


@dataclass(frozen=True, slots=True)
class PixelLimits:
    """Fewest and most pixels of a resized page, from ``preprocessor_config.json``."""

    min_pixels: int = 3136
    max_pixels: int = 11_289_600

    def __post_init__(self) -> None:
        if not CELL_PX**2 <= self.min_pixels <= self.max_pixels <= MOST_PIXELS:
            raise ValueError(
                f"pixel limits must satisfy {CELL_PX**2} <= min <= max <= {MOST_PIXELS}, "
                f"not {self.min_pixels}, {self.max_pixels}"
            )

    def lowered(self, max_pixels: int | None) -> "PixelLimits":
        """The model's limits with that of a page, which can only lower the upper one; none: there is none."""
        if max_pixels is None or max_pixels >= self.max_pixels:
            return self
        return PixelLimits(min(self.min_pixels, max_pixels), max_pixels)


def require_shape(width_px: int, height_px: int) -> None:
    """Refuse a page that the resize rule cannot take. Raises PageError."""
    if max(height_px, width_px) > MAX_ASPECT * min(height_px, width_px):
        raise PageError(
            f"a page of {width_px}x{height_px} px is more than {MAX_ASPECT} times as long as it is wide",
            "cut it into pages",
        )


def smart_resize(height: int, width: int, limits: PixelLimits) -> tuple[int, int]:
    """Height and width in pixels, multiples of 28, that the encoder sees.

    Source: ``dots_ocr/utils/image_utils.py`` of rednote-hilab/dots.ocr @36d7248. ``round`` is Python's, which
    rounds halves to the even neighbour; the original relies on it.

    Raises:
        PageError: a side is zero or the aspect ratio is above 200.
    """
    if min(height, width) < 1:
        raise PageError(f"a page of {width}x{height} px has no pixels")
    require_shape(width, height)
    new_height = max(CELL_PX, round(height / CELL_PX) * CELL_PX)
    new_width = max(CELL_PX, round(width / CELL_PX) * CELL_PX)
    if new_height * new_width > limits.max_pixels:
        shrink = math.sqrt(height * width / limits.max_pixels)
        return _floor(height / shrink), _floor(width / shrink)
    if new_height * new_width < limits.min_pixels:
        grow = math.sqrt(limits.min_pixels / (height * width))
        new_height, new_width = _ceil(height * grow), _ceil(width * grow)
        if new_height * new_width > limits.max_pixels:
            shrink = math.sqrt(new_height * new_width / limits.max_pixels)
            return _floor(new_height / shrink), _floor(new_width / shrink)
    return new_height, new_width


def _floor(side: float) -> int:
    return max(CELL_PX, math.floor(side / CELL_PX) * CELL_PX)


def _ceil(side: float) -> int:
    return math.ceil(side / CELL_PX) * CELL_PX


def fit(source: tuple[int, int], orientation: int, limits: PixelLimits, window: Window | None = None) -> PageGeometry:
    """Geometry of a page under the plain resize rule, without letterboxing.

    Args:
        source: width and height as stored, in pixels.
        orientation: EXIF orientation, 1 to 8.
        limits: pixel limits of the model or of the user.
        window: the part of the oriented page that is resized; none: all of it.

    Raises:
        PageError: the page cannot be resized (see :func:`smart_resize`).
    """
    x0, y0, x1, y1 = window or (0, 0, *((source[1], source[0]) if orientation >= 5 else source))
    new_height, new_width = smart_resize(y1 - y0, x1 - x0, limits)
    scale = (new_width / (x1 - x0), new_height / (y1 - y0))
    return PageGeometry(
        source=source,
        orientation=orientation,
        resized=(new_width, new_height),
        scale=scale,
        offset=(-x0 * scale[0], -y0 * scale[1]) if window else (0.0, 0.0),
    )
