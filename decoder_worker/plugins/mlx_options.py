"""Options of the decoder plugin ``mlx``, as in ``--decoder mlx:batch=4,rows=8``. Imports no MLX."""

from dataclasses import dataclass

from dotsctl.protocol.machine.memory import Need, decoder_need
from dotsctl.protocol.model.quantisation import KINDS, Quantisation, chosen_quantisation
from dotsctl.protocol.model.validation import CheckpointFacts
from dotsctl.protocol.worker.mlx import CACHE_MIB, DTYPE_DEFAULT, DTYPE_HELP, DTYPES, item_bytes
from dotsctl.protocol.worker.plugin_options import MemoryPart, option


@dataclass(frozen=True)
class MLXDecoderOptions:
    """The options that the user chose; none: left to the plugin."""

    batch: int = option(8, "most pages decoded at once", minimum=1)
    rows: int = option(16, "most rows of a pass, with drafted tokens; 1: nothing is drafted", minimum=1)
    prefill_chunk: int = option(256, "positions of a prompt that are computed between two passes", minimum=1)
    cache_mib: int = option(
        4096,
        "MiB for the keys and values of all pages; the default holds 18,700 positions for each of 8 pages on a GPU",
        minimum=1,
        memory=MemoryPart.KEYS,
    )
    mlx_cache_mib: int = option(
        CACHE_MIB, "MiB of freed buffers that MLX keeps for reuse", minimum=1, memory=MemoryPart.FREED
    )
    context: int | None = option(
        None,
        "most positions of a page's prompt and answer together",
        minimum=1,
        shown_default="those of the model",
    )
    bits: str | None = option(
        None,
        "the quantised decoder that 'dotsctl convert MODEL --decoder-bits BITS' has made",
        choices=tuple(KINDS),
        shown_default="the model's own weights",
    )
    group_size: int | None = option(
        None,
        "weights of the quantised decoder that share a scale",
        minimum=1,
        shown_default="64, of mxfp4 and mxfp8 32, of nvfp4 16",
    )
    dtype: str | None = option(None, DTYPE_HELP, choices=DTYPES, shown_default=DTYPE_DEFAULT)

    def __post_init__(self) -> None:
        if self.group_size is not None and self.bits is None:
            raise ValueError(f"group_size goes with bits: write bits=8,group_size={self.group_size}")
        self.quantisation()

    def quantisation(self) -> Quantisation | None:
        """Return the quantised decoder that is requested; none: the model's own weights. Raises UsageError."""
        return chosen_quantisation(self.bits, self.group_size) if self.bits is not None else None


def mlx_decoder_need(facts: CheckpointFacts, options: MLXDecoderOptions) -> Need:
    """Return the memory of the decoder, with its own weights or those that ``bits`` names."""
    bytes_, quantisation = item_bytes(options.dtype), options.quantisation()
    weights = int(facts.decoder.parameters * quantisation.weight_bytes(bytes_)) if quantisation else None
    return decoder_need(facts, bytes_, options.cache_mib << 20, weights)
