"""The rules for the end of a page's answer: end tokens, the token limit, and text that repeats itself. Pure."""

from collections.abc import Collection, Sequence

import numpy as np
from dotsctl.protocol.parts import FinishReason

LOOP_TOKENS = 1024
"""Repeating tokens below which nothing is taken for a loop: dotted lines and empty tables repeat for hundreds."""
LOOP_REPEATS = 8
"""Repetitions beyond that; so an empty form with 31 columns may have 19 rows, and a longer period more tokens."""
LONGEST_PERIOD = 512
"""Tokens; a loop over more than this ends at the token limit."""


class LoopDetector:
    """Finds a token stream that repeats itself with a fixed period.

    For each period up to ``longest_period`` it counts for how many tokens in a row the stream has equalled itself
    that many tokens before.
    """

    def __init__(
        self, tokens: int = LOOP_TOKENS, repeats: int = LOOP_REPEATS, longest_period: int = LONGEST_PERIOD
    ) -> None:
        """Make a detector that fires after ``tokens + repeats * period`` repeating tokens."""
        periods = np.arange(1, longest_period + 1)
        self._needed = tokens + repeats * periods
        self._runs = np.zeros(longest_period, np.int64)
        self._recent = np.full(longest_period, -1, np.int64)  # newest token last

    def add(self, token: int) -> int | None:
        """Take the next token; the number of tokens to take back when it completes a loop, else None.

        What stays is everything up to the first round of the loop, which is kept.
        """
        same = self._recent[::-1] == token  # element p - 1: equal to the token p places before
        self._runs = np.where(same, self._runs + 1, 0)
        self._recent[:-1] = self._recent[1:]
        self._recent[-1] = token
        found = np.flatnonzero(self._runs >= self._needed)
        return int(self._runs[found[0]]) if found.size else None


class StopRule:
    """Collects the tokens of one page and decides when it is done."""

    def __init__(self, end_ids: Collection[int], max_tokens: int, detector: LoopDetector | None = None) -> None:
        """Make the rule of one page.

        Args:
            end_ids: tokens that end the answer and are no part of it.
            max_tokens: most tokens, at least 1; an end token counts.
            detector: how loops are found; none: with the limits of this module.
        """
        if max_tokens < 1:
            raise ValueError(f"max_tokens {max_tokens} is below 1")
        self._end_ids = frozenset(end_ids)
        self._max_tokens = max_tokens
        self._detector = detector or LoopDetector()
        self.tokens: list[int] = []
        """Tokens of the answer so far, without the end token; after a loop without its repetitions."""
        self.num_decoded = 0
        """Tokens that the model gave, with the end token and repetitions."""
        self.reason: FinishReason | None = None
        """The reason why the page is done; None while it is not."""

    @property
    def room(self) -> int:
        """Tokens that may still come."""
        return self._max_tokens - self.num_decoded

    def extend(self, tokens: Sequence[int]) -> list[int]:
        """Take the tokens of a pass; return those that are new text, and ignore those behind the end."""
        new: list[int] = []
        for token in tokens:
            if self.reason is not None:
                break
            self.num_decoded += 1
            if token in self._end_ids:
                self.reason = FinishReason.STOP
                break
            new.append(token)
            self.tokens.append(token)
            if surplus := self._detector.add(token):
                del self.tokens[-surplus:]
                self.reason = FinishReason.LOOP
            elif self.num_decoded == self._max_tokens:
                self.reason = FinishReason.LENGTH
        return new
