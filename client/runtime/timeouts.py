"""The timeouts of workers and pages. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from dotsctl.client.runtime.request import Request, RequestState
from dotsctl.client.runtime.views import Limits
from dotsctl.client.runtime.worker_table import Worker

LONGEST_TICK_S = 3.0
"""The longest time between two ticks; after a longer one the machine slept or we were stopped: no timeout counts."""


@dataclass
class Timeouts:
    """Compares times with the limits; the time is passed in with every call."""

    limits: Limits
    _ticked_at: float | None = None

    def restart_after_sleep(self, workers: Iterable[Worker], requests: Iterable[Request], now: float) -> None:
        """Restart all timeouts if the last tick is too long ago for them to count; to be called at each tick."""
        is_first = self._ticked_at is None  # it is unknown how long we slept before it, so no timeout counts
        asleep_s = 0.0 if self._ticked_at is None else now - self._ticked_at
        self._ticked_at = now
        if asleep_s <= LONGEST_TICK_S and not is_first:
            return
        for worker in workers:
            worker.progress_at = now
        for request in requests:
            request.changed_at = now
            if request.dispatched_at is not None:
                request.dispatched_at += asleep_s

    def is_hung(self, worker: Worker, now: float) -> bool:
        """Return whether a worker that owes an answer has made no progress for too long."""
        return now - worker.progress_at > self.limits.stall_timeout_s

    def is_overdue(self, request: Request, now: float) -> bool:
        """Return whether a page has taken longer than any page may."""
        return now - (request.dispatched_at or now) > self.limits.page_timeout_s

    @property
    def stall_s(self) -> float:
        """Return the seconds without progress of a page after which its messages are considered lost."""
        return 3 * self.limits.stall_timeout_s

    def is_stalled(self, request: Request, now: float) -> bool:
        """Return whether a page makes no progress; a received one may wait long for its place in the batch."""
        return request.state is not RequestState.RECEIVED and now - request.changed_at > self.stall_s
