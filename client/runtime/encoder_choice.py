"""The choice of the encoder for each page: here the one that it names, or the first one. Pure.

The coordinator calls these methods at its events and carries out what they return. ``auto.py`` has the choice between
two encoders.
"""

from dataclasses import dataclass, field

from dotsctl.client.runtime.delivery import CoreCommand
from dotsctl.client.runtime.ledger import Ledger, lane_of_encoder
from dotsctl.client.runtime.request import Lane, Request
from dotsctl.protocol.messages import Done, Message
from dotsctl.protocol.parts import Role


@dataclass
class EncoderChoice:
    """The encoders of a runtime, each of which must be ready and takes the pages that name it."""

    names: list[str] = field(default_factory=list)
    """Plugin and options of the encoders by their indexes; the coordinator's own list, which a swap changes."""
    commands: list[CoreCommand] = field(default_factory=list)
    """Steps to carry out; the coordinator takes them."""

    def is_complete(self, num_ready: int) -> bool:
        """Return whether pages can be read with so many encoders ready."""
        return num_ready == len(self.names)

    def is_started_first(self, index: int) -> bool:
        """Return whether the process of this slot is started with the runtime."""
        return True

    def options(self, index: int) -> dict[str, str]:
        """Return the additional options with which an encoder is started."""
        return {}

    def route(self, ledger: Ledger, *, is_ready: bool) -> list[tuple[Request, str]]:
        """Choose the encoder of each lane in which requests wait; answers those that no encoder can read, and why.

        Args:
            ledger: all requests.
            is_ready: whether the runtime can read pages.
        """
        return []

    def lane_of(self, request: Request) -> Lane:
        """All of a request that the choice of its encoder depends on."""
        return lane_of_encoder(request)

    def can_fall_back(self, request: Request) -> bool:
        """Return whether another encoder takes this request over if its present one fails."""
        return False

    def reason_to_fall_back(self, request: Request, role: Role, message: Message) -> str:
        """The reason why another encoder is to take a request over after a worker's message; empty: none is."""
        return ""

    def ready(self, index: int, buckets: tuple[int, ...], now: float) -> None:
        """Take note of an encoder that is ready, and of its page sizes in patches."""

    def swapped(self, index: int) -> None:
        """Record that a slot has another encoder."""

    def dispatched(self, request: Request, now: float) -> None:
        """Take note of a request that was sent to its encoder."""

    def elapsed(self, ledger: Ledger, elapsed_s: float) -> None:
        """Take note of the time since the last event."""

    def decoded(self, num_tokens: int) -> None:
        """Take note of tokens that the decoder made."""

    def read(self, request: Request, done: Done, now: float) -> None:
        """Take note of a page that was read."""

    def died(self, index: int, reason: str) -> None:
        """Take note of an encoder's death."""

    def lost(self, index: int, reason: str) -> bool:
        """Take note of an encoder that will not be started again; whether the runtime can do without it."""
        return False

    def idle(self, ledger: Ledger, now: float) -> int | None:
        """Return the slot of an encoder that is to be unloaded now; none: no such one."""
        return None

    def note(self, index: int) -> str:
        """One line for people on the part that an encoder has at present; empty: nothing special."""
        return ""
