"""Guesses of the next tokens of a page, from a text that it probably holds. Pure.

The decoder scores the guesses in one pass and keeps those that it would have chosen itself, so a guess never changes
the text; a good one saves passes. Pages without a hint get none.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence

NGRAM = 3
"""Tokens that must agree for a place in the hint to be taken for the place we are at."""
SHORTER = (3, 2)
"""The same for a place in the answer itself, tried in this order."""
FIRST_DEPTH = 8
"""Drafted tokens before anything is known about how good the hint is."""
DEEPEST = 64


def accepted(draft: Sequence[int], best: Sequence[int]) -> list[int]:
    """Return the tokens that a pass gives: the longest correct prefix of the draft and the model's own token behind it.

    Args:
        draft: guessed tokens.
        best: the model's choice at each row of the pass, at least one longer than the draft; ``best[i]`` follows
            ``draft[:i]``.
    """
    good = 0
    while good < len(draft) and draft[good] == best[good]:
        good += 1
    return list(best[: good + 1])


class Drafter:
    """Follows an answer through its hint."""

    def __init__(self, hint: Sequence[int]) -> None:
        """Make the drafter of one page; ``hint`` holds the tokens of the hint text, perhaps none."""
        self._hint = list(hint)
        self._answer: list[int] = []
        self._cursor = 0  # where in the hint the next token should stand
        self._depth = FIRST_DEPTH
        self._in_hint = _index(self._hint)
        self._in_answer: dict[tuple[int, ...], int] = {}  # n-gram: position behind its last occurrence

    def propose(self, depth: int) -> list[int]:
        """Return at most ``depth`` tokens that may follow; fewer where recent drafts were wrong."""
        if not self._hint or depth <= 0:
            return []
        depth = min(depth, self._depth)
        where = self._nearest(tuple(self._answer[-NGRAM:]))
        if where is not None:
            self._cursor = where
        elif (behind := self._seen_before()) is not None:
            return self._answer[behind : behind + depth]
        return self._hint[self._cursor : self._cursor + depth]

    def learn(self, draft: Sequence[int], tokens: Sequence[int]) -> None:
        """Take the tokens that a pass gave for ``draft``."""
        if not self._hint:
            return
        if draft:
            good = len(tokens) - 1
            if good >= len(draft):
                self._depth = min(2 * self._depth, DEEPEST)
            elif good == 0:
                self._depth = max(1, self._depth // 2)
        for token in tokens:
            for size in SHORTER:
                if len(self._answer) >= size:
                    self._in_answer[tuple(self._answer[-size:])] = len(self._answer)
            self._answer.append(token)
        # A token that the hint has otherwise is mostly a misread one: then the hint continues behind it.
        self._cursor += len(tokens)

    def _seen_before(self) -> int | None:
        """Return the place in the answer behind the last occurrence of its ending: the skeleton of a JSON list, say."""
        for size in SHORTER:
            if (behind := self._in_answer.get(tuple(self._answer[-size:]))) is not None:
                return behind
        return None

    def _nearest(self, ngram: tuple[int, ...]) -> int | None:
        """Return the place in the hint behind the n-gram's occurrence that is nearest to the cursor."""
        places = self._in_hint.get(ngram)
        if not places:
            return None
        right = bisect_left(places, self._cursor)
        return min(places[max(0, right - 1) : right + 1], key=lambda place: abs(place - self._cursor))


def _index(tokens: list[int]) -> dict[tuple[int, ...], list[int]]:
    """Places behind each n-gram, rising."""
    places: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for end in range(NGRAM, len(tokens)):
        places[tuple(tokens[end - NGRAM : end])].append(end)
    return dict(places)
