"""A point of the noise curve. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """The text at one cosine."""

    source: str
    """``noise``, or another encoder, which does not make the same error everywhere."""
    cosine: float
    """The cosine between each token with and without noise; 1: no noise. For an encoder, the mean over tokens."""
    relative_error: float
    """Length of the noise over that of the token; of an encoder the Frobenius norms of all."""
    error_rate: float
    """Edits a character against the text without noise."""
    truth_error_rate: float | None
    """Edits a character against the text on the pages; none: not known."""
    token_agreement: float
    """Share of the positions of the text without noise at which the decoder would write the same token."""
    same_answers: int
    answers: int
