"""The fixed page size of an encoder that a request takes, before it is opened. Pure."""

from functools import lru_cache

from dotsctl.client.runtime.request import Request
from dotsctl.protocol.errors import PageError
from dotsctl.protocol.geometry import PixelLimits
from dotsctl.protocol.model.buckets import TOLERATED_LOSS, place

ANY_SIZE = 0
"""Stands for the page size of an encoder that takes pages of any size."""


def bucket_of(request: Request, limits: PixelLimits, buckets: tuple[int, ...]) -> int | None:
    """Patches of the page size that a request takes; of its largest image where it has several.

    None: some image would lose more than :data:`TOLERATED_LOSS` of its resolution in an axis, or cannot be resized at
    all. The EXIF orientation is not known here and does not matter, because every page size has its grids both ways.
    Neither are the margins that the encoder trims; a page that loses too much because of them is noticed by its
    geometry.

    Args:
        request: the page.
        limits: pixel limits of the model.
        buckets: page sizes in patches; empty: any, and :data:`ANY_SIZE` is the answer.
    """
    if not buckets:
        return ANY_SIZE
    limit = request.submit.options.pixel_limit
    found = [_bucket(image.width, image.height, limit, limits, buckets) for image in request.submit.images]
    return None if None in found else max(filter(None, found))


@lru_cache(maxsize=4096)
def _bucket(
    width: int, height: int, max_pixels: int | None, limits: PixelLimits, buckets: tuple[int, ...]
) -> int | None:
    try:
        placement = place((width, height), 1, limits.lowered(max_pixels), buckets)
    except PageError:
        return None
    return placement.bucket if placement.loss <= TOLERATED_LOSS else None
