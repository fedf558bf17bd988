"""Crash attribution: which page caused the death of a worker. Pure.

A death makes the pages in the worker's compute suspects, and suspects run alone. A page during which a worker died
twice while it was alone is poison. That holds as long as nothing but pages kills workers. Where deaths come from
outside (the system reclaims memory, a user kills processes), they hit isolated pages too, and such deaths can be
recognised: every page that was suspected of one is read in the end. For each of those in the recent past a page must
kill once more before it is condemned.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from dotsctl.client.runtime.request import Request

SOLO_DEATHS = 2
"""Deaths of a worker with only this request in flight that make it poison, if all deaths are explained."""
MAX_EXTRA_DEATHS = 4
"""Most further ones that unexplained deaths add."""
REMEMBERED_S = 600.0
"""The seconds for which an unexplained death counts."""


@dataclass
class CrashAttribution:
    """Deaths whose suspects are not all cleared, and unexplained deaths."""

    _open: list[set[int]] = field(default_factory=list)
    """Ids of the suspects of each death that may still be explained."""
    _unexplained_at: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_EXTRA_DEATHS))

    def died(self, suspects: Sequence[Request], lost: Sequence[Request], *, alone: bool) -> None:
        """Record the death of a worker.

        Args:
            suspects: the requests in its compute, as far as known.
            lost: all that it answered for; its last messages may be lost, so any of them may explain the death.
            alone: whether only one request was in flight.
        """
        for request in suspects:
            request.suspect = True
            request.solo_deaths += alone
        if lost:
            self._open.append({request.request_id for request in lost})

    def is_poison(self, request: Request, now: float) -> bool:
        """Return whether the request has killed workers often enough while isolated."""
        return request.solo_deaths >= SOLO_DEATHS + self.extra_deaths(now)

    def extra_deaths(self, now: float) -> int:
        """Deaths of the recent past that no page explains."""
        return sum(now - at <= REMEMBERED_S for at in self._unexplained_at)

    def cleared(self, request: Request, now: float) -> None:
        """A request came through; a death without any other suspect has no explanation."""
        for suspects in self._open:
            suspects.discard(request.request_id)
        unexplained = sum(not suspects for suspects in self._open)
        self._unexplained_at.extend([now] * unexplained)
        self._open = [suspects for suspects in self._open if suspects]

    def gone(self, request: Request) -> None:
        """A request ended without having proved anything: it was poison, failed otherwise, or was cancelled."""
        self._open = [suspects for suspects in self._open if request.request_id not in suspects]
