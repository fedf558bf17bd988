"""What the coordinator wants done: the commands that come out of the state machine."""

from dataclasses import dataclass

from dotsctl.protocol.codec import Buffer
from dotsctl.protocol.messages import Message, Role


@dataclass(frozen=True)
class ToClient:
    """Send a message to a client."""

    client: bytes
    message: Message


@dataclass(frozen=True)
class ToWorker:
    """Send a message to a worker, if the worker of that epoch is still there."""

    role: Role
    epoch: int
    message: Message
    buffers: tuple[Buffer, ...] = ()


@dataclass(frozen=True)
class Kill:
    """End a worker's process now; its death comes back as an event."""

    role: Role
    epoch: int
    reason: str


Command = ToClient | ToWorker | Kill
