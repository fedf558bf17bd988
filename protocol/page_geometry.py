"""The mapping from a source page to the pixels that the encoder saw; maps boxes between both. Part of messages. Pure.

Three pixel spaces:

* *source*: the image as it is stored, before its EXIF orientation is applied;
* *oriented*: the image as a viewer shows it;
* *resized*: what the encoder saw; the model's boxes are in these pixels.
"""

import math
from dataclasses import dataclass

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 with the origin at the top left."""


@dataclass(frozen=True, slots=True)
class PageGeometry:
    """The mapping from a source page to the pixels that the encoder saw. All sizes are (width, height) in pixels."""

    source: tuple[int, int]
    orientation: int
    """EXIF orientation, 1 to 8; 1 is upright."""
    resized: tuple[int, int]
    scale: tuple[float, float]
    """Resized pixels per oriented pixel, in x and in y."""
    offset: tuple[float, float] = (0.0, 0.0)
    """The oriented page's origin in the resized image; negative where a margin was trimmed."""
    resolution_loss: float = 0.0
    """Share of the resolution of the resize rule that was lost, in the axis that loses more; 0 to 1."""

    def __post_init__(self) -> None:
        if not 1 <= self.orientation <= 8:
            raise ValueError(f"EXIF orientation must be 1 to 8, not {self.orientation}")
        if not all(0 < size < math.inf for size in (*self.source, *self.resized, *self.scale)):
            raise ValueError("sizes and scales of a page must be positive")
        if not all(map(math.isfinite, self.offset)):
            raise ValueError(f"offset {self.offset} is not finite")
        if not 0 <= self.resolution_loss <= 1:
            raise ValueError(f"resolution_loss {self.resolution_loss} is not between 0 and 1")

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

    def box_from_oriented(self, box: Box) -> Box:
        """Map a box from oriented to resized pixels: the inverse of :meth:`box_to_oriented`."""
        x0, y0, x1, y1 = box
        (sx, sy), (dx, dy) = self.scale, self.offset
        return (x0 * sx + dx, y0 * sy + dy, x1 * sx + dx, y1 * sy + dy)


def _clamp(value: float, limit: int) -> float:
    return min(max(value, 0.0), float(limit))
