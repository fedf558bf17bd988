"""Options of the encoder plugin ``mlx``, as in ``--encoder mlx:dtype=bfloat16,compile=off``. Imports no MLX."""

from dataclasses import dataclass, replace

from dotsctl.encoder_worker.plugins.gpu_pace import TARGET_S
from dotsctl.protocol.worker.mlx import CACHE_MIB, DTYPE_DEFAULT, DTYPE_HELP, DTYPES
from dotsctl.protocol.worker.plugin_options import MemoryPart, option

CPU_QUERY_CHUNK = 256
"""A chunk measured on Linux: as fast as complete pages, and 77 MB instead of 856 MB of scores for 4096 patches."""
GPU_QUERY_CHUNK = 1024
"""The chunk where the head's width has no fused kernel."""
PACK_PATCHES = 4096
"""The patches of about half a GiB of activations in float32; a page of 800 x 1000 px has as many patches."""


@dataclass(frozen=True)
class MLXEncoderOptions:
    """The options that the user chose; none: left to the plugin."""

    query_chunk: int | None = option(
        None,
        "most patches that attend at a time, 0 for any number: fewer need less memory and more time",
        minimum=0,
        shown_default=f"{CPU_QUERY_CHUNK} on a CPU; on a GPU 0, or {GPU_QUERY_CHUNK} where heads of this width have no "
        f"fused kernel, and never more than the GPU computes in {TARGET_S * 1000:g} ms",
    )
    pack_patches: int = option(PACK_PATCHES, "most patches of several images that share a call", minimum=0)
    compile: bool | None = option(
        None,
        "fused elementwise kernels; on a CPU they save nothing and keep a C++ compiler busy at the first page",
        shown_default="on on a GPU, off on a CPU",
    )
    dtype: str | None = option(None, DTYPE_HELP, choices=DTYPES, shown_default=DTYPE_DEFAULT)
    mlx_cache_mib: int = option(
        CACHE_MIB, "MiB of freed buffers that MLX keeps for reuse", minimum=0, memory=MemoryPart.FREED
    )

    def on(self, on_gpu: bool, fused_heads: bool) -> "MLXEncoderOptions":
        """Return the same with everything chosen.

        Args:
            on_gpu: whether MLX computes on a GPU.
            fused_heads: whether it has a fused attention kernel for heads of this width.
        """
        chunk = CPU_QUERY_CHUNK if not on_gpu else 0 if fused_heads else GPU_QUERY_CHUNK
        return replace(
            self,
            query_chunk=chunk if self.query_chunk is None else self.query_chunk,
            compile=on_gpu if self.compile is None else self.compile,
            dtype=self.dtype or ("bfloat16" if on_gpu else "float32"),
        )
