"""The cost of one way to store weights."""

from dataclasses import dataclass

from dotsctl.tools.dev.quantise.layers import Component


@dataclass(frozen=True)
class StoredOutcome:
    """One way to store weights."""

    weights: str
    build: str
    """Name of the build, for ``--encoder coreml:build=NAME``."""
    size_bytes: int
    relative_error: float
    """The relative error of the embeddings: Frobenius norms, the mean over pages."""
    cosine: float
    """Mean over the embeddings of all pages."""
    min_cosine: float
    error_rate: float
    """Edits a character between the texts from these embeddings and from exact ones."""
    truth_error_rate: float | None
    """Edits a character against the text on the pages; none: not known."""
    token_agreement: float
    """Share of the positions of the exact text at which the decoder would write the same token."""
    components: tuple[Component, ...]
