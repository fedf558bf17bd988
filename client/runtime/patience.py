"""How long the coordinator waits for workers and pages before it does something about them. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from dotsctl.client.runtime.ledger import Request, State
from dotsctl.client.runtime.views import Limits, WorkerView

LONGEST_TICK_S = 3.0
"""Between two ticks; after a longer one the machine has slept or we were stopped, and silence proves nothing."""


@dataclass
class Patience:
    """Judges silence; the time is passed in with every call."""

    limits: Limits
    _ticked_at: float | None = None

    def forgive_sleep(self, workers: Iterable[WorkerView], in_flight: Iterable[Request], now: float) -> None:
        """To be called at each tick: starts all patience anew when the last tick is too long ago to blame others."""
        is_first = self._ticked_at is None  # nothing tells how long we slept before it, so nobody is judged by it
        asleep_s = 0.0 if self._ticked_at is None else now - self._ticked_at
        self._ticked_at = now
        if asleep_s <= LONGEST_TICK_S and not is_first:
            return
        for worker in workers:
            worker.progress_at = now
        for request in in_flight:
            request.changed_at = now
            request.dispatched_at = (request.dispatched_at or now) + asleep_s

    def is_silent(self, worker: WorkerView, now: float) -> bool:
        """Whether a worker that owes an answer has said nothing for too long."""
        return now - worker.progress_at > self.limits.stall_timeout_s

    def is_overdue(self, request: Request, now: float) -> bool:
        """Whether a page has taken longer than any page may."""
        return now - (request.dispatched_at or now) > self.limits.page_timeout_s

    @property
    def stall_s(self) -> float:
        """After so long without news of a page its messages are believed to be lost."""
        return 3 * self.limits.stall_timeout_s

    def is_stalled(self, request: Request, now: float) -> bool:
        """Whether a page makes no progress; a received one may wait long for its place in the batch."""
        return request.state is not State.RECEIVED and now - request.changed_at > self.stall_s
