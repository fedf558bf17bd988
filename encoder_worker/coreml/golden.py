"""How far embeddings may lie from those that a package was proved with before it is not used. Pure."""

import math

import numpy as np
from numpy.typing import NDArray

GOLDEN_COSINE = 0.999
"""Placeholder reason: set from the noise curve below."""
GOLDEN_ERROR = math.sqrt(1 / GOLDEN_COSINE**2 - 1)
"""Most error of a token's length, relative: as long as the noise at that cosine. Cosines see no wrong scale."""


def judge(ours: NDArray[np.floating], golden: NDArray[np.floating]) -> tuple[NDArray[np.float64], bool]:
    """Cosine of each token, (num_embeddings,), and whether every token is as near as the text needs.

    Every token must pass, not their mean: one broken tile among many would hardly move a mean. Values that are not
    finite have the cosine 0.

    Args:
        ours: (num_embeddings, width) as this machine computes them; bfloat16 widened before.
        golden: the same page as the reference computed it.

    Raises:
        ValueError: they have other shapes.
    """
    if ours.shape != golden.shape or ours.ndim != 2:
        raise ValueError(f"embeddings of shape {ours.shape} are compared with golden ones of shape {golden.shape}")
    a, b = ours.astype(np.float64), golden.astype(np.float64)  # float64: squares of float16 extremes add up safely
    sound = np.isfinite(np.linalg.norm(a - b, axis=1))  # (num_embeddings,)
    a[~sound], b[~sound] = 0.0, 0.0
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    product = lengths[0] * lengths[1]
    cosines = np.divide((a * b).sum(axis=1), product, out=np.zeros(len(a)), where=product > 0)
    cosines[sound & (lengths[0] == 0) & (lengths[1] == 0)] = 1.0  # nothing in both is the same
    near = np.abs(lengths[0] - lengths[1]) <= GOLDEN_ERROR * lengths[1]
    return cosines, bool((sound & near & (cosines >= GOLDEN_COSINE)).all())
