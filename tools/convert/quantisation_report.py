"""The differences between a quantised decoder and the one it was derived from, on the same pages.

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
from dotsctl.decoder_worker.quantised import QuantisedDecoder
from dotsctl.encoder_worker.plugin import EncodedPage
from dotsctl.tools.derived import watched
from dotsctl.tools.measuring.reading import DecodedAnswer, Led, Reader
from dotsctl.tools.measuring.scores import Score, edit_distance, normal

MIN_AGREEMENT = 0.98
"""One other token in fifty is about one in two lines of print; below that a quantised decoder is another decoder."""
MAX_ERROR_RATE = 0.02
"""The same for characters; an error that costs one token here may shift the rest of a free answer."""


@dataclass(frozen=True)
class QualityReport:
    """The quantised decoder against the unquantised one."""

    pages: int
    positions: int
    """The positions at which the next tokens were compared: those of the unquantised answers, with their ends."""
    token_agreement: float
    """Share of them at which both decoders give the same token, 0 to 1."""
    characters: int
    """The characters of the unquantised answers."""
    error_rate: float
    """Edits from the unquantised to the quantised answers, per character; blanks and line ends count alike."""
    same_answers: int
    """Pages with exactly equal answers."""
    logit_difference: float
    """Mean absolute difference of logits."""
    logit_magnitude: float
    """Mean absolute logit of the unquantised decoder, to compare with."""

    def record(self) -> dict[str, Any]:
        """Return the fields for the manifest."""
        return {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(self).items()}

    def warnings(self) -> list[str]:
        """Return what the user should know, in sentences."""
        found = []
        if self.token_agreement < MIN_AGREEMENT:
            found.append(f"only {self.token_agreement:.2%} of the tokens agree, less than {MIN_AGREEMENT:.0%}")
        if self.error_rate > MAX_ERROR_RATE:
            found.append(f"{self.error_rate:.2%} of the characters differ, more than {MAX_ERROR_RATE:.0%}")
        return found


@dataclass(frozen=True)
class _Reference:
    """The unquantised decoder on a page."""

    answer: DecodedAnswer
    led: Led


def compare(model: Path, quantised: QuantisedDecoder, pages: Sequence[EncodedPage]) -> QualityReport:
    """Compare the two decoders of a model.

    Args:
        model: its folder.
        quantised: the quantised decoder.
        pages: the embeddings of each by the model's encoder, at least one.

    Raises:
        PageError: a page leaves no position for an answer.
        MissingError: rapidfuzz or a part of a model is missing.
    """
    edit_distance("", "")  # a missing rapidfuzz is reported now, and not after minutes
    references = _read_all(model, pages)
    mx.clear_cache()
    reader, texts, led = Reader(model, quantised), Score(), list[Led]()
    for page, reference in watched(list(zip(pages, references, strict=True)), "reading with the quantised decoder"):
        answer = reader.read(page)
        edits = edit_distance(reference.answer.text, answer.text)
        texts.add(len(normal(reference.answer.text)), edits, failed=False)
        led.append(reader.lead(page, reference.answer))
    return _summed(references, led, texts)


def _read_all(model: Path, pages: Sequence[EncodedPage]) -> list[_Reference]:
    """The unquantised decoder on all pages; it is freed when this returns."""
    reader, references = Reader(model, None), list[_Reference]()
    for page in watched(pages, "reading with the unquantised decoder"):
        answer = reader.read(page)
        references.append(_Reference(answer, reader.lead(page, answer)))
    return references


def _summed(references: Sequence[_Reference], led: Sequence[Led], texts: Score) -> QualityReport:
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
