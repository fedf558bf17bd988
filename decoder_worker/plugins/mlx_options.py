"""Options of the decoder plugin ``mlx``. Imports no MLX."""

from typing import NamedTuple

from dotsctl.decoder_worker.quantised import DEFAULT_GROUP_SIZE, Quantisation
from dotsctl.protocol.errors import UsageError

DTYPES = ("float32", "bfloat16", "float16")


class MLXOptions(NamedTuple):
    """Options of the plugin, as in ``--decoder mlx:batch=4,rows=8``."""

    batch: int = 8
    """Most pages decoded at once."""
    rows: int = 16
    """Rows of a pass over which drafted tokens may spread."""
    prefill_chunk: int = 256
    """Positions of a prompt that are computed between two passes."""
    cache_mib: int = 4096
    """Memory for the keys and values of all pages; 18,700 positions for each of 8 pages of dots.ocr on a GPU."""
    mlx_cache_mib: int = 1024
    """Freed buffers that MLX keeps for reuse; its own limit on a Mac is nearly all of the memory."""
    context: int | None = None
    """Most positions of a page's prompt and answer together; none: as many as the model has."""
    bits: int | None = None
    """4 or 8: use the decoder that ``dotsctl convert`` has quantised; none: the model's own weights."""
    group_size: int | None = None
    """Of the quantised decoder, where ``bits`` asks for it."""
    dtype: str | None = None
    """A value of ``DTYPES``; none: bfloat16 on a GPU, float32 on a CPU, where the others are 40 times slower. float16
    needs ``dotsctl convert MODEL --float16`` once, and is meant for M1 and M2, which emulate bfloat16."""

    def quantisation(self) -> Quantisation | None:
        """The quantised decoder that is asked for. Raises UsageError."""
        if self.bits is not None:
            return Quantisation(self.bits, self.group_size or DEFAULT_GROUP_SIZE)
        if self.group_size is not None:
            raise UsageError(f"decoder mlx: group_size goes with bits; write bits=8,group_size={self.group_size}")
        return None

    @classmethod
    def read(cls, options: dict[str, str]) -> "MLXOptions":
        """Options as numbers. Raises UsageError for an unknown one and for a value that is no positive number."""
        if unknown := sorted(options.keys() - set(cls._fields)):
            raise UsageError(
                f"decoder mlx has no option {', '.join(unknown)}. It knows batch (pages at once), rows (rows of a pass "
                "for drafts), prefill_chunk (positions between two passes), cache_mib (memory for keys and values), "
                "mlx_cache_mib (freed buffers that are kept for reuse), context (positions of a page), bits (8 or 4: "
                "the decoder that 'dotsctl convert' has quantised), group_size (of its weights) and dtype "
                f"({', '.join(DTYPES)})"
            )
        dtype = options.get("dtype")
        if dtype is not None and dtype not in DTYPES:
            raise UsageError(f"decoder mlx: dtype={dtype!r} is unknown; use {', '.join(DTYPES)}")
        numbers = {key: value for key, value in options.items() if key != "dtype"}
        for key, value in numbers.items():
            if not value.isdecimal() or int(value) < 1:
                raise UsageError(f"decoder mlx: {key}={value!r} is no number above 0; write {key}=8")
        return cls(**{key: int(value) for key, value in numbers.items()}, dtype=dtype)
