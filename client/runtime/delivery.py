"""The commands that come out of the state machine, and the result of a page. Pure."""

from dataclasses import dataclass
from pathlib import Path

from dotsctl.client.runtime.request import Request
from dotsctl.client.runtime.worker_slots import WorkerSlot
from dotsctl.protocol.codec import Buffer
from dotsctl.protocol.machine.measured_costs import Preference
from dotsctl.protocol.messages import Blank, Done, Message, PageResult
from dotsctl.protocol.parts import FinishReason, Role


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


@dataclass(frozen=True)
class Retire:
    """Let an encoder go that was swapped for another one, or is not needed: its last page is done."""

    epoch: int


@dataclass(frozen=True)
class Wake:
    """Start the process of an encoder that was not needed before."""

    slot: WorkerSlot


@dataclass(frozen=True)
class GiveUp:
    """Do not start an encoder again, and end its process; the other encoder reads its pages."""

    slot: WorkerSlot
    reason: str


@dataclass(frozen=True)
class Spawn:
    """Start the process of a slot; a failure comes back as an event."""

    slot: WorkerSlot
    epoch: int
    log: Path


@dataclass(frozen=True)
class Signal:
    """Send a signal to a process."""

    role: Role
    epoch: int
    number: int


@dataclass(frozen=True)
class Release:
    """Close the lifeline of a process, so that it ends when it has finished."""

    role: Role
    epoch: int


@dataclass(frozen=True)
class Abandon:
    """Leave a process alone that does not end after SIGKILL."""

    role: Role
    epoch: int


@dataclass(frozen=True)
class Announce:
    """Write down what this runtime is: it is ready for the first time, or has another encoder."""


@dataclass(frozen=True)
class ReportStatus:
    """Answer a status request of a client; processes have to be examined for it."""

    client: bytes


@dataclass(frozen=True)
class Compared:
    """Two encoders were compared; to be logged and remembered."""

    preference: Preference


CoreCommand = ToClient | ToWorker | Kill | Retire | Wake | GiveUp | Compared
"""The commands of the coordinator."""
Command = ToClient | ToWorker | Spawn | Signal | Release | Abandon | Announce | ReportStatus | Compared
"""The commands of the complete runtime, executed by the loop."""


def result_of(request: Request, done: Done, decoder: str, warning: str, now: float) -> PageResult:
    """Return the result of a page: the decoder's text, the plugins that read it, a warning, and the total time."""
    return PageResult(
        *request.address,
        text=done.text,
        finish_reason=done.finish_reason,
        geometries=done.geometries,
        image_tokens=done.image_tokens,
        prompt_tokens=done.prompt_tokens,
        completion_tokens=done.completion_tokens,
        encoder=request.encoder_name,
        decoder=decoder,
        timings_ms=_timings(request, done.timings_ms, now),
        warning=warning,
        hint=done.hint,
    )


def blank_result(request: Request, blank: Blank, decoder: str, now: float) -> PageResult:
    """The answer to a page that was not decoded, because nothing is on it."""
    return PageResult(
        *request.address,
        text="",
        finish_reason=FinishReason.BLANK,
        geometries=blank.geometries,
        image_tokens=0,
        prompt_tokens=0,
        completion_tokens=0,
        encoder=request.encoder_name,
        decoder=decoder,
        timings_ms=_timings(request, blank.timings_ms, now),
    )


def _timings(request: Request, stages_ms: dict[str, float], now: float) -> dict[str, float]:
    """Return milliseconds by stage, with the time in the queue first and the total last."""
    waited_s = (request.dispatched_at or now) - request.accepted_at
    return {"queue": waited_s * 1000, **stages_ms, "total": (now - request.accepted_at) * 1000}
