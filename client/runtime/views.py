"""The limits, counters and views of requests that the coordinator reads. Pure."""

from dataclasses import dataclass

from dotsctl.client.runtime.ledger import Ledger
from dotsctl.client.runtime.request import Request, RequestState
from dotsctl.protocol.parts import Role


@dataclass(frozen=True)
class Limits:
    """Numbers that the coordinator keeps to; see ``RuntimeConfig`` for their meaning."""

    credits: int = 2
    credit_bytes: int = 128 * 1024 * 1024
    stall_timeout_s: float = 120.0
    page_timeout_s: float = 1800.0


@dataclass
class Counters:
    """The counters since the start; part of every status answer."""

    done: int = 0
    failed: int = 0
    cancelled: int = 0
    restarts: int = 0
    stale_messages: int = 0
    max_outstanding: int = 0
    max_outstanding_bytes: int = 0


def has_work(role: Role, epoch: int, ledger: Ledger) -> bool:
    """Return whether the worker of a role and epoch owes an answer."""
    if role is Role.ENCODER:
        return any(request.encoder_epoch == epoch for request in ledger.in_state(RequestState.ENCODING))
    return any(ledger.count(state) for state in RequestState if state > RequestState.ENCODING)


def lost_with(role: Role, epoch: int, in_flight: list[Request]) -> list[Request]:
    """Return the requests that a worker answers for: without the decoder, their common goal, none can continue."""
    return in_flight if role is Role.DECODER else [r for r in in_flight if r.is_with_encoder(epoch)]


def in_compute(role: Role, epoch: int, in_flight: list[Request]) -> list[Request]:
    """Requests that may have killed the worker of a role: the encoder computes the oldest, and prepares the next."""
    if role is Role.DECODER:
        return [r for r in in_flight if r.state >= RequestState.RECEIVED]
    encoding = [r for r in in_flight if r.state is RequestState.ENCODING and r.encoder_epoch == epoch]
    return sorted(encoding, key=lambda r: r.changed_at)[:2]
