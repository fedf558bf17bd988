"""Runs the vision tower over the images of a request: packed into calls, and in smaller calls when memory runs out."""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from dotsctl.encoder_worker.packing import pack
from dotsctl.encoder_worker.plugins.exhaustion import free_bytes, needed_bytes, smaller_chunks
from dotsctl.encoder_worker.plugins.gpu_pace import TARGET_S, GpuPace
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.geometry import PATCH_PX
from dotsctl.protocol.machine.memory import is_exhaustion
from dotsctl.protocol.worker.gpu_faults import piece_share
from numpy.typing import NDArray

Grid = tuple[int, int]
Tower = Callable[[mx.array, Sequence[Grid], int, GpuPace | None], mx.array]
"""Called as :class:`VisionTower` is."""
MIB = 1 << 20


class TowerRunner:
    """A tower with its chosen options."""

    def __init__(
        self,
        tower: Tower,
        config: VisionConfig,
        dtype: mx.Dtype,
        query_chunk: int,
        pack_patches: int,
        on_gpu: bool,
    ) -> None:
        """Keep the choices.

        Args:
            tower: the network.
            config: its sizes.
            dtype: what it computes in.
            query_chunk: most patches that attend at a time; 0: any number.
            pack_patches: most patches of several images in a call.
            on_gpu: whether a failed allocation can be caught, and submissions must be short.
        """
        self.tower, self.config, self.dtype = tower, config, dtype
        self.query_chunk, self.pack_patches, self.on_gpu = query_chunk, pack_patches, on_gpu
        self._pace = GpuPace(TARGET_S * piece_share()) if on_gpu else None

    def encode(self, patches: Sequence[NDArray[np.float32]], grids: Sequence[Grid]) -> list[NDArray[Any]]:
        """Embeddings (num_embeddings, hidden_size) of each image, float32, float16, or bfloat16 held as uint16.

        Args:
            patches: (num_patches, 588) of each image.
            grids: patches from top to bottom and from left to right of each image.

        Raises:
            PageError: E_OOM, an image does not fit into memory.
            RuntimeError: macOS ended or refused a computation on the GPU.
        """
        found: list[NDArray[Any]] = []
        for places in pack([len(values) for values in patches], self.pack_patches):
            group = [patches[place] for place in places]
            found += self._encode_group(group, [grids[place] for place in places])
        return found

    def _encode_group(self, patches: list[NDArray[np.float32]], grids: list[Grid]) -> list[NDArray[Any]]:
        """Embeddings of images in one call, or, when that fails for lack of memory, in a call for each."""
        if len(patches) == 1:
            return [self._encode_single(patches[0], grids[0])]
        together = self._attempt(np.concatenate(patches), grids, self.query_chunk)
        if together is None:
            return [self._encode_single(values, grid) for values, grid in zip(patches, grids, strict=True)]
        ends = np.cumsum([len(values) // 4 for values in patches])[:-1]
        return [np.ascontiguousarray(part) for part in np.split(together, ends)]

    def _encode_single(self, patches: NDArray[np.float32], grid: Grid) -> NDArray[Any]:
        for chunk in smaller_chunks(self.query_chunk, len(patches)):
            embeddings = self._attempt(patches, [grid], chunk)
            if embeddings is not None:
                return embeddings
        needed = needed_bytes(self.config, len(patches), chunk)
        free = free_bytes()
        raise PageError(
            f"not enough memory to encode {len(patches)} patches: about {needed / MIB:,.0f} MiB are needed besides the "
            f"model{'' if free is None else f', {free / MIB:,.0f} MiB are free'}",
            f"make the page smaller with --max-pixels {len(patches) * PATCH_PX**2 // 2}, or close other programs",
            code=ErrorCode.OOM,
        )

    def _attempt(self, patches: NDArray[np.float32], grids: list[Grid], chunk: int) -> NDArray[Any] | None:
        """Embeddings of all rows, (num_embeddings, hidden_size); None when memory does not suffice."""
        if not self.on_gpu and self._is_too_large(len(patches), chunk):
            return None
        try:
            embeddings = self.tower(mx.array(patches).astype(self.dtype), grids, chunk, self._pace)
            if embeddings.dtype == mx.bfloat16:  # numpy has no such type: its bits travel
                embeddings = embeddings.view(mx.uint16)
            return np.array(embeddings)
        except (MemoryError, RuntimeError) as error:
            if not is_exhaustion(error):
                raise
        # Only here, where the exception and the arrays in its traceback are gone, is there something to free.
        mx.clear_cache()
        return None

    def _is_too_large(self, num_patches: int, chunk: int) -> bool:
        free = free_bytes()
        return free is not None and needed_bytes(self.config, num_patches, chunk) > free + mx.get_cache_memory()
