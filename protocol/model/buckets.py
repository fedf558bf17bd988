"""Shape buckets: which fixed number of patches a page is encoded with, and on which grid. Pure.

A Core ML program has fixed shapes. Its rotary tables are inputs, so one program for N patches serves every grid of
rows x columns = N. A page goes to one of these grids: first it is resized by the rule of dots.ocr, exactly as for an
encoder with free shapes. If the result fits on the grid, it stays as it is, at the top left, and the rest is white:
its patches are then the very same. If not, it is resized once, to less. A shrunk page may be stretched a little to
fill its grid; boxes stay exact, because :class:`PageGeometry` has one scale for each axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.geometry import MAX_ASPECT, PATCH_PX, PageGeometry, PixelLimits, Window, fit

MAX_PATCHES = 11_000
"""Older Neural Engines take no axis longer than 16384, and the scores of a layer would pass 3 GB."""
STANDARD = (960, 5040, 5760, 8640)
"""Numbers of patches with many even grids for models with large pages, from
``dotsctl.tools.dev.bucket_search``: 8640 takes nearly every page at 1.6 megapixels, 5040 and 5760 at 1.0, 960 small
pictures. Above 9500 attention costs more than all the rest, and a GPU does better. The golden page has the smallest
bucket, so a small one makes conversions fast."""
SMALL_PAGES = (336, 416, 440, 960, 2016, 5040, 5760)
"""The same for models whose pages do not fill the largest of these, such as the demo model."""
MAX_FUNCTIONS = 4
"""The most buckets; each is compiled and loaded by itself, which takes time and memory."""
TOLERATED_LOSS = 0.03
"""Share of a page's resolution that a smaller bucket may cost; with more, the next larger one is taken."""
MAX_STRETCH = 1.03
"""Largest ratio of the two scales of a shrunk page, relative to that of the resize rule."""


@dataclass(frozen=True)
class Placement:
    """The grid and the bucket of a page."""

    grid: tuple[int, int]
    """Patches from top to bottom and from left to right; their product is the bucket."""
    content: tuple[int, int]
    """Width and height in pixels to which the upright page is resized; it lies at the top left, white around it."""
    geometry: PageGeometry
    window: Window | None = None
    """The part of the upright page that is resized; none: all of it."""

    @property
    def loss(self) -> float:
        """Share of the resolution of the resize rule that is lost, in the axis that loses more; 0 to 1."""
        return self.geometry.resolution_loss

    @property
    def bucket(self) -> int:
        """Patches of the page, white ones included."""
        return self.grid[0] * self.grid[1]


@cache
def grids(bucket: int) -> tuple[tuple[int, int], ...]:
    """All (rows, columns) with even sides whose product is ``bucket``, the flattest first."""
    blocks = bucket // 4
    sides = [(rows, blocks // rows) for rows in range(1, blocks + 1) if blocks % rows == 0]
    return tuple(
        (2 * rows, 2 * columns) for rows, columns in sides if max(rows, columns) <= MAX_ASPECT * min(rows, columns)
    )


def check_buckets(buckets: Sequence[int]) -> tuple[int, ...]:
    """The buckets in ascending order.

    Raises:
        UsageError: none is given, one is given twice, or one is no number of patches that a program can have.
    """
    if not buckets or len(set(buckets)) < len(buckets):
        raise UsageError(
            f"buckets {list(buckets)} are empty or repeat a number",
            "give each number of patches once, for example 960,2016,4032",
        )
    for bucket in buckets:
        if bucket % 4 or not 4 <= bucket <= MAX_PATCHES or not any(grids(bucket)):
            raise UsageError(
                f"a bucket of {bucket} patches must be a multiple of 4 for the merging of 2x2, 4 to {MAX_PATCHES}, "
                "and the product of two even sides; one with many divisors fits most pages, such as 2016"
            )
    return tuple(sorted(buckets))


def standard_buckets(limits: PixelLimits) -> tuple[int, ...]:
    """The standard buckets, or the largest few that pages of a model can fill; its own largest page if none fits."""
    largest = limits.max_pixels // PATCH_PX**2
    if largest >= max(STANDARD):
        return STANDARD
    fitting = [bucket for bucket in SMALL_PAGES if bucket <= largest]
    return tuple(fitting[-MAX_FUNCTIONS:]) or (largest // 4 * 4,)


def place(
    source: tuple[int, int],
    orientation: int,
    limits: PixelLimits,
    buckets: Sequence[int],
    window: Window | None = None,
) -> Placement:
    """Choose bucket and grid of a page: the smallest bucket without a notable loss, else the one that loses least.

    Args:
        source: width and height as stored, in pixels.
        orientation: EXIF orientation, 1 to 8.
        limits: pixel limits of the model, lowered by those of the user.
        buckets: numbers of patches that there are programs for.
        window: the part of the upright page that is resized; none: all of it.

    Raises:
        PageError: the page cannot be resized (see :func:`dotsctl.protocol.geometry.smart_resize`).
    """
    plain = fit(source, orientation, limits, window)
    best: _Fit | None = None
    for bucket in sorted(buckets):
        found = _best_fit(plain.resized, bucket)
        if best is None or found.loss < best.loss:
            best = found
        if found.loss <= TOLERATED_LOSS:
            break
    if best is None:
        raise ValueError("there are no buckets")
    return _placed(plain, best, window)


class _Fit(NamedTuple):
    """A page on the best grid of one bucket."""

    loss: float
    elongation: float
    """Longest side of the grid over its shortest."""
    grid: tuple[int, int]
    content: tuple[int, int]


def _best_fit(resized: tuple[int, int], bucket: int) -> _Fit:
    """Return the grid on which a page loses least, the least elongated one among equals.

    Args:
        resized: width and height in pixels, as the resize rule makes them.
        bucket: a number of patches.
    """
    return min(_on_grid(resized, grid) for grid in grids(bucket))


def _on_grid(resized: tuple[int, int], grid: tuple[int, int]) -> _Fit:
    """Return the placement of a page on one grid; ``resized`` is what the resize rule makes of it."""
    canvas = (grid[1] * PATCH_PX, grid[0] * PATCH_PX)
    ratios = (canvas[0] / resized[0], canvas[1] / resized[1])
    shrink, content = min(1.0, *ratios), resized
    if shrink < 1.0:
        content = (
            max(1, min(canvas[0], round(resized[0] * min(1.0, ratios[0], shrink * MAX_STRETCH)))),
            max(1, min(canvas[1], round(resized[1] * min(1.0, ratios[1], shrink * MAX_STRETCH)))),
        )
    loss = 1.0 - min(content[0] / resized[0], content[1] / resized[1])
    return _Fit(loss, max(grid) / min(grid), grid, content)


def _placed(plain: PageGeometry, fitted: _Fit, window: Window | None) -> Placement:
    """The placement of a page, of which ``plain`` is what the resize rule makes."""
    sides = [round(side / scale) for side, scale in zip(plain.resized, plain.scale, strict=True)]  # of the window
    scale = (fitted.content[0] / sides[0], fitted.content[1] / sides[1])
    geometry = replace(
        plain,
        resized=(fitted.grid[1] * PATCH_PX, fitted.grid[0] * PATCH_PX),
        scale=scale,
        offset=(plain.offset[0] / plain.scale[0] * scale[0], plain.offset[1] / plain.scale[1] * scale[1]),
        resolution_loss=fitted.loss,
    )
    return Placement(fitted.grid, fitted.content, geometry, window)
