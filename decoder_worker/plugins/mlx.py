"""The decoder plugin ``mlx``: the text half on the GPU of a Mac, or on the CPU under Linux; greedy.

Nothing of MLX is imported before ``load``: a fast BLAS must come first, and a missing MLX must be an error that
says what to install.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dotsctl.decoder_worker.plugin import DecoderSpec, EncodedPrompt, Piece, Report
from dotsctl.decoder_worker.quantised import DEFAULT_GROUP_SIZE, Quantisation, open_quantised
from dotsctl.protocol.blas import preload_blas
from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.protocol.model_directory import fingerprint

if TYPE_CHECKING:
    from dotsctl.decoder_worker.page_decoder import PageDecoder


class _Options(NamedTuple):
    """Options of the plugin, as in ``--decoder mlx:batch=4,rows=8``."""

    batch: int = 8
    """Most pages decoded at once."""
    rows: int = 16
    """Rows of a pass over which drafted tokens may spread."""
    prefill_chunk: int = 256
    """Positions of a prompt that are computed between two passes."""
    cache_mib: int = 4096
    """Memory for the keys and values of all pages; 18,700 positions for each of 8 pages of dots.ocr on a GPU."""
    bits: int | None = None
    """4 or 8: use the decoder that ``dotsctl convert`` has quantised; none: the model's own weights."""
    group_size: int | None = None
    """Of the quantised decoder, where ``bits`` asks for it."""

    def quantisation(self) -> Quantisation | None:
        """The quantised decoder that is asked for. Raises UsageError."""
        if self.bits is not None:
            return Quantisation(self.bits, self.group_size or DEFAULT_GROUP_SIZE)
        if self.group_size is not None:
            raise UsageError(f"decoder mlx: group_size goes with bits; write bits=8,group_size={self.group_size}")
        return None


class MLXDecoder:
    """Reads a dots.ocr snapshot as it is; see :class:`dotsctl.decoder_worker.plugin.Decoder`."""

    def __init__(self) -> None:
        self._loaded: PageDecoder | None = None

    def load(self, model: Path, options: dict[str, str], report: Report) -> DecoderSpec:
        """Load the model and decode a page of one embedding.

        Raises:
            UsageError: an unknown option, a value that is no positive number, or a model of another kind.
            MissingError: MLX or a file of the model is missing, or the quantised decoder that ``bits`` asks for.
        """
        chosen = _read_options(options)
        quantisation = chosen.quantisation()
        report(f"matrix products: {preload_blas() or 'as MLX brings them'}")
        try:
            from dotsctl.decoder_worker.page_decoder import PageDecoder
        except ImportError as error:
            raise MissingError(f"MLX cannot be imported ({error}): pip install 'dotsctl[all]'") from None
        report("computing the model's fingerprint")
        digest = fingerprint(model)
        quantised = None
        if quantisation is not None:
            report("checking the quantised decoder")
            quantised = open_quantised(model, digest, quantisation)
        report("loading the text model")
        self._loaded = PageDecoder(model, chosen.batch, chosen.rows, chosen.prefill_chunk, chosen.cache_mib, quantised)
        report("decoding a warm-up page")
        self._loaded.warm_up()
        return DecoderSpec(digest, self._loaded.width, chosen.batch, self._loaded.tasks)

    def has_room(self, prompt: EncodedPrompt) -> bool:
        """Whether fewer than ``batch`` pages are here and the page fits into ``cache_mib`` beside them."""
        return self._decoder.has_room(prompt)

    def admit(self, prompt: EncodedPrompt) -> None:
        """Splice the page into its prompt and queue it.

        Raises:
            PageError: an unknown task, a prompt that leaves no position for an answer, or embeddings that do not fit.
        """
        self._decoder.admit(prompt)

    def step(self) -> list[Piece]:
        """One prefill chunk where a page waits for one, and one pass where pages run."""
        return self._decoder.step()

    def cancel(self, page_id: int) -> None:
        """Forget a page; unknown ids are ignored."""
        self._decoder.cancel(page_id)

    def close(self) -> None:
        """Free the model and all pages."""
        if self._loaded is not None:
            self._loaded.close()
        self._loaded = None

    @property
    def _decoder(self) -> "PageDecoder":
        if self._loaded is None:
            raise RuntimeError("load comes before everything else")
        return self._loaded


def _read_options(options: dict[str, str]) -> _Options:
    """Options as numbers."""
    if unknown := sorted(options.keys() - set(_Options._fields)):
        raise UsageError(
            f"decoder mlx has no option {', '.join(unknown)}. It knows batch (pages at once), rows (rows of a pass "
            "for drafts), prefill_chunk (positions between two passes), cache_mib (memory for keys and values), bits "
            "(8 or 4: the decoder that 'dotsctl convert' has quantised) and group_size (of its weights)"
        )
    for key, value in options.items():
        if not value.isdecimal() or int(value) < 1:
            raise UsageError(f"decoder mlx: {key}={value!r} is no number above 0; write {key}=8")
    return _Options(**{key: int(value) for key, value in options.items()})
