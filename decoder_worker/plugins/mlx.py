"""The decoder plugin ``mlx``: the text half on the GPU of a Mac, or on the CPU under Linux; greedy.

Nothing of MLX is imported before ``load``: a fast BLAS must come first, and a missing MLX must be an error that
names what to install.
"""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from dotsctl.decoder_worker.plugin import DecoderSpec, EncodedPrompt, Piece, Report
from dotsctl.decoder_worker.plugins.mlx_options import MLXDecoderOptions, mlx_decoder_need
from dotsctl.decoder_worker.quantised import open_quantised
from dotsctl.protocol.errors import REINSTALL, MissingError, UsageError
from dotsctl.protocol.machine.identity import this_machine
from dotsctl.protocol.machine.libraries import MLX
from dotsctl.protocol.model.directory import fingerprint
from dotsctl.protocol.model.half_precision import HalfPlan, read_plan
from dotsctl.protocol.model.tasks import read_own_prompts
from dotsctl.protocol.model.validation import validate_checkpoint
from dotsctl.protocol.parts import Device, Role
from dotsctl.protocol.worker import mlx as mlx_facts
from dotsctl.protocol.worker.blas import preload_blas
from dotsctl.protocol.worker.plugins import PluginDescription

if TYPE_CHECKING:
    from dotsctl.decoder_worker.page_decoder import PageDecoder


class MLXDecoder:
    """Reads a dots.ocr snapshot as it is; see :class:`dotsctl.decoder_worker.plugin.Decoder`."""

    description = PluginDescription(
        help="The text decoder on the GPU of a Mac, or on the CPU under Linux; greedy, several pages at once.",
        options=MLXDecoderOptions,
        memory=mlx_decoder_need,
        available=lambda options: mlx_facts.unavailable(),
        device=lambda options: mlx_facts.expected_device(),
        tasks=read_own_prompts,
        smaller="make a smaller decoder: dotsctl convert MODEL --decoder-bits 4, then --decoder mlx:bits=4",
    )

    def __init__(self) -> None:
        self._loaded: PageDecoder | None = None

    def load(self, model: Path, options: MLXDecoderOptions, report: Report) -> DecoderSpec:
        """Load the model and decode a page of one embedding.

        Raises:
            UsageError: a model of another kind, one that float16 cannot compute, or ``bits`` for one that is quantised
                already.
            MissingError: MLX or a file of the model is missing, the quantised decoder for ``bits``, or the
                measured magnitudes that ``dtype=float16`` needs.
        """
        quantisation = options.quantisation()
        report(f"BLAS: {preload_blas() or 'built into MLX'}")
        try:
            from dotsctl.decoder_worker.page_decoder import PageDecoder
        except ImportError as error:
            raise MissingError(f"MLX cannot be imported ({error})", REINSTALL) from None
        report("computing the model's fingerprint")
        digest = fingerprint(model)
        quantised = None
        if quantisation is not None:
            if validate_checkpoint(model).decoder.packed_parameters:
                raise UsageError(f"the decoder of {model} is quantised already", "leave the option bits out")
            report("checking the quantised decoder")
            quantised = open_quantised(model, digest, quantisation)
        plan = HalfPlan()
        if options.dtype == "float16":
            plan = read_plan(digest, Role.DECODER, model)
            plan.require_possible("use --decoder mlx:dtype=bfloat16")
            report(f"float16: {plan.imprecise or 'measured and exact enough'}")
        report("loading the text model")
        self._loaded = PageDecoder(model, options, quantised, plan)
        report("decoding a warm-up page")
        self._loaded.warm_up()
        if options.rows > 1:
            report("measuring passes of several rows")
            weights = str(quantisation or "own weights")
            self._loaded.time_rows((digest, weights, options.dtype or "", version(MLX)), this_machine())
        device = Device.GPU if self._loaded.on_gpu else Device.CPU
        return DecoderSpec(digest, self._loaded.width, self._loaded.capacity, self._loaded.tasks, device)

    def has_room(self, prompt: EncodedPrompt) -> bool:
        """Return whether fewer than ``batch`` pages are held and the page fits into ``cache_mib`` with them."""
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

    def prefill(self) -> bool:
        """One prefill chunk where a page waits for one; whether a page waits for another one."""
        return self._decoder.prefill()

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
