"""Matrices of the tower as they are stored in a package: as they are, as small integers with scales, or as indices.

Every function takes float32 (rows, columns), one row for each output channel, and needs numpy alone. The operations
that undo them inside a package are documented at ``coremltools.converters.mil.mil.ops.defs.iOS18.compression``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

INT4_BLOCK = 32
"""Most columns that share a scale."""
INT4_TOPS = (7.0, 7.5, 8.0, 8.5, 9.0, 9.75, 10.5)
"""Numbers of steps that the largest value of a block is away from zero, of which the best one is taken."""
PALETTE_BITS = 6
KMEANS_ROUNDS = 30
HISTOGRAM_BINS = 512


@dataclass(frozen=True)
class Scaled:
    """value = levels * scales, each scale for a block of columns of one row, or for everything."""

    levels: NDArray[np.int8]
    """(rows, columns)."""
    scales: NDArray[np.float32]
    """(rows, blocks), (rows, 1) or (1, 1)."""
    bits: int


@dataclass(frozen=True)
class Palette:
    """value = colours[index]."""

    indices: NDArray[np.uint8]
    """(rows, columns), each below the number of colours."""
    colours: NDArray[np.float32]
    """(2 ** bits,)."""
    bits: int


def scaled_int8(matrix: NDArray[np.float32], per_tensor: bool) -> Scaled:
    """8 bits from -127 to 127, so that both signs are alike, with a scale for each row or one for all."""
    peaks = np.abs(matrix).max(keepdims=True) if per_tensor else np.abs(matrix).max(axis=1, keepdims=True)
    scales = _stored_scales(peaks, 127)  # (rows, 1) or (1, 1)
    return Scaled(np.clip(np.rint(matrix / scales), -127, 127).astype(np.int8), scales, 8)


def scaled_int4(matrix: NDArray[np.float32]) -> Scaled:
    """4 bits from -8 to 7, with a scale for every 32 columns of a row, or the largest divisor below.

    Of several scales each block takes the one with the smallest sum of squared errors: a smaller scale than its largest
    value requires cuts that value off and is nearer to all others.
    """
    rows, columns = matrix.shape
    block = max(size for size in range(1, INT4_BLOCK + 1) if columns % size == 0)
    blocks = matrix.reshape(rows, columns // block, block)
    peaks = np.abs(blocks).max(axis=2)  # (rows, blocks)
    best = _stored_scales(peaks, 7.5)
    least = np.full(peaks.shape, np.inf, np.float32)
    for top in INT4_TOPS:
        scales = _stored_scales(peaks, top)
        spread = scales[:, :, None]
        errors = np.square(np.clip(np.rint(blocks / spread), -8, 7) * spread - blocks).sum(axis=2)
        is_better = errors < least
        least[is_better], best[is_better] = errors[is_better], scales[is_better]
    levels = np.clip(np.rint(blocks / best[:, :, None]), -8, 7).astype(np.int8)
    return Scaled(levels.reshape(rows, columns), best, 4)


def _stored_scales(peaks: NDArray[np.float32], top: float) -> NDArray[np.float32]:
    """Scales that put a peak at so many steps, rounded to float16 as a package stores them; none is zero."""
    tiny = np.float32(np.finfo(np.float16).smallest_subnormal)
    return np.maximum(peaks / top, tiny).astype(np.float16).astype(np.float32)


def _first_colours(values: NDArray[np.float64], counts: NDArray[np.int64], number: int) -> NDArray[np.float64]:
    """Start of k-means: with the cube root of the density of the values, which is best for many colours.

    Source: P. F. Panter, W. Dite, "Quantization distortion in pulse-count modulation with nonuniform spacing of
    levels", Proceedings of the IRE 39 (1951).
    """
    density, edges = np.histogram(values, HISTOGRAM_BINS, weights=counts)
    cumulative = np.append(0, np.cbrt(density).cumsum())
    return np.interp((np.arange(number) + 0.5) / number, cumulative / cumulative[-1], edges)


def palette(matrix: NDArray[np.float32], bits: int = PALETTE_BITS) -> Palette:
    """The 2 ** bits values that lie closest to all elements (k-means in one dimension), and which one each takes.

    There are 63,488 float16 values at most, so k-means runs over those that occur, with their counts.
    """
    codes = matrix.astype(np.float16).view(np.uint16)  # (rows, columns)
    occurring = np.bincount(codes.reshape(-1), minlength=1 << 16)
    present = np.flatnonzero(occurring).astype(np.uint16)
    order = np.argsort(present.view(np.float16))
    present = present[order]
    values, counts = present.view(np.float16).astype(np.float64), occurring[present]
    weight, moment = np.append(0, counts.cumsum()), np.append(0, (values * counts).cumsum())
    colours = _first_colours(values, counts, 2**bits)
    for _ in range(KMEANS_ROUNDS):
        edges = np.searchsorted(values, (colours[1:] + colours[:-1]) / 2)
        first, last = np.append(0, edges), np.append(edges, len(values))
        inside = weight[last] - weight[first]
        means = (moment[last] - moment[first]) / np.maximum(inside, 1)
        colours = np.sort(np.where(inside > 0, means, colours))
    stored = colours.astype(np.float16).astype(np.float32)
    nearest = np.zeros(1 << 16, np.uint8)  # index of the colour by the code of a value
    nearest[present] = np.searchsorted((stored[1:] + stored[:-1]) / 2, values)
    return Palette(nearest[codes], stored, bits)
