"""Options of the decoder plugin ``mlx``, as in ``--decoder mlx:batch=4,rows=8``. Imports no MLX."""

from dataclasses import dataclass

from dotsctl.protocol.machine.memory import Need, decoder_need, encoder_need, position_bytes
from dotsctl.protocol.model.quantisation import KINDS, Quantisation, chosen_quantisation
from dotsctl.protocol.model.validation import CheckpointFacts
from dotsctl.protocol.worker.mlx import CACHE_MIB, DTYPE_DEFAULT, DTYPE_HELP, DTYPES, item_bytes
from dotsctl.protocol.worker.plugin_options import MemoryPart, option

USUAL_BATCH = 16
"""A pass over 16 pages took 1.3 times as long as one over 8 (200 M parameters, float32, Linux)."""
USUAL_POSITIONS = 7000
"""Positions of an A4 page at 200 dpi, its prompt, and an answer of 2,000 tokens."""


@dataclass(frozen=True)
class MLXDecoderOptions:
    """The options that the user chose; none: left to the plugin."""

    batch: int | None = option(
        None, "most pages decoded at once", minimum=1, shown_default=f"{USUAL_BATCH}, or as many as fit into memory"
    )
    rows: int = option(16, "most rows of a pass, with drafted tokens; 1: nothing is drafted", minimum=1)
    prefill_chunk: int = option(256, "positions of a prompt that are computed between two passes", minimum=1)
    cache_mib: int = option(
        4096,
        "MiB for the keys and values of all pages; the default holds 9,300 positions for each of 16 pages on a GPU",
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


def usual_batch(facts: CheckpointFacts, options: MLXDecoderOptions, usable_bytes: int) -> int:
    """Return the pages to decode at once where the user chose no number: 16, or as many as surely fit into memory.

    Args:
        facts: of the model.
        options: with the limit of the keys and values.
        usable_bytes: memory of the machine for both halves.
    """
    bytes_ = item_bytes(options.dtype)
    least_bytes = encoder_need(facts, bytes_).least_bytes + mlx_decoder_need(facts, options).least_bytes
    keys_bytes = min(options.cache_mib << 20, usable_bytes - least_bytes)
    positions = keys_bytes // position_bytes(facts.text, bytes_)
    return max(1, min(USUAL_BATCH, positions // min(USUAL_POSITIONS, options.context or USUAL_POSITIONS)))
