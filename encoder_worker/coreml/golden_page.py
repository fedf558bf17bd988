"""The golden page: the part of a build that tests whether a machine computes it right.

It is one drawn page of the build's smallest size, with some of the embeddings that the tower in float64 computes for
it. The page is drawn again wherever it is needed, so that the build holds the embeddings alone, at most ``MAX_ROWS``
rows spread over the page: 0.8 MB for dots.ocr. ``tools/reference/golden.py`` writes them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dotsctl.encoder_worker.arrays import open_arrays
from dotsctl.encoder_worker.coreml.golden import GOLDEN_COSINE, WORST_COSINE, judge
from dotsctl.encoder_worker.coreml.manifest import GOLDEN, REFERENCE, Build
from dotsctl.encoder_worker.image import Patches, patchify
from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.geometry import CELL_PX, PATCH_PX, PixelLimits
from dotsctl.protocol.model.buckets import grids
from numpy.typing import NDArray
from PIL import Image

MAX_ROWS = 128
SEED = 2_026
REFERENCE_COSINES = {"float32": 0.999_999, "float16": 0.9999}
"""Least cosine of any token by the interpreter, which rounds as declared and no more. Measured in float16: 0.99999."""
QUANTISED_COSINES = {"int8": 0.99, "int8-per-tensor": 0.98, "palette6": 0.95, "int4": 0.9}
"""Least cosine of any token of weights that are stored in fewer bits, whose embeddings differ by themselves. The limit
detects a broken machine, whose cosines are near 0; ``verify --encoder coreml`` measures how good such a build is."""


@dataclass(frozen=True)
class Golden:
    """The stored half of the golden page."""

    bucket: int
    """Patches of the page."""
    rows: NDArray[np.int64]
    """(rows,): which embeddings are stored."""
    embeddings: NDArray[np.float32]
    """(rows, width)."""

    def write(self, folder: Path) -> None:
        """Write it into the folder of a build."""
        np.savez(folder / GOLDEN, bucket=np.array(self.bucket), rows=self.rows, embeddings=self.embeddings)

    @classmethod
    def read(cls, folder: Path) -> "Golden":
        """Read it from the folder of a build. Raises MissingError when it is damaged."""
        path = folder / GOLDEN
        try:
            with open_arrays(path) as stored:
                found = cls(int(stored["bucket"]), stored["rows"], stored["embeddings"])
                if found.rows.dtype.kind != "i" or found.embeddings.dtype.kind != "f" or found.embeddings.ndim != 2:
                    raise ValueError("its arrays have other types")
                if found.rows.shape != found.embeddings.shape[:1] or not found.rows.size:
                    raise ValueError(f"{found.rows.shape} rows, {found.embeddings.shape} embeddings")
                if found.rows.min() < 0 or 4 * found.rows.max() >= found.bucket:
                    raise ValueError(f"it has rows that a page of {found.bucket} patches has not")
                return found
        except (OSError, ValueError) as error:
            raise MissingError(f"{path} cannot be read ({error})", "convert the model again") from None

    def check(self, embeddings: NDArray[np.floating], build: Build, units: str) -> tuple[float, str]:
        """Return the smallest cosine over the stored tokens, and what is wrong with it; empty: nothing.

        Weights of the build's own precision are judged by the limits of ``golden.py``, by the interpreter more
        strictly.

        Args:
            embeddings: (bucket / 4, width) of the golden page.
            build: that computed them.
            units: where it did.
        """
        cosines, is_near = judge(embeddings[self.rows], self.embeddings)
        worst, mean = float(cosines.min()), float(cosines.mean())
        problem = f"its golden page is wrong: cosines {mean:.5f} in the mean and {worst:.4f} at the worst token"
        if build.weights in QUANTISED_COSINES:
            limit = QUANTISED_COSINES[build.weights]
            return worst, "" if worst >= limit else f"{problem}, at least {limit:g} is needed there"
        if not is_near:
            return worst, f"{problem}, required are {GOLDEN_COSINE:g} and {WORST_COSINE:g} at the same length"
        limit = REFERENCE_COSINES[build.precision] if units == REFERENCE else 0.0
        return worst, "" if worst >= limit else f"{problem}, the interpreter gives at least {limit:g}"


def golden_of(embeddings: NDArray[np.floating]) -> Golden:
    """Return what is stored of the embeddings (bucket / 4, width) of the golden page."""
    count = len(embeddings)
    rows = np.unique(np.linspace(0, count - 1, min(count, MAX_ROWS)).round().astype(np.int64))
    return Golden(4 * count, rows, embeddings[rows].astype(np.float32))


def not_finite(embeddings: NDArray[np.floating]) -> str:
    """Return how many embeddings (count, width) have values that are not finite, as text; empty: none."""
    bad = int(np.count_nonzero(~np.isfinite(embeddings).all(axis=1)))
    return f"{bad} of {len(embeddings)} embeddings have values that are not numbers" if bad else ""


def draw_picture(bucket: int) -> Image.Image:
    """A page of ``bucket`` patches on its squarest grid: dark dashes in lines on light paper; everywhere the same.

    Drawn with the raw bits of a generator that no version of NumPy changes.
    """
    rows, columns = min(grids(bucket), key=lambda grid: (max(grid) / min(grid), grid))
    height, width = rows * PATCH_PX, columns * PATCH_PX
    cells = (height // 7 + 1, width // 5 + 1)
    bits = np.random.PCG64(SEED).random_raw(cells[0] * cells[1]).reshape(cells) >> np.uint64(40)
    ink = np.kron((bits & 3) == 0, np.ones((7, 5), bool))[:height, :width]
    in_line = (np.arange(height) % 21 < 14)[:, None]
    paper = np.where(ink & in_line, 30, 240).astype(np.uint8)  # (height, width)
    return Image.fromarray(np.repeat(paper[..., None], 3, axis=2))


def draw_page(bucket: int) -> Patches:
    """The picture as the tower takes it, without resizing."""
    return patches_of(draw_picture(bucket))


def patches_of(page: Image.Image) -> Patches:
    """Return the patches of a picture whose sides are whole cells, without resizing."""
    return patchify(page, page.size, 1, PixelLimits(CELL_PX**2, max(CELL_PX**2, page.width * page.height)))
