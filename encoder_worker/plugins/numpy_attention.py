"""Attention of the vision tower in NumPy, for float32 on a CPU, where MLX computes the softmax number by number.

MLX's exponential takes 10 ns a score there, NumPy's 0.5 ns; the products are the same BLAS in both.
"""

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray


def applies(x: mx.array) -> bool:
    """Return whether attention over this array is computed here: float32 on a CPU."""
    return x.dtype == mx.float32 and mx.default_device().type == mx.DeviceType.cpu


def attend(q: mx.array, k: mx.array, v: mx.array, scale: float, query_chunk: int) -> mx.array:
    """Return the attention of all patches of an image to each other, as MLX computes it, up to rounding.

    Args:
        q, k, v: (heads, num_patches, head_dim) float32.
        scale: of the products.
        query_chunk: patches that attend at a time, which bounds the memory of the scores; 0: all.

    Returns:
        (heads, num_patches, head_dim) float32.
    """
    queries, keys, values = (np.asarray(part) for part in (q, k, v))
    heads, num_patches, head_dim = queries.shape
    chunk = min(query_chunk or num_patches, num_patches)
    scores = np.empty((chunk, num_patches), np.float32)
    attended = np.empty((num_patches, heads, head_dim), np.float32)
    for head in range(heads):
        scaled, columns = queries[head] * np.float32(scale), keys[head].T
        for start in range(0, num_patches, chunk):
            rows = scaled[start : start + chunk]
            attended[start : start + chunk, head] = _weighted(rows, columns, values[head], scores[: len(rows)])
    return mx.array(attended).transpose(1, 0, 2)  # (heads, num_patches, head_dim)


def _weighted(
    rows: NDArray[np.float32], columns: NDArray[np.float32], values: NDArray[np.float32], scores: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Mean of the values (num_patches, head_dim), weighted by the softmax of rows @ columns; ``scores`` holds that."""
    np.matmul(rows, columns, out=scores)
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    return np.asarray((scores @ values) / scores.sum(axis=1, keepdims=True))
