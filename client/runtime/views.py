"""What the coordinator knows and counts: its limits, the ready workers, and what has happened so far. Pure."""

from dataclasses import dataclass

from dotsctl.client.runtime.ledger import Ledger, Request, State
from dotsctl.client.runtime.seats import Seat
from dotsctl.protocol.messages import Ready
from dotsctl.protocol.parts import Role


@dataclass(frozen=True)
class Limits:
    """Numbers that the coordinator keeps to; see ``RuntimeConfig`` for their meaning."""

    credits: int = 2
    credit_bytes: int = 128 * 1024 * 1024
    stall_timeout_s: float = 120.0
    page_timeout_s: float = 1800.0


@dataclass
class WorkerView:
    """The ready worker of one seat."""

    seat: Seat
    epoch: int
    ready: Ready
    since: float
    progress_at: float
    """When it last said something about a request, or had no work."""
    busy_s: float = 0.0
    name: str = ""
    """Plugin and options."""


@dataclass
class Counters:
    """What has happened since the start; part of every status answer."""

    done: int = 0
    failed: int = 0
    cancelled: int = 0
    restarts: int = 0
    stale_messages: int = 0
    max_outstanding: int = 0
    max_outstanding_bytes: int = 0


def has_work(role: Role, epoch: int, ledger: Ledger) -> bool:
    """Whether the worker of a role and epoch owes an answer."""
    if role is Role.ENCODER:
        return any(r.state is State.ENCODING and r.encoder_epoch == epoch for r in ledger.requests.values())
    return any(r.state > State.ENCODING for r in ledger.requests.values())


def lost_with(role: Role, epoch: int, in_flight: list[Request]) -> list[Request]:
    """Requests that a worker answers for: without the decoder, where all of them were going, none can go on."""
    return in_flight if role is Role.DECODER else [r for r in in_flight if r.is_with_encoder(epoch)]


def in_compute(role: Role, epoch: int, in_flight: list[Request]) -> list[Request]:
    """Requests that may have killed the worker of a role: the encoder works on one page, the oldest."""
    if role is Role.DECODER:
        return [r for r in in_flight if r.state >= State.RECEIVED]
    encoding = [r for r in in_flight if r.state is State.ENCODING and r.encoder_epoch == epoch]
    return sorted(encoding, key=lambda r: r.changed_at)[:1]
