"""Guesses from the answer itself: what followed the last time that its latest tokens stood there. Pure."""

from dotsctl.decoder_worker.drafts.odds import Kind

SIZES = ((8, Kind.REPEAT_8), (4, Kind.REPEAT_4), (3, Kind.REPEAT_3), (2, Kind.REPEAT_2))
"""Numbers of tokens that agree, tried in this order."""


class Repeats:
    """The n-grams of one answer."""

    def __init__(self) -> None:
        self._answer: list[int] = []
        self._behind: dict[tuple[int, ...], int] = {}
        """The place behind the latest occurrence of each n-gram, the end of the answer excepted."""
        self._ends: list[tuple[tuple[int, ...], Kind]] = []
        """The n-grams at the end of the answer."""

    def push(self, token: int) -> None:
        """Take the next token of the answer."""
        for ngram, _ in self._ends:
            self._behind[ngram] = len(self._answer)
        self._answer.append(token)
        self._ends = [(tuple(self._answer[-size:]), kind) for size, kind in SIZES if len(self._answer) >= size]

    def predict(self, limit: int) -> tuple[list[int], list[Kind]]:
        """Return at most ``limit`` tokens and their kinds."""
        for ngram, kind in self._ends:
            if (behind := self._behind.get(ngram)) is not None:
                tokens = self._answer[behind : behind + limit]
                return tokens, _kinds(kind, len(tokens))
        return [], []


def _kinds(first: Kind, count: int) -> list[Kind]:
    """Return the kind of each token: what agrees grows with every one that is right."""
    sizes = [size for size, kind in SIZES if kind is first]
    return [next(kind for size, kind in SIZES if sizes[0] + place >= size) for place in range(count)]
