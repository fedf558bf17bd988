"""The grouping of images that share a call of the encoder: consecutive ones, up to a number of patches. Pure."""

from collections.abc import Iterator, Sequence


def pack(patch_counts: Sequence[int], cap: int) -> Iterator[range]:
    """Positions of the images of each call, in order and without a gap.

    A call holds as many images as fit under the cap; an image that is larger than the cap has a call of its own.

    Args:
        patch_counts: patches of each image.
        cap: most patches of a call with more than one image.
    """
    start, filled = 0, 0
    for position, count in enumerate(patch_counts):
        if position > start and filled + count > cap:
            yield range(start, position)
            start, filled = position, 0
        filled += count
    if start < len(patch_counts):
        yield range(start, len(patch_counts))
