"""The parts of the vision tower that have no weights: rotary positions and the products of single numbers.

Source of the mathematics: ``modeling_dots_vision.py`` of rednote-hilab/dots.ocr, Hugging Face snapshot c0111ce6.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

ROTARY_BASE = 10_000.0

Halves = tuple[mx.array, mx.array]


def rotary_tables(grids: Sequence[tuple[int, int]], head_dim: int) -> Halves:
    """Cosines and sines of the patch positions of some images, each (num_patches, head_dim / 2) float32.

    A quarter of the head turns with the row of the patch, a quarter with its column; the second half of the head is
    the partner of the first, which makes the layout row, column, row, column. Patches come in the order of
    ``image.patchify``: the four of a 2x2 block follow each other. Each image begins at row 0, column 0.
    """
    quarter = head_dim // 4
    inverse = ROTARY_BASE ** -(mx.arange(quarter, dtype=mx.float32) / quarter)  # (head_dim / 4,)
    places = mx.concatenate([_places(grid) for grid in grids]).astype(mx.float32)  # (num_patches, 2)
    angles = (places[:, :, None] * inverse).flatten(1)  # (num_patches, head_dim / 2)
    return mx.cos(angles), mx.sin(angles)


def _places(grid: tuple[int, int]) -> mx.array:
    """Row and column of each patch of one image, (height * width, 2)."""
    height, width = grid
    row = mx.broadcast_to(mx.arange(height)[:, None], grid)
    column = mx.broadcast_to(mx.arange(width)[None], grid)
    both = mx.stack([row, column], axis=-1).reshape(height // 2, 2, width // 2, 2, 2)
    return both.transpose(0, 2, 1, 3, 4).reshape(-1, 2)


def turn(first: mx.array, second: mx.array, cos: mx.array, sin: mx.array) -> Halves:
    """Turn the halves of x, each (heads, num_patches, head_dim / 2), by tables (num_patches, head_dim / 2)."""
    return first * cos - second * sin, second * cos + first * sin


def swiglu(gate: mx.array, up: mx.array) -> mx.array:
    """SiLU of the gate times the other factor; both and the result (num_patches, intermediate_size)."""
    return nn.silu(gate) * up


@dataclass(frozen=True)
class Elementwise:
    """The two functions that MLX can fuse into one kernel each.

    What lies between them are products of matrices, norms and attention, which are kernels of their own with or
    without compilation; and the evaluation between chunks of queries cannot be inside of a compiled function.
    """

    turn: Callable[[mx.array, mx.array, mx.array, mx.array], Halves]
    swiglu: Callable[[mx.array, mx.array], mx.array]


PLAIN = Elementwise(turn, swiglu)


def compiled() -> Elementwise:
    """Both functions compiled once for all shapes, so that pages of many sizes do not fill a cache of kernels."""
    return Elementwise(mx.compile(turn, shapeless=True), mx.compile(swiglu, shapeless=True))


def rotate(x: mx.array, cos: mx.array, sin: mx.array, by: Elementwise = PLAIN) -> mx.array:
    """Turn x (heads, num_patches, head_dim) by tables (num_patches, head_dim / 2); float32 inside, as the original."""
    first, second = mx.split(x.astype(mx.float32), 2, axis=-1)
    return mx.concatenate(list(by.turn(first, second, cos, sin)), axis=-1).astype(x.dtype)
