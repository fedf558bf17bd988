"""What the coordinator wants done: the commands that come out of the state machine, and a page's result. Pure."""

from dataclasses import dataclass

from dotsctl.client.runtime.ledger import Request
from dotsctl.protocol.codec import Buffer
from dotsctl.protocol.messages import Done, Message, PageResult
from dotsctl.protocol.parts import Role


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


def result_of(request: Request, done: Done, encoder: str, decoder: str, now: float) -> PageResult:
    """The answer to a page: the decoder's words, who read it, and how long it took altogether."""
    waited_s = (request.dispatched_at or now) - request.accepted_at
    return PageResult(
        *request.address,
        text=done.text,
        finish_reason=done.finish_reason,
        geometry=done.geometry,
        image_tokens=done.image_tokens,
        prompt_tokens=done.prompt_tokens,
        completion_tokens=done.completion_tokens,
        encoder=encoder,
        decoder=decoder,
        timings_ms={"queue": waited_s * 1000, **done.timings_ms, "total": (now - request.accepted_at) * 1000},
    )
