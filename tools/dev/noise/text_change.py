"""The effect of other embeddings of pages on the text that the decoder writes. Imports MLX."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from dotsctl.encoder_worker.plugin import EncodedPage
from dotsctl.tools.measuring.reading import DecodedAnswer, Reader
from dotsctl.tools.measuring.scores import Score, edit_distance, normal


@dataclass(frozen=True)
class Baseline:
    """The decoder's result for a page with unchanged embeddings."""

    answer: DecodedAnswer
    best: Sequence[int]
    """The decoder's choice at each position of its answer and at the end."""
    truth: str | None
    """The text on the page, where that is known."""

    @classmethod
    def of(cls, reader: Reader, page: EncodedPage, truth: str | None) -> "Baseline":
        """Read a page. Raises PageError when it leaves no position for an answer."""
        answer = reader.read(page)
        return cls(answer, reader.lead(page, answer).best, truth)


@dataclass
class TextChange:
    """Sums over pages that were read from other embeddings."""

    ours: Score = field(default_factory=Score)
    """The score against the baselines' answers."""
    to_truth: Score = field(default_factory=Score)
    """The score against the text on the pages, as far as that is known."""
    equal: int = 0
    positions: int = 0
    """The positions at which the decoder chose, led along the baselines' answers; and how many tokens were the same."""

    @property
    def error_rate(self) -> float:
        """Edits a character against the baselines' answers."""
        return self.ours.error_rate

    @property
    def truth_error_rate(self) -> float | None:
        """Edits a character against the truth; none: it is not known."""
        return self.to_truth.error_rate if self.to_truth.pages else None

    @property
    def token_agreement(self) -> float:
        """Share of the positions at which the decoder chose the same token; 1 where there was none."""
        return self.equal / self.positions if self.positions else 1.0

    def read(self, reader: Reader, page: EncodedPage, baseline: Baseline) -> None:
        """Read a page from these embeddings, and count what is otherwise than in its baseline."""
        self.add(baseline, reader.read(page).text, reader.lead(page, baseline.answer).best)

    def add(self, baseline: Baseline, text: str, best: Sequence[int]) -> None:
        """Count a page that was read."""
        expected, truth = baseline.answer, baseline.truth
        self.ours.add(len(normal(expected.text)), edit_distance(expected.text, text), failed=False)
        if truth is not None and expected.has_end:  # one that was cut cannot be compared with the complete answer
            self.to_truth.add(len(normal(truth)), edit_distance(truth, text), failed=False)
        self.equal += sum(a == b for a, b in zip(best, baseline.best, strict=True))
        self.positions += len(best)
