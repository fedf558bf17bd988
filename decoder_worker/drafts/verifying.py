"""The interface between the scheduler and a page's drafter, and the rule by which drafted tokens are kept. Pure."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Draft(NamedTuple):
    """Tokens that may follow."""

    tokens: list[int]
    odds: list[float]
    """The share of cases, 0 to 1, in which each token is right when those before it are."""

    def gains(self) -> list[float]:
        """Return the expected tokens of a pass by depth: ``gains()[d]`` for the first ``d`` tokens of the draft."""
        found, chance = [1.0], 1.0
        for odds in self.odds:
            chance *= odds
            found.append(found[-1] + chance)
        return found


NOTHING = Draft([], [])


class Drafter(Protocol):
    """Follows the answer of one page and guesses what comes next."""

    @property
    def expected_tokens(self) -> int:
        """Return about how many tokens the answer has, rather fewer; 0: not known."""

    def propose(self, limit: int) -> Draft:
        """Return at most ``limit`` tokens; the scheduler verifies as many of them as pay."""

    def learn(self, tokens: Sequence[int]) -> None:
        """Take the tokens that a pass gave, at least one."""


class NoDrafts:
    """The drafter of a page for which nothing is guessed."""

    expected_tokens = 0

    def propose(self, limit: int) -> Draft:
        """Return no tokens."""
        return NOTHING

    def learn(self, tokens: Sequence[int]) -> None:
        """Ignore them."""


class KnownAnswer:
    """Proposes an answer that is known, from the first token to the last: for checks of the verification itself."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens, self._done = list(tokens), 0

    @property
    def expected_tokens(self) -> int:
        """Return the number of all tokens."""
        return len(self._tokens)

    def propose(self, limit: int) -> Draft:
        """Return the next tokens of the answer."""
        tokens = self._tokens[self._done : self._done + max(0, limit)]
        return Draft(tokens, [1.0] * len(tokens))

    def learn(self, tokens: Sequence[int]) -> None:
        """Move on by as many tokens, whatever they are."""
        self._done += len(tokens)


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
