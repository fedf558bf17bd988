"""The pages of a comparison: drawn noise in lines, as large as a page, of which every model reads something else."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dotsctl.protocol.geometry import PATCH_PX
from PIL import Image

PROMPT = "Extract the text content from this image."
"""One prompt for both sides; it is short and no task of either, so that neither side adds to it."""
LINE_PX, PITCH_PX, MARGIN_PX = 8, 18, 20


@dataclass(frozen=True)
class Workload:
    """Pages of one size, and how long their answers are."""

    width: int
    """Pixels; a multiple of 28, so that no side resizes."""
    height: int
    max_tokens: int
    """Length of every answer: a random model does not end one by itself."""
    pages: int

    @property
    def patches(self) -> int:
        """Patches of one page."""
        return self.width // PATCH_PX * (self.height // PATCH_PX)

    @property
    def name(self) -> str:
        """The size and the tokens, as in ``448x616:64``."""
        return f"{self.width}x{self.height}:{self.max_tokens}"

    @classmethod
    def parse(cls, text: str, pages: int) -> "Workload":
        """Return the workload that ``WIDTHxHEIGHT:TOKENS`` describes.

        Raises:
            ValueError: the text has another form, or the sides are no multiples of 28 from 56 on.
        """
        size, _, tokens = text.partition(":")
        width, _, height = size.partition("x")
        workload = cls(int(width), int(height), int(tokens), pages)
        cell = 2 * PATCH_PX
        if workload.width % cell or workload.height % cell or min(workload.width, workload.height) < 2 * cell:
            raise ValueError(f"the sides of {size} are not multiples of {cell} px from {2 * cell} on")
        if workload.max_tokens < 1:
            raise ValueError(f"{workload.max_tokens} tokens")
        return workload

    def write(self, folder: Path) -> list[Path]:
        """Write the pages as PNG files, all different, and return them. The same pages at every call."""
        files = []
        for number in range(self.pages):
            rng = np.random.default_rng(number)
            pixels = np.full((self.height, self.width, 3), 255, np.uint8)  # (height, width, 3)
            for top in range(MARGIN_PX, self.height - MARGIN_PX, PITCH_PX):
                strokes = rng.integers(0, 2, (LINE_PX, self.width - 2 * MARGIN_PX, 1), np.uint8)
                line = pixels[top : top + LINE_PX, MARGIN_PX : self.width - MARGIN_PX]
                line[:] = 255 * strokes[: len(line)]  # (LINE_PX, width - margins, 3)
            files.append(folder / f"page-{number:03}.png")
            Image.fromarray(pixels).save(files[-1])
        return files
