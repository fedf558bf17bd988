"""Pages in, pieces of text out: prompt, splice, rows, stop rule and text put together. Used by the MLX plugin alone."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from dotsctl.decoder_worker.adapter import BatchAdapter, SplicedPage
from dotsctl.decoder_worker.drafts.depth import RowCosts
from dotsctl.decoder_worker.drafts.page_drafter import PageDrafter
from dotsctl.decoder_worker.model import UNSCALED, load_model
from dotsctl.decoder_worker.plugin import EncodedPrompt, Finish, Piece
from dotsctl.decoder_worker.plugins.mlx_options import MLXDecoderOptions, usual_batch
from dotsctl.decoder_worker.prompt import PromptBuilder
from dotsctl.decoder_worker.quantised import QuantisedDecoder
from dotsctl.decoder_worker.row_timing import known_or_measured
from dotsctl.decoder_worker.rows import Gain, PageRun, RowScheduler
from dotsctl.decoder_worker.splice import check_length, splice
from dotsctl.decoder_worker.stop import StopRule
from dotsctl.decoder_worker.tasks import read_prompts
from dotsctl.decoder_worker.text import TextStream, decode
from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.machine.identity import Machine
from dotsctl.protocol.machine.memory import is_exhaustion, memory_limit
from dotsctl.protocol.model.half_precision import HalfPlan
from dotsctl.protocol.model.validation import validate_checkpoint
from dotsctl.protocol.parts import FinishReason
from dotsctl.protocol.worker.gpu_faults import piece_share

T = TypeVar("T")
WARM_UP_ID = -1
NOT_FINITE_TEXT = "computes NaN or infinity in place of the scores of the next token"
UNMEASURED = RowCosts(((1, 1.0), (2, 2.0)))
"""Costs at which nothing is drafted."""
PROMPT_TOKENS = 256
"""Room for the text around a page; it is tokenized only when the page is admitted."""


class PageDecoder:
    """Greedy decoding of several pages at once with one model. All calls in one thread."""

    def __init__(
        self,
        folder: Path,
        options: MLXDecoderOptions,
        quantised: QuantisedDecoder | None = None,
        plan: HalfPlan = UNSCALED,
    ) -> None:
        """Load the model of ``folder``; with ``quantised`` its weights are those, with ``plan`` they are scaled.

        Raises:
            MissingError: the model is broken, of another kind, or too large for this machine.
            UsageError: its prompts are none.
        """
        self._model = load_model(folder, options.cache_mib << 20, quantised, options.dtype, plan)
        self._context = min(self._model.context, options.context or self._model.context)
        self._prompts = PromptBuilder(self._model.tokenizer, read_prompts(folder), self._model.image_token_id)
        chunk = max(1, round(options.prefill_chunk * piece_share()))
        self._adapter = BatchAdapter(self._model.network, chunk, self._model.on_gpu, options.mlx_cache_mib << 20)
        positions = (options.cache_mib << 20) // self._model.position_bytes
        batch = options.batch or usual_batch(validate_checkpoint(folder), options, memory_limit().usable_bytes)
        self.scheduler = RowScheduler(self._adapter, batch, options.rows, positions, UNMEASURED)
        self._streams: dict[int, TextStream] = {}

    @property
    def capacity(self) -> int:
        """Most pages at once."""
        return self.scheduler.capacity

    @property
    def width(self) -> int:
        """Columns of the embeddings."""
        return self._model.width

    @property
    def on_gpu(self) -> bool:
        """Return whether the model is computed on a GPU."""
        return self._model.on_gpu

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that the model has a prompt for, the default one first."""
        return self._prompts.tasks

    def has_room(self, prompt: EncodedPrompt) -> bool:
        """Return whether the page fits into the batch and its memory; true for any page when there is none."""
        return self.scheduler.has_room(len(prompt.embeddings) + PROMPT_TOKENS)

    def admit(self, prompt: EncodedPrompt) -> None:
        """Splice the page into its prompt and queue it.

        Raises:
            PageError: an unknown task, a prompt that leaves no position for an answer, or embeddings that do not fit.
            MemoryError: there is not enough memory for its prompt.
        """
        model = self._model
        built = self._prompts.build(prompt.task, prompt.prompt, prompt.image_embeddings, prompt.geometry, prompt.box)
        room = check_length(built, self._context)
        table = model.network.model.embed_tokens
        try:
            embeddings = splice(built, prompt.embeddings, table, model.dtype, model.width, model.page_factor)
        except RuntimeError as error:
            if is_exhaustion(error):
                raise MemoryError(str(error)) from None
            raise
        limit = room if prompt.max_tokens is None else min(room, prompt.max_tokens)
        drafter = PageDrafter(model.tokenizer, prompt.task, prompt.hint, prompt.geometry)
        run = PageRun(StopRule(model.end_ids, limit), drafter, len(built.ids))
        self.scheduler.admit(prompt.page_id, SplicedPage(built.ids, embeddings), run)
        self._streams[prompt.page_id] = TextStream(model.tokenizer)

    def step(self) -> list[Piece]:
        """One prefill chunk where a page waits for one, and one pass where pages run.

        Raises:
            MemoryError: there is not enough memory for the pages; all of them are forgotten.
        """
        return [self._piece(gain) for gain in self._computed(self.scheduler.step)]

    def prefill(self) -> bool:
        """One prefill chunk where a page waits for one; whether a page waits for another one. Raises as step does."""
        return self._computed(self.scheduler.prefill)

    def _computed(self, compute: Callable[[], T]) -> T:
        """Return what the model computes; when that fails for lack of memory, forget all pages."""
        try:
            return compute()
        except (MemoryError, RuntimeError) as error:
            if not is_exhaustion(error):
                raise
            problem = str(error)
        # Memory can be freed only here, where the exception and the arrays in its traceback are gone.
        self.scheduler.clear()
        self._streams.clear()
        raise MemoryError(problem)

    def cancel(self, page_id: int) -> None:
        """Forget a page; unknown ids are ignored."""
        self.scheduler.cancel(page_id)
        self._streams.pop(page_id, None)

    def close(self) -> None:
        """Forget all pages."""
        for page_id in list(self._streams):
            self.cancel(page_id)

    def warm_up(self) -> None:
        """Decode a page of one embedding, so that the first real page finds everything compiled.

        Raises:
            MissingError: the model computes no numbers.
        """
        page = np.zeros((1, self.width), np.float32)
        self.admit(EncodedPrompt(WARM_UP_ID, page, self.tasks[0], "Read.", 2, None))
        while self._streams:
            for error in filter(None, (piece.error for piece in self.step())):
                raise MissingError(f"the model {error}", "its weights are damaged: download it again")

    def time_rows(self, key: Sequence[str], machine: Machine) -> None:
        """Find out what the rows of a pass cost here, measured or remembered; before it nothing is drafted.

        Args:
            key: all that the time of a pass depends on besides the machine.
            machine: this one.
        """
        times = known_or_measured(self._model.network, key, machine)
        self.scheduler.costs, self._adapter.tie_gap = times.costs, times.tie_gap

    def _piece(self, gain: Gain) -> Piece:
        stream, rule = self._streams[gain.page_id], gain.run.stop
        if not gain.is_finite:
            del self._streams[gain.page_id]
            return Piece(gain.page_id, "", 0, error=NOT_FINITE_TEXT)
        new = stream.push(gain.tokens)
        if rule.reason is None:
            return Piece(gain.page_id, new, gain.num_decoded)
        del self._streams[gain.page_id]
        text = decode(self._model.tokenizer, rule.tokens) if rule.reason is FinishReason.LOOP else stream.text
        finish = Finish(rule.reason, text, gain.run.prompt_tokens, rule.num_decoded)
        return Piece(gain.page_id, new, gain.num_decoded, finish)
