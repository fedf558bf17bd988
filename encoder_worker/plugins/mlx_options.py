"""Options of the encoder plugin ``mlx``, as in ``--encoder mlx:dtype=bfloat16,compile=off``. Imports no MLX."""

from dataclasses import dataclass

from dotsctl.encoder_worker.plugins.exhaustion import CALL_FLOP
from dotsctl.protocol.errors import UsageError

CPU_QUERY_CHUNK = 256
"""Measured on Linux: as fast as whole pages, and 77 MB instead of 856 MB of scores for 4096 patches."""
GPU_QUERY_CHUNK = 1024
"""Where the head's width has no fused kernel."""
PACK_PATCHES = 4096
"""About half a GiB of activations in float32; a page of 800 x 1000 px has as many patches."""
MLX_CACHE_MIB = 1024
"""MLX's own limit on a Mac is nearly all of the memory."""
NUMBERS = {
    "query_chunk": "patches that attend at a time, 0 for all at once: less memory against less speed; by default "
    f"{CPU_QUERY_CHUNK} on a CPU; on a GPU as many as keep a call below {CALL_FLOP / 1e12:g} TFLOP, as macOS ends long "
    f"ones, or {GPU_QUERY_CHUNK} where heads of this width have no fused kernel",
    "mlx_cache_mib": f"MiB of freed buffers that MLX keeps for reuse (default {MLX_CACHE_MIB})",
    "pack_patches": f"most patches of several images that share a call (default {PACK_PATCHES})",
}
WORDS = {
    "compile": (
        ("on", "off"),
        "on or off: fuse elementwise kernels; by default on on a GPU, and off on a CPU, where it was measured to save "
        "nothing and keeps a C++ compiler busy at the first page",
    ),
    "dtype": (
        ("float32", "bfloat16", "float16"),
        "float32, bfloat16 or float16; by default bfloat16 on a GPU and float32 on a CPU, where the others are 40 "
        "times slower. float16 is for M1 and M2, which emulate bfloat16; run 'dotsctl convert MODEL --float16' first",
    ),
}


@dataclass(frozen=True)
class MLXOptions:
    """What the user chose; none: left to us."""

    query_chunk: int | None = None
    pack_patches: int = PACK_PATCHES
    compile: bool | None = None
    dtype: str | None = None
    mlx_cache_mib: int = MLX_CACHE_MIB

    @classmethod
    def read(cls, options: dict[str, str]) -> "MLXOptions":
        """Options as values; raises UsageError with what is known."""
        if unknown := sorted(options.keys() - NUMBERS.keys() - WORDS.keys()):
            meanings = NUMBERS | {key: meaning for key, (_, meaning) in WORDS.items()}
            known = "; ".join(f"{key}: {meaning}" for key, meaning in meanings.items())
            raise UsageError(f"encoder mlx has no option {', '.join(unknown)}. It knows {known}")
        for key, text in options.items():
            if key in NUMBERS and not text.isdecimal():
                raise UsageError(f"encoder mlx: {key}={text!r} is no number; it is {NUMBERS[key]}")
            if key in WORDS and text not in WORDS[key][0]:
                raise UsageError(f"encoder mlx: {key}={text!r} is unknown; it is {WORDS[key][1]}")
        chunk, switch = options.get("query_chunk"), options.get("compile")
        return cls(
            query_chunk=None if chunk is None else int(chunk),
            pack_patches=int(options.get("pack_patches", PACK_PATCHES)),
            compile=None if switch is None else switch == "on",
            dtype=options.get("dtype"),
            mlx_cache_mib=int(options.get("mlx_cache_mib", MLX_CACHE_MIB)),
        )

    def on(self, on_gpu: bool, fused_heads: bool) -> "MLXOptions":
        """The same with everything chosen, except a ``query_chunk`` that depends on the page (None).

        Args:
            on_gpu: whether MLX computes on a GPU.
            fused_heads: whether it has a fused attention kernel for heads of this width.
        """
        chunk = CPU_QUERY_CHUNK if not on_gpu else None if fused_heads else GPU_QUERY_CHUNK
        return MLXOptions(
            query_chunk=chunk if self.query_chunk is None else self.query_chunk,
            pack_patches=self.pack_patches,
            compile=on_gpu if self.compile is None else self.compile,
            dtype=self.dtype or ("bfloat16" if on_gpu else "float32"),
            mlx_cache_mib=self.mlx_cache_mib,
        )
