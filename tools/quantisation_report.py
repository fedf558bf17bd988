"""How much a quantised decoder differs from the one it was made of, on the same pages.

The unquantised decoder reads the pages first, greedily. Then the quantised one reads them too, which gives the
character error rate between the two answers, and is led along the unquantised answers token by token, which gives the
share of positions at which both would write the same token. The two are never in memory together.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from dotsctl.decoder_worker.adapter import BatchAdapter, SplicedPage
from dotsctl.decoder_worker.drafts import Drafter
from dotsctl.decoder_worker.model import TextModel, load_model
from dotsctl.decoder_worker.prompt import PromptBuilder
from dotsctl.decoder_worker.quantised import QuantisedDecoder
from dotsctl.decoder_worker.rows import PageRun, RowScheduler
from dotsctl.decoder_worker.splice import check_length, splice
from dotsctl.decoder_worker.stop import StopRule
from dotsctl.decoder_worker.tasks import read_prompts
from dotsctl.decoder_worker.text import decode
from dotsctl.encoder_worker.plugin import EncodedPage
from dotsctl.protocol.parts import FinishReason
from dotsctl.tools.derived import watched
from dotsctl.tools.evaluate import Score, edit_distance, normal
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import dequantize_model
from numpy.typing import NDArray

MIN_AGREEMENT = 0.98
"""One other token in fifty is about one in two lines of print; below that a quantised decoder is another decoder."""
MAX_ERROR_RATE = 0.02
"""The same for characters; an error that costs one token here may shift the rest of a free answer."""
ANSWER_TOKENS = 512
"""Most tokens of an answer that are compared; enough for half a dense page, and minutes on a CPU."""
LOGIT_POSITIONS = 32
"""Positions of a page, evenly spaced, at which all logits are kept: 20 MB for the 151,936 of dots.ocr."""
CHUNK = 64
"""Positions of one pass along a given answer; their logits take 39 MB."""


@dataclass(frozen=True)
class QualityReport:
    """The quantised decoder against the unquantised one."""

    pages: int
    positions: int
    """At which the next tokens were compared: those of the unquantised answers, with their ends."""
    token_agreement: float
    """Share of them at which both decoders give the same token, 0 to 1."""
    characters: int
    """Of the unquantised answers."""
    error_rate: float
    """Edits from the unquantised to the quantised answers, per character; blanks and line ends count alike."""
    same_answers: int
    """Pages with exactly equal answers."""
    logit_difference: float
    """Mean absolute difference of logits."""
    logit_magnitude: float
    """Mean absolute logit of the unquantised decoder, to compare with."""

    def record(self) -> dict[str, Any]:
        """For the manifest."""
        return {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(self).items()}

    def warnings(self) -> list[str]:
        """What the user should know, in sentences."""
        found = []
        if self.token_agreement < MIN_AGREEMENT:
            found.append(f"only {self.token_agreement:.2%} of the tokens agree, less than {MIN_AGREEMENT:.0%}")
        if self.error_rate > MAX_ERROR_RATE:
            found.append(f"{self.error_rate:.2%} of the characters differ, more than {MAX_ERROR_RATE:.0%}")
        return found


@dataclass(frozen=True)
class _Answer:
    """What one decoder wrote about a page."""

    tokens: list[int]
    text: str
    has_end: bool


@dataclass(frozen=True)
class _Led:
    """One decoder along a given answer."""

    best: list[int]
    """The best token at each position."""
    logits: NDArray[np.float32]
    """(positions, vocabulary) at some of them."""


@dataclass(frozen=True)
class _Reference:
    """The unquantised decoder on a page."""

    answer: _Answer
    led: _Led


class _Reader:
    """One decoder, loaded, and what it needs around it."""

    def __init__(self, model: Path, quantised: QuantisedDecoder | None) -> None:
        self._model: TextModel = load_model(model, quantised=quantised)
        if quantised is not None and not self._model.on_gpu:
            # A CPU multiplies 40 times faster by the same weights as float32: the numbers are equal up to rounding.
            dequantize_model(self._model.network)
            mx.eval(self._model.network.parameters())
        self._prompts = PromptBuilder(self._model.tokenizer, read_prompts(model), self._model.image_token_id)

    def read(self, page: EncodedPage) -> _Answer:
        """Read a page as the worker does, without drafts."""
        spliced, room = self._spliced(page)
        rule = StopRule(self._model.end_ids, min(room, ANSWER_TOKENS))
        scheduler = RowScheduler(BatchAdapter(self._model.network, CHUNK * 4), 1, 1, self._model.context)
        scheduler.admit(0, spliced, PageRun(rule, Drafter([]), len(spliced.ids)))
        while rule.reason is None:
            scheduler.step()
        return _Answer(rule.tokens, decode(self._model.tokenizer, rule.tokens), rule.reason is FinishReason.STOP)

    def lead(self, page: EncodedPage, answer: _Answer) -> _Led:
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
        return _Led(best, np.stack(logits))

    def _spliced(self, page: EncodedPage) -> tuple[SplicedPage, int]:
        """The prompt around a page, and the positions that it leaves."""
        model = self._model
        prompt = self._prompts.build(self._prompts.tasks[0], None, (len(page.embeddings),), page.geometry)
        room = check_length(prompt, model.context)
        embeddings = splice(prompt, page.embeddings, model.network.model.embed_tokens, model.dtype, model.width)
        return SplicedPage(prompt.ids, embeddings), room


def compare(model: Path, quantised: QuantisedDecoder, pages: Sequence[EncodedPage]) -> QualityReport:
    """Compare the two decoders of a model.

    Args:
        model: its folder.
        quantised: the quantised decoder.
        pages: what the model's encoder made of each, at least one.

    Raises:
        PageError: a page leaves no position for an answer.
        MissingError: rapidfuzz or a part of a model is missing.
    """
    edit_distance("", "")  # where rapidfuzz is missing it says so now, and not after minutes
    references = _read_all(model, pages)
    mx.clear_cache()
    reader, texts, led = _Reader(model, quantised), Score(), list[_Led]()
    for page, reference in watched(list(zip(pages, references, strict=True)), "reading with the quantised decoder"):
        answer = reader.read(page)
        edits = edit_distance(reference.answer.text, answer.text)
        texts.add(len(normal(reference.answer.text)), edits, failed=False)
        led.append(reader.lead(page, reference.answer))
    return _summed(references, led, texts)


def _read_all(model: Path, pages: Sequence[EncodedPage]) -> list[_Reference]:
    """The unquantised decoder on all pages; it is freed when this returns."""
    reader, references = _Reader(model, None), list[_Reference]()
    for page in watched(pages, "reading with the unquantised decoder"):
        answer = reader.read(page)
        references.append(_Reference(answer, reader.lead(page, answer)))
    return references


def _summed(references: Sequence[_Reference], led: Sequence[_Led], texts: Score) -> QualityReport:
    pairs = [(reference.led, candidate) for reference, candidate in zip(references, led, strict=True)]
    equal = [one == other for ours, theirs in pairs for one, other in zip(ours.best, theirs.best, strict=True)]
    ours, theirs = (np.concatenate([pair[side].logits for pair in pairs]) for side in (0, 1))
    return QualityReport(
        pages=len(pairs),
        positions=len(equal),
        token_agreement=sum(equal) / len(equal),
        characters=texts.characters,
        error_rate=texts.edits / max(1, texts.characters),
        same_answers=texts.exact,
        logit_difference=float(np.abs(ours - theirs).mean()),
        logit_magnitude=float(np.abs(ours).mean()),
    )
