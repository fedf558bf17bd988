"""Matrices of the tower as they are stored in a package: as they are, as small integers with scales, or as indices.

Every function takes float32 (rows, columns), one row for each output channel, and needs numpy alone. The operations
that undo them inside a package are documented at ``coremltools.converters.mil.mil.ops.defs.iOS18.compression``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

INT4_BLOCK = 32
"""Most columns that share a scale."""
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
    """Symmetric 8 bits, with a scale for each row or one for all."""
    peaks = np.abs(matrix).max(keepdims=True) if per_tensor else np.abs(matrix).max(axis=1, keepdims=True)
    return _scaled(matrix, peaks, 8)


def scaled_int4(matrix: NDArray[np.float32]) -> Scaled:
    """Symmetric 4 bits, with a scale for every 32 columns of a row, or the largest divisor below."""
    rows, columns = matrix.shape
    block = max(size for size in range(1, INT4_BLOCK + 1) if columns % size == 0)
    peaks = np.abs(matrix).reshape(rows, columns // block, block).max(axis=2)  # (rows, blocks)
    return _scaled(matrix, peaks, 4)


def _scaled(matrix: NDArray[np.float32], peaks: NDArray[np.float32], bits: int) -> Scaled:
    """Levels from -(2 ** (bits - 1) - 1) up, so that zero is exact and both signs are alike.

    Scales are rounded to float16 first, as a float16 package stores them; the levels then fit the stored scales.
    """
    top = 2 ** (bits - 1) - 1
    tiny = np.float32(np.finfo(np.float16).smallest_subnormal)
    scales = np.maximum(peaks / top, tiny).astype(np.float16).astype(np.float32)
    spread = np.repeat(scales, matrix.shape[1] // scales.shape[1], axis=1)  # (rows or 1, columns)
    levels = np.clip(np.rint(matrix / spread), -top, top).astype(np.int8)
    return Scaled(levels, scales, bits)


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
