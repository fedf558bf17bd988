"""Page geometry: the resize rule of dots.ocr and the mapping of boxes between model and source pixels. Pure.

Three pixel spaces:

* *source*: the image as it is stored, before its EXIF orientation is applied;
* *oriented*: the image as a viewer shows it;
* *resized*: what the encoder saw; the model's boxes are in these pixels.
"""

import math
from dataclasses import dataclass

from dotsctl.protocol.errors import PageError

PATCH_PX = 14
"""Pixels of one patch's side."""
CELL_PX = 28
"""Pixels of one embedding's side: patch 14 times merge 2."""
MAX_ASPECT = 200
"""Longest side over shortest side that the resize rule accepts."""

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 with the origin at the top left."""
Window = tuple[int, int, int, int]
"""The part of an oriented page that is kept when its margins are trimmed: x0, y0, x1, y1 in whole pixels."""


@dataclass(frozen=True, slots=True)
class PixelLimits:
    """Fewest and most pixels of a resized page, from ``preprocessor_config.json``."""

    min_pixels: int = 3136
    max_pixels: int = 11_289_600

    def __post_init__(self) -> None:
        if not CELL_PX**2 <= self.min_pixels <= self.max_pixels:
            raise ValueError(f"pixel limits must satisfy 784 <= min <= max, not {self.min_pixels}, {self.max_pixels}")

    def lowered(self, max_pixels: int | None) -> "PixelLimits":
        """The model's limits with that of a page, which can only lower the upper one; none: there is none."""
        if max_pixels is None or max_pixels >= self.max_pixels:
            return self
        return PixelLimits(min(self.min_pixels, max_pixels), max_pixels)


def smart_resize(height: int, width: int, limits: PixelLimits) -> tuple[int, int]:
    """Height and width in pixels, multiples of 28, that the encoder sees.

    Source: ``dots_ocr/utils/image_utils.py`` of rednote-hilab/dots.ocr @36d7248. ``round`` is Python's, which
    rounds halves to the even neighbour; the original relies on it.

    Raises:
        PageError: a side is zero or the aspect ratio is above 200.
    """
    if min(height, width) < 1:
        raise PageError(f"a page of {width}x{height} px has no pixels")
    if max(height, width) / min(height, width) > MAX_ASPECT:
        raise PageError(
            f"a page of {width}x{height} px is more than {MAX_ASPECT} times as long as it is wide: cut it into pages"
        )
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


@dataclass(frozen=True, slots=True)
class PageGeometry:
    """How a source page became the pixels that the encoder saw. All sizes are (width, height) in pixels."""

    source: tuple[int, int]
    orientation: int
    """EXIF orientation, 1 to 8; 1 is upright."""
    resized: tuple[int, int]
    scale: tuple[float, float]
    """Resized pixels per oriented pixel, in x and in y."""
    offset: tuple[float, float] = (0.0, 0.0)
    """Where the oriented page's origin lies in the resized image; negative where a margin was trimmed."""
    resolution_loss: float = 0.0
    """Share of the resolution of the resize rule that was lost, in the axis that loses more; 0 to 1."""

    def __post_init__(self) -> None:
        if not 1 <= self.orientation <= 8:
            raise ValueError(f"EXIF orientation must be 1 to 8, not {self.orientation}")
        if min(*self.source, *self.resized, *self.scale) <= 0:
            raise ValueError("sizes and scales of a page must be positive")

    @property
    def oriented(self) -> tuple[int, int]:
        """Width and height as a viewer shows the page."""
        width, height = self.source
        return (height, width) if self.orientation >= 5 else (width, height)

    def box_to_oriented(self, box: Box) -> Box:
        """Map a box from resized to oriented pixels and clamp it to the page."""
        width, height = self.oriented
        x0, x1 = sorted((v - self.offset[0]) / self.scale[0] for v in (box[0], box[2]))
        y0, y1 = sorted((v - self.offset[1]) / self.scale[1] for v in (box[1], box[3]))
        return (_clamp(x0, width), _clamp(y0, height), _clamp(x1, width), _clamp(y1, height))

    def box_to_source(self, box: Box) -> Box:
        """Map a box from resized to source pixels and clamp it to the page."""
        x0, y0, x1, y1 = self.box_to_oriented(box)
        return _bounds(self._point_to_source(x0, y0), self._point_to_source(x1, y1))

    def box_from_oriented(self, box: Box) -> Box:
        """Map a box from oriented to resized pixels: the inverse of :meth:`box_to_oriented`."""
        x0, y0, x1, y1 = box
        (sx, sy), (dx, dy) = self.scale, self.offset
        return (x0 * sx + dx, y0 * sy + dy, x1 * sx + dx, y1 * sy + dy)

    def box_to_resized(self, box: Box) -> Box:
        """Map a box from source to resized pixels: the inverse of :meth:`box_to_source`."""
        start, end = self._point_to_oriented(*box[:2]), self._point_to_oriented(*box[2:])
        return self.box_from_oriented(_bounds(start, end))

    def _point_to_source(self, x: float, y: float) -> tuple[float, float]:
        """Undo the EXIF orientation of one point."""
        width, height = self.source
        if self.orientation >= 5:
            x, y = y, x  # now in source axes, each perhaps mirrored
        return (
            width - x if self.orientation in (2, 3, 7, 8) else x,
            height - y if self.orientation in (3, 4, 6, 7) else y,
        )

    def _point_to_oriented(self, x: float, y: float) -> tuple[float, float]:
        """Apply the EXIF orientation to one point."""
        width, height = self.source
        x = width - x if self.orientation in (2, 3, 7, 8) else x
        y = height - y if self.orientation in (3, 4, 6, 7) else y
        return (y, x) if self.orientation >= 5 else (x, y)


def _bounds(first: tuple[float, float], second: tuple[float, float]) -> Box:
    return (
        min(first[0], second[0]),
        min(first[1], second[1]),
        max(first[0], second[0]),
        max(first[1], second[1]),
    )


def _clamp(value: float, limit: int) -> float:
    return min(max(value, 0.0), float(limit))


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
