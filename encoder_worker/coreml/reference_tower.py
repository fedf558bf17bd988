"""All packages of a build, one after the other, by the reference interpreter."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from dotsctl.encoder_worker.coreml.interpreter import Interpreter
from dotsctl.encoder_worker.coreml.manifest import Build, function_name
from dotsctl.encoder_worker.coreml.tower_inputs import embeddings_of, patches_input, rotary_inputs
from numpy.typing import NDArray


class ReferenceTower:
    """The tower of one build; programs are read when their bucket is first used."""

    def __init__(self, folder: Path, build: Build) -> None:
        """Prepare a build that was found complete."""
        self._folder, self._build = folder, build
        self._chunks: dict[int, list[Interpreter]] = {}

    def chunks(self, bucket: int) -> list[Interpreter]:
        """The functions for pages of ``bucket`` patches, in order."""
        if bucket not in self._chunks:
            name = function_name(bucket)
            self._chunks[bucket] = [Interpreter(self._folder / chunk.file, name) for chunk in self._build.chunks]
        return self._chunks[bucket]

    def encode(
        self,
        patches: NDArray[np.float32],
        grid: tuple[int, int],
        watch: Callable[[int, NDArray[np.float32]], object] | None = None,
    ) -> NDArray[np.float32]:
        """Embeddings (num_patches / 4, width) of patches (num_patches, 588) in the order of ``image.patchify``.

        Args:
            patches: as many rows as a bucket has.
            grid: patches from top to bottom and from left to right.
            watch: called with the number of each finished package, from 1, and what it gave, (1, channels, 1, patches).
        """
        cosines, sines = rotary_inputs(grid, self._build.head_dim)
        value, name = patches_input(patches), "patches"
        for number, chunk in enumerate(self.chunks(len(patches)), 1):
            (value,) = chunk.run({name: value, "cos": cosines, "sin": sines}).values()
            name = "hidden"
            if watch is not None:
                watch(number, value)
        return embeddings_of(value).astype(np.float32, copy=False)

    def close(self) -> None:
        """Forget the programs."""
        self._chunks.clear()
