"""The arrays that the packages take and give, in their layout (1, channels, 1, patches).

Patches come to the packages in *quarter order*: first the top left patches of all 2x2 blocks, then all top right ones,
all bottom left ones, all bottom right ones. The merger, which joins the four patches of a block, is then a cut of the
patch axis into quarters, and needs no transposition. Attention takes no notice of the order, as the rotary tables hold
the place of each patch.
"""

import numpy as np
from numpy.typing import NDArray

ROTARY_BASE = 10_000.0
QUARTERS = 4

Array = NDArray[np.float32]


def quarter_order(num_patches: int) -> NDArray[np.int64]:
    """Index of the patch in the order of ``image.patchify`` for each place in quarter order, (num_patches,)."""
    return np.arange(num_patches).reshape(-1, QUARTERS).T.reshape(-1)


def patches_input(values: Array) -> Array:
    """(1, 588, 1, num_patches) in quarter order, of the rows (num_patches, 588) of ``image.patchify``."""
    return np.ascontiguousarray(values[quarter_order(len(values))].T)[None, :, None]


def rotary_inputs(grid: tuple[int, int], head_dim: int) -> tuple[Array, Array]:
    """Cosines and sines, each (1, 1, head_dim, num_patches) in quarter order; the first half of the sines is negative.

    A quarter of the head turns with the row of a patch, a quarter with its column, and the second half is the partner
    of the first: with the halves a and b of x, the turned x is x * cosines + [b, a] * sines.
    """
    rows, columns = grid
    quarter = head_dim // 4
    inverse = ROTARY_BASE ** -(np.arange(quarter) / quarter)  # (head_dim / 4,)
    places = np.indices(grid).reshape(2, rows // 2, 2, columns // 2, 2)  # row and column, by block and inside of it
    ordered = places.transpose(0, 2, 4, 1, 3).reshape(2, 1, rows * columns)  # quarter order
    angles = (inverse[:, None] * ordered).reshape(2 * quarter, rows * columns)  # (head_dim / 2, num_patches)
    cosines, sines = np.cos(angles), np.sin(angles)
    both = np.concatenate([cosines, cosines]), np.concatenate([-sines, sines])  # (head_dim, num_patches)
    return both[0][None, None].astype(np.float32), both[1][None, None].astype(np.float32)


def embeddings_of(output: NDArray[np.floating]) -> NDArray[np.floating]:
    """(num_embeddings, width), contiguous, of an output (1, width, 1, num_embeddings)."""
    return np.ascontiguousarray(output[0, :, 0].T)
