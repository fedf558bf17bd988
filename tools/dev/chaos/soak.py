"""Very many tiny fake pages in one runtime: memory, descriptors and latency at the end against those at the start.

Other programs on the machine change latencies by more than a leak does. So the old runtime is also compared with a
young one side by side, in turns of a few pages, and that ratio is what is judged.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dotsctl.client.connection.session import Session
from dotsctl.encoder_worker.plugins import FAKE
from dotsctl.protocol.messages import PageResult
from dotsctl.tools.dev.chaos.fake_runtime import START_S, answers, fake_runtime
from dotsctl.tools.measuring.memory import rss_bytes

SAMPLES_A_TENTH = 40
ALLOWED = 1.05
PLUGINS = (FAKE, f"{FAKE}:batch=4")
TURN_PAGES = 60


@dataclass(frozen=True)
class SoakOutcome:
    """Means of the last tenth over those of the second, by process."""

    pages: int
    failed: int
    wall_s: float
    latency_ms: tuple[float, float]
    """Median of a page in the second and in the last tenth."""
    latency_ratio: float
    old_over_young: float
    """Latency in the old runtime over that in a young one, both measured in turns: the median of the pairs."""
    memory_mib: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Resident, in the second and in the last tenth."""
    memory_ratio: dict[str, float] = field(default_factory=dict)
    descriptors: dict[str, tuple[float, float]] = field(default_factory=dict)
    cpu_ms: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Processor time of a page in the second and in the last tenth: what a busy machine disturbs least."""

    @property
    def holds(self) -> bool:
        """Return whether nothing grew by more than a twentieth."""
        descriptors = [last <= ALLOWED * second for second, last in self.descriptors.values()]
        within = max(self.old_over_young, *self.memory_ratio.values()) <= ALLOWED
        return within and all(descriptors) and not self.failed


def soak(pages: int, tell: Callable[[str], None], turns: int = 60) -> SoakOutcome:
    """Read ``pages`` pages of a few bytes, and compare the tenths; then take turns with a young runtime."""
    latencies_s: list[float] = []
    failed = 0
    with fake_runtime(*PLUGINS) as directory:
        session = Session(directory, START_S)
        try:
            status = session.status()
            watched = Watched({"runtime": status.pid, **{str(w.role): w.pid for w in status.workers}})
            every, started = max(1, pages // (10 * SAMPLES_A_TENTH)), time.monotonic()
            for number, each in enumerate(answers(session, [b"%d" % n for n in range(pages)], "soak")):
                latencies_s.append(each.latency_s)
                failed += not isinstance(each.message, PageResult)
                if number % every == 0:
                    watched.sample()
                if number % max(1, pages // 10) == 0:
                    tell(f"{number} of {pages} pages, {time.monotonic() - started:.0f} s")
            wall_s = time.monotonic() - started
            ratio = _against_a_new_one(session, pages // 10, turns)
        finally:
            session.close()
    return _outcome(pages, failed, wall_s, latencies_s, watched, ratio)


def _against_a_new_one(old: Session, warm_up_pages: int, turns: int) -> float:
    """Latency of pages in an old runtime over that in one which has read ``warm_up_pages``."""
    with fake_runtime(*PLUGINS) as directory:
        young = Session(directory, START_S)
        try:
            for _ in answers(young, [b"%d" % n for n in range(warm_up_pages)], "warm"):
                pass
            pairs = [(_turn(old, number), _turn(young, number)) for number in range(turns)]
        finally:
            young.close()
    return statistics.median(old_s / young_s for old_s, young_s in pairs)


def _turn(session: Session, number: int) -> float:
    """Median latency of a few pages, in seconds."""
    contents = [b"turn %d of %d" % (number, n) for n in range(TURN_PAGES)]
    return statistics.median(each.latency_s for each in answers(session, contents, f"turn {number}"))


class Watched:
    """Samples of some processes."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self.memory: dict[str, list[float]] = {name: [] for name in pids}
        self.descriptors: dict[str, list[float]] = {name: [] for name in pids}
        self.cpu_s: dict[str, list[float]] = {name: [] for name in pids}

    def sample(self) -> None:
        """Record the present figures."""
        for name, pid in self._pids.items():
            self.memory[name].append(rss_bytes(pid) / 2**20)
            if sys.platform == "linux":  # elsewhere it takes a program to count them
                self.descriptors[name].append(sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()))
                self.cpu_s[name].append(_cpu_s(pid))


def _cpu_s(pid: int) -> float:
    """Processor seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def second_and_last(values: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    """The second and the last tenth; the first one fills caches."""
    tenth = max(1, len(values) // 10)
    return values[tenth : 2 * tenth], values[-tenth:]


def _outcome(
    pages: int, failed: int, wall_s: float, latencies_s: list[float], watched: Watched, old_over_young: float
) -> SoakOutcome:
    second, last = (statistics.median(part) * 1000 for part in second_and_last(latencies_s))
    memory = {name: _means(values) for name, values in watched.memory.items()}
    return SoakOutcome(
        pages=pages,
        failed=failed,
        wall_s=wall_s,
        latency_ms=(second, last),
        latency_ratio=last / second,
        old_over_young=old_over_young,
        memory_mib=memory,
        memory_ratio={name: after / before for name, (before, after) in memory.items()},
        descriptors={name: _means(values) for name, values in watched.descriptors.items() if values},
        cpu_ms={name: _spent(values, pages) for name, values in watched.cpu_s.items() if values},
    )


def _spent(values: Sequence[float], pages: int) -> tuple[float, float]:
    """Milliseconds a page, from the seconds that were spent up to each sample."""
    second, last = ((part[-1] - part[0]) / max(1, len(part) - 1) for part in second_and_last(values))
    pages_between_samples = pages / len(values)
    return second * 1000 / pages_between_samples, last * 1000 / pages_between_samples


def _means(values: Sequence[float]) -> tuple[float, float]:
    second, last = second_and_last(values)
    return statistics.fmean(second), statistics.fmean(last)
