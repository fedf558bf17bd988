"""A decoder in this process that reads pages greedily, and that can be led along a given answer.

Leading gives the token that the decoder would write at each position if everything before it were as given: so two
encoders, or two decoders, can be compared at every position, also behind the first one at which they differ.
"""

from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
from dotsctl.decoder_worker.adapter import BatchAdapter, SplicedPage
from dotsctl.decoder_worker.drafts.depth import RowCosts
from dotsctl.decoder_worker.drafts.verifying import NoDrafts
from dotsctl.decoder_worker.model import TextModel, dequantise, load_model
from dotsctl.decoder_worker.prompt import PromptBuilder
from dotsctl.decoder_worker.quantised import QuantisedDecoder
from dotsctl.decoder_worker.rows import PageRun, RowScheduler
from dotsctl.decoder_worker.splice import check_length, splice
from dotsctl.decoder_worker.stop import StopRule
from dotsctl.decoder_worker.tasks import read_prompts
from dotsctl.decoder_worker.text import decode
from dotsctl.encoder_worker.plugin import EncodedPage
from dotsctl.protocol.parts import FinishReason
from mlx_lm.models.cache import make_prompt_cache
from numpy.typing import NDArray

ANSWER_TOKENS = 512
"""Most tokens of an answer that are compared; enough for half a dense page, and minutes on a CPU."""
LOGIT_POSITIONS = 32
"""Positions of a page, evenly spaced, at which all logits are kept: 20 MB for the 151,936 of dots.ocr."""
CHUNK = 64
"""Positions of one pass along a given answer; their logits take 39 MB."""


@dataclass(frozen=True)
class DecodedAnswer:
    """The answer of one decoder about a page."""

    tokens: list[int]
    text: str
    has_end: bool


@dataclass(frozen=True)
class Led:
    """One decoder along a given answer."""

    best: list[int]
    """The best token at each position."""
    logits: NDArray[np.float32]
    """(positions, vocabulary) at some of them."""


class Reader:
    """One decoder, loaded, and what it needs around it; for one task."""

    def __init__(self, model: Path, quantised: QuantisedDecoder | None = None, *, prefer: str | None = None) -> None:
        """Load the decoder of a model, or a quantised one derived from it.

        Args:
            model: its folder.
            quantised: instead of the model's own weights.
            prefer: the task, if the model has it; else its default one.

        Raises:
            MissingError: a part of the model is missing.
        """
        self._model: TextModel = load_model(model, quantised=quantised)
        if quantised is not None and not self._model.on_gpu:
            # A CPU multiplies 40 times faster by the same weights as float32: the numbers are equal up to rounding.
            dequantise(self._model.network, self._model.dtype)
            mx.eval(self._model.network.parameters())
        self._prompts = PromptBuilder(self._model.tokenizer, read_prompts(model), self._model.image_token_id)
        self._task = prefer if prefer in self._prompts.tasks else self._prompts.tasks[0]

    def read(self, page: EncodedPage) -> DecodedAnswer:
        """Read a page as the worker does, without drafts."""
        spliced, room = self._spliced(page)
        rule = StopRule(self._model.end_ids, min(room, ANSWER_TOKENS))
        scheduler = RowScheduler(
            BatchAdapter(self._model.network, CHUNK * 4), 1, 1, self._model.context, RowCosts(((1, 1.0),))
        )
        scheduler.admit(0, spliced, PageRun(rule, NoDrafts(), len(spliced.ids)))
        while rule.reason is None:
            scheduler.step()
        return DecodedAnswer(rule.tokens, decode(self._model.tokenizer, rule.tokens), rule.reason is FinishReason.STOP)

    def lead(self, page: EncodedPage, answer: DecodedAnswer) -> Led:
        """Best tokens and some logits at each position of an answer."""
        spliced, _ = self._spliced(page)
        caches = make_prompt_cache(self._model.network)
        last = len(spliced.ids) - 1
        for start in range(0, last, CHUNK * 4):
            rows = spliced.embeddings[start : min(start + CHUNK * 4, last)]  # (chunk, width)
            self._model.network.model(None, caches, rows[None])
            mx.eval([cache.state for cache in caches])
        inputs = [spliced.ids[last], *(answer.tokens if answer.has_end else answer.tokens[:-1])]
        kept = set(np.linspace(0, len(inputs) - 1, min(LOGIT_POSITIONS, len(inputs))).round().astype(int).tolist())
        best: list[int] = []
        logits: list[NDArray[np.float32]] = []
        for start in range(0, len(inputs), CHUNK):
            tokens = inputs[start : start + CHUNK]
            found = self._model.network(mx.array([tokens]), cache=caches)[0].astype(mx.float32)  # (chunk, vocabulary)
            best += np.array(mx.argmax(found, axis=-1)).tolist()
            logits += [np.array(found[index]) for index in range(len(tokens)) if start + index in kept]
        return Led(best, np.stack(logits))

    def _spliced(self, page: EncodedPage) -> tuple[SplicedPage, int]:
        """The prompt around a page, and the positions that it leaves."""
        model = self._model
        prompt = self._prompts.build(self._task, None, (len(page.embeddings),), page.geometry)
        room = check_length(prompt, model.context)
        embeddings = splice(prompt, page.embeddings, model.network.model.embed_tokens, model.dtype, model.width)
        return SplicedPage(prompt.ids, embeddings), room
