"""The golden page: what a build carries to find out whether a machine computes it right.

It is one drawn page of the build's smallest size, with some of the embeddings that the tower in float64 makes of it.
The page is drawn again wherever it is needed, so that the build holds the embeddings alone, at most
``MAX_ROWS`` rows spread over the page: 0.8 MB for dots.ocr. ``tools/golden_reference.py`` writes them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dotsctl.encoder_worker.buckets import PATCH_PX, grids
from dotsctl.encoder_worker.coreml.golden import GOLDEN_COSINE, WORST_COSINE, judge
from dotsctl.encoder_worker.coreml.manifest import GOLDEN, Build
from dotsctl.encoder_worker.image import Patches, patchify
from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.geometry import CELL_PX, PixelLimits
from numpy.typing import NDArray
from PIL import Image

MAX_ROWS = 128
SEED = 2_026
QUANTISED_COSINES = {"int8": 0.99, "int8-per-tensor": 0.98, "palette6": 0.95, "int4": 0.9}
"""Least cosine of any token with weights that are stored in fewer bits: such a build is away from the embeddings by
itself. These tell a broken machine, whose cosines are near 0; how good the build is, ``verify --encoder coreml`` tells.
Builds whose weights have all bits are held to ``golden.py``."""


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
            with np.load(path, allow_pickle=False) as stored:
                return cls(int(stored["bucket"]), stored["rows"], stored["embeddings"])
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise MissingError(f"{path} cannot be read ({error}): convert the model again") from None

    def judge(self, embeddings: NDArray[np.floating], build: Build) -> tuple[float, str]:
        """Smallest cosine of the stored rows of embeddings (bucket / 4, width), and what is wrong; empty: nothing."""
        cosines, is_near = judge(embeddings[self.rows], self.embeddings)  # (rows,)
        smallest, mean = float(cosines.min()), float(cosines.mean())
        if build.weights in QUANTISED_COSINES:
            limit = QUANTISED_COSINES[build.weights]
            words = f"its golden page is wrong: smallest cosine {smallest:.4f}, it must be at least {limit:g}"
            return smallest, "" if smallest >= limit else words
        words = (
            f"its golden page is wrong: cosines {smallest:.5f} at least and {mean:.6f} on average, they must be "
            f"{WORST_COSINE:g} and {GOLDEN_COSINE:g}, and lengths as near"
        )
        return smallest, "" if is_near else words


def golden_of(embeddings: NDArray[np.floating]) -> Golden:
    """What to store of the embeddings (bucket / 4, width) of the golden page."""
    count = len(embeddings)
    rows = np.unique(np.linspace(0, count - 1, min(count, MAX_ROWS)).round().astype(np.int64))
    return Golden(4 * count, rows, embeddings[rows].astype(np.float32))


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
    page = draw_picture(bucket)
    return patchify(page, page.size, 1, PixelLimits(CELL_PX**2, max(CELL_PX**2, page.width * page.height)))
