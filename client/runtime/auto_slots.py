"""The processes of two encoders, as far as the choice between them depends on these. Pure."""

from dataclasses import dataclass
from enum import StrEnum


class SlotState(StrEnum):
    """The process of one of the two encoders, as far as the choice depends on it."""

    DORMANT = "dormant"
    """The encoder is not started, because no page needs it."""
    STARTING = "starting"
    READY = "ready"
    GIVEN_UP = "given up"


@dataclass
class Slot:
    """One of the two encoders."""

    state: SlotState = SlotState.DORMANT
    failures: int = 0
    """Failures in a row."""
    reason: str = ""
    """The reason why it was given up."""
    used_at: float = 0.0
    """The time when it last became ready or had a page."""
