"""The share of right guesses by their kind, learnt while a page is read. Pure."""

from enum import IntEnum, auto


class Kind(IntEnum):
    """The origin of a drafted token. Tokens of one kind are about equally often right."""

    FRAME = auto()
    """Text between two fields of a cell."""
    KNOWN_SIDE = auto()
    """Side of a box at which a cell was read before."""
    HIGH_DIGIT = auto()
    """Digit of a block's side with at least two behind it."""
    MIDDLE_DIGIT = auto()
    LOW_DIGIT = auto()
    """Last digit of a block's side, or all of it in one token."""
    HIGH_GUESS = auto()
    """Digit of a side for which no block is known, with at least two behind it."""
    MIDDLE_GUESS = auto()
    LOW_GUESS = auto()
    CATEGORY = auto()
    START = auto()
    """Beginning of the text of a block."""
    END = auto()
    """End of a cell where its block ends."""
    JOINT = auto()
    """Separator between two blocks."""
    TEXT_0 = auto()
    """Text of the hint at a place that is guessed."""
    TEXT_1 = auto()
    TEXT_2 = auto()
    TEXT_3 = auto()
    """Text of the hint behind three words or tokens that agree."""
    REPEAT_2 = auto()
    """Continuation of the last place in the answer that has the same two tokens."""
    REPEAT_3 = auto()
    REPEAT_4 = auto()
    REPEAT_8 = auto()


PRIOR = {
    Kind.FRAME: 0.97,
    Kind.KNOWN_SIDE: 0.85,
    Kind.HIGH_DIGIT: 0.85,
    Kind.MIDDLE_DIGIT: 0.65,
    Kind.LOW_DIGIT: 0.35,
    Kind.HIGH_GUESS: 0.35,
    Kind.MIDDLE_GUESS: 0.2,
    Kind.LOW_GUESS: 0.1,
    Kind.CATEGORY: 0.6,
    Kind.START: 0.7,
    Kind.END: 0.7,
    Kind.JOINT: 0.5,
    Kind.TEXT_0: 0.5,
    Kind.TEXT_1: 0.65,
    Kind.TEXT_2: 0.8,
    Kind.TEXT_3: 0.9,
    Kind.REPEAT_2: 0.3,
    Kind.REPEAT_3: 0.5,
    Kind.REPEAT_4: 0.6,
    Kind.REPEAT_8: 0.8,
}
"""Shares before anything was seen of the page."""
PRIOR_WEIGHT = 4.0
"""Observations that the prior counts as."""
KEPT = 0.95
"""Weight that an observation keeps when another of its kind comes."""


class Odds:
    """Running shares of right guesses of one page."""

    def __init__(self) -> None:
        self._right = {kind: PRIOR_WEIGHT * share for kind, share in PRIOR.items()}
        self._all = dict.fromkeys(PRIOR, PRIOR_WEIGHT)

    def __getitem__(self, kind: Kind) -> float:
        """Return the share of right guesses of a kind, 0 to 1."""
        return self._right[kind] / self._all[kind]

    def observe(self, kind: Kind, is_right: bool) -> None:
        """Count a guess whose truth is known, whether or not it was verified in a pass."""
        self._right[kind] = KEPT * self._right[kind] + is_right
        self._all[kind] = KEPT * self._all[kind] + 1
