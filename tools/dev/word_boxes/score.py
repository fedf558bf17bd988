"""Compares lines and words with the true ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from dotsctl.client.results.lines import CellLines, Line
from dotsctl.tools.dev.word_boxes.pages import TruePage, around_all
from dotsctl.tools.pages.elements import Box

LINE_OVERLAP, WORD_OVERLAP = 0.8, 0.6
"""Intersection over union from which a box counts as found."""


@dataclass(frozen=True)
class WordScore:
    """Counts of a page, or of several."""

    lines: int = 0
    lines_found: int = 0
    words: int = 0
    words_found: int = 0
    estimated: int = 0
    """Lines of the answer that are estimated."""

    def __add__(self, other: "WordScore") -> "WordScore":
        return WordScore(
            self.lines + other.lines,
            self.lines_found + other.lines_found,
            self.words + other.words,
            self.words_found + other.words_found,
            self.estimated + other.estimated,
        )

    @property
    def line_share(self) -> float:
        """The share of true lines that were found; 1 without any."""
        return self.lines_found / self.lines if self.lines else 1.0

    @property
    def word_share(self) -> float:
        """The share of true words that were found; 1 without any."""
        return self.words_found / self.words if self.words else 1.0


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the intersection of two boxes over their union."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    if across <= 0 or down <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return across * down / (sum(areas) - across * down)


def score(page: TruePage, found: Sequence[CellLines]) -> WordScore:
    """Compare the lines of a page with the true ones; words are compared in their order."""
    total = WordScore(estimated=sum(line.estimated for cell in found for line in cell.lines))
    for cell in found:
        true = [line for line in page.lines if line.element == cell.place]
        total += _cell_score([line.words for line in true], cell.lines)
    return total


def _cell_score(true: Sequence[Sequence[Box]], found: Sequence[Line]) -> WordScore:
    lines_found = sum(
        any(overlap(around_all(words), line.bbox) >= LINE_OVERLAP for line in found) for words in true if words
    )
    true_words = [word for words in true for word in words]
    own_words = [word.bbox for line in found for word in line.words]
    words_found = sum(overlap(one, other) >= WORD_OVERLAP for one, other in zip(true_words, own_words, strict=False))
    return WordScore(len(true), lines_found, len(true_words), words_found)
