"""``python -P -m dotsctl.tools.dev.bench simulate``: the coordinator through very many seeded schedules, on all
cores."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context

from dotsctl.tools.dev.chaos.promises import BrokenPromise
from dotsctl.tools.dev.chaos.simulation import run_schedule

CHUNK = 500
"""Seeds that a process plays between two reports."""


@dataclass
class SimulationOutcome:
    """All schedules together."""

    schedules: int = 0
    answered: int = 0
    """Pages that were read."""
    deaths: int = 0
    stale_messages: int = 0
    failing: list[str] = field(default_factory=list)
    """A line for each broken promise; the seed stands in it."""
    wall_s: float = 0.0

    def add(self, other: "SimulationOutcome") -> None:
        """Take in a part."""
        self.schedules += other.schedules
        self.answered += other.answered
        self.deaths += other.deaths
        self.stale_messages += other.stale_messages
        self.failing += other.failing

    @property
    def per_s(self) -> float:
        """Schedules a second."""
        return self.schedules / self.wall_s if self.wall_s else 0.0


def play(first: int, count: int) -> SimulationOutcome:
    """Play the schedules of some seeds; a broken promise is noted, and the next seed follows."""
    outcome = SimulationOutcome()
    for seed in range(first, first + count):
        outcome.schedules += 1
        try:
            schedule = run_schedule(seed)
        except BrokenPromise as broken:
            outcome.failing.append(str(broken))
            continue
        outcome.answered += schedule.core.counters.done
        outcome.deaths += schedule.workers.real_deaths
        outcome.stale_messages += schedule.core.counters.stale_messages
    return outcome


def simulate(
    seeds: int, first: int, processes: int | None, tell: Callable[[SimulationOutcome], None]
) -> SimulationOutcome:
    """Play ``seeds`` schedules from the seed ``first`` on.

    Args:
        seeds: how many.
        first: the first seed.
        processes: the number that run at once; none: one for each core.
        tell: called with the sum so far after each part.
    """
    total, started = SimulationOutcome(), time.monotonic()
    # spawn: the pool must not inherit what the program has open
    with ProcessPoolExecutor(processes or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        parts = {pool.submit(play, start, count) for start, count in _chunks(first, seeds)}
        for part in as_completed(parts):
            total.add(part.result())
            total.wall_s = time.monotonic() - started
            tell(total)
    return total


def _chunks(first: int, seeds: int) -> Iterator[tuple[int, int]]:
    for start in range(first, first + seeds, CHUNK):
        yield start, min(CHUNK, first + seeds - start)
