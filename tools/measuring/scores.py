"""The distance of an answer from the truth: edits of text, and boxes. Pure, apart from the edit distance's library."""

from collections.abc import Sequence
from dataclasses import dataclass

from dotsctl.protocol.errors import REINSTALL, MissingError

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""
STRICT, LOOSE = 0.7, 0.5
"""Overlaps from which on a box counts as found."""


@dataclass
class Score:
    """Sums over some pages, or over some elements."""

    pages: int = 0
    characters: int = 0
    edits: int = 0
    exact: int = 0
    """Pages without an edit."""
    failed: int = 0

    @property
    def error_rate(self) -> float:
        """Edits a character; infinite where there is nothing to read and something was read."""
        if self.characters == 0:
            return float("inf") if self.edits else 0.0
        return self.edits / self.characters

    def add(self, characters: int, edits: int, *, failed: bool) -> None:
        """Count one page."""
        self.pages += 1
        self.characters += characters
        self.edits += edits
        self.exact += edits == 0 and not failed
        self.failed += failed


@dataclass
class BoxScore:
    """Sums over the elements of some pages, of one category or of all."""

    true: int = 0
    """Elements on the pages."""
    answered: int = 0
    loose: int = 0
    """Pairs that overlap by at least LOOSE."""
    strict: int = 0
    overlap: float = 0.0
    """Sum of the overlaps of all pairs."""

    def f1(self, *, strict: bool) -> float | None:
        """Harmonic mean of precision and recall; none where there is nothing and nothing was answered."""
        both = self.true + self.answered
        return 2 * (self.strict if strict else self.loose) / both if both else None

    @property
    def mean_overlap(self) -> float | None:
        """The mean over the elements on the pages; one that was not found counts as 0."""
        return self.overlap / self.true if self.true else None

    def add(self, true: int, answered: int, overlaps: Sequence[float]) -> None:
        """Count one page; ``overlaps`` are those of its pairs."""
        self.true += true
        self.answered += answered
        self.loose += sum(overlap >= LOOSE for overlap in overlaps)
        self.strict += sum(overlap >= STRICT for overlap in overlaps)
        self.overlap += sum(overlaps)


def normal(text: str) -> str:
    """Text with one blank for each run of blanks and line ends, and none at its ends."""
    return " ".join(text.split())


def edit_distance(truth: str, answer: str) -> int:
    """Fewest insertions, deletions and replacements of characters between normal forms.

    Raises:
        MissingError: rapidfuzz is not installed.
    """
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError:
        raise MissingError("rapidfuzz is not installed", REINSTALL) from None
    return int(Levenshtein.distance(normal(truth), normal(answer)))


def overlap(first: Box, second: Box) -> float:
    """Area that two boxes share, over the area that they cover together; 0 for boxes without area."""
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    if wide <= 0 or high <= 0:
        return 0.0
    shared = wide * high
    return shared / (_area(first) + _area(second) - shared)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def pairs(true: Sequence[tuple[str, Box]], answered: Sequence[tuple[str, Box]]) -> list[tuple[int, int, float]]:
    """Match answered elements to true ones: pairs of the same category, largest overlap first, each used once.

    Args:
        true: category and box of each element on the page.
        answered: the same of what was answered.

    Returns:
        Places in ``true`` and in ``answered``, and the overlap, which is above 0.
    """
    found = [
        (overlap(box, other), i, j)
        for i, (category, box) in enumerate(true)
        for j, (name, other) in enumerate(answered)
        if name == category
    ]
    used_true, used_answered, chosen = set[int](), set[int](), []
    for share, i, j in sorted(found, key=lambda entry: (-entry[0], entry[1:])):
        if share > 0 and i not in used_true and j not in used_answered:
            chosen.append((i, j, share))
            used_true.add(i)
            used_answered.add(j)
    return chosen
