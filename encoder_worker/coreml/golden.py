"""The limits for the distance of embeddings from golden ones, so that the decoded text does not suffer. Pure.

The limits were read off a curve: noise of known size on the embeddings of 40 printed pages, and the characters that the
demo model's decoder then writes otherwise (``python -P -m dotsctl.tools.dev.noise --pages 40 --seeds 2``). With another
model the curve may be another one; the same command measures it.
"""

import math

import numpy as np
from numpy.typing import NDArray

GOLDEN_COSINE = 0.99995
"""Least mean over tokens: the smallest cosine on the curve at which at most 0.5 % of the characters change.

That was 0.32 % for the first demo model (revision 582870d), and 0.62 % at 0.9999. Later weights are less sensitive:
those of revision c9698eb change 0.22 % here, 0.87 % at 0.9995 and 3.2 % at 0.98, those of 2026-11-28 0.00 % here,
0.04 % at 0.9995 and 0.23 % at 0.98. The stricter limit stays. A tower in bfloat16, at 0.99998, changed 0.17 %."""
WORST_COSINE = 0.999
"""Least of any single token, which the mean would not show. Real errors are uneven: a sound tower in bfloat16 has
0.9999 at its worst token."""
GOLDEN_ERROR = math.sqrt(1 / GOLDEN_COSINE**2 - 1)
"""Most difference of the length of all embeddings, relative: cosines do not see a wrong scale. As long as the noise."""


def judge(ours: NDArray[np.floating], golden: NDArray[np.floating]) -> tuple[NDArray[np.float64], bool]:
    """Cosine of each token, (num_embeddings,), and whether the text may be trusted.

    Args:
        ours: (num_embeddings, width) as this machine computes them; bfloat16 widened before. A token with a value that
            is not finite has the cosine 0.
        golden: the same page as the reference computed it.

    Raises:
        ValueError: they have other shapes.
    """
    if ours.shape != golden.shape or ours.ndim != 2:
        raise ValueError(f"embeddings of shape {ours.shape} are compared with golden ones of shape {golden.shape}")
    a, b = ours.astype(np.float64), golden.astype(np.float64)  # squares of float16's largest numbers add up safely
    sound = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)  # (num_embeddings,)
    a[~sound], b[~sound] = 0.0, 0.0
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    product = lengths[0] * lengths[1]
    cosines = np.divide((a * b).sum(axis=1), product, out=np.zeros(len(a)), where=product > 0)
    cosines[sound & (lengths[0] == 0) & (lengths[1] == 0)] = 1.0  # nothing on both sides is the same
    length, expected = np.linalg.norm(a), np.linalg.norm(b)
    near = abs(length - expected) <= GOLDEN_ERROR * expected
    return cosines, bool(near and cosines.mean() >= GOLDEN_COSINE and cosines.min() >= WORST_COSINE)
