"""One measured run of one side, and the settings that both sides share."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
"""Variables that set how many threads a matrix product takes on Linux."""


@dataclass(frozen=True)
class Run:
    """The result of reading all pages of a workload once, models loaded and warm."""

    side: str
    """``dotsctl``, ``mlx-vlm batch``, ``mlx-vlm server`` or ``mlx-vlm sequential``."""
    threads: int
    """BLAS threads of each process that computes; 0: not set."""
    clients: int
    """Pages in flight at once."""
    wall_s: float
    """Seconds from the first request to the last answer."""
    cpu_s: float
    """Processor time of all processes of the side meanwhile."""
    peak_bytes: int
    """Sum of the largest memory of each of its processes, loading included."""
    pages: int
    tokens: int
    """Tokens of all answers together, as the side counts them."""
    first_token_s: tuple[float, ...] = ()
    """Time from the request to the first token of each page; empty: the side does not report it."""
    parts_cpu_s: dict[str, float] | None = None
    """Processor time by process, where there are several."""

    @property
    def wall_page_s(self) -> float:
        """Wall time over the pages."""
        return self.wall_s / self.pages

    @property
    def cpu_page_s(self) -> float:
        """Processor time over the pages."""
        return self.cpu_s / self.pages


def unequal(runs: Sequence[Run]) -> str:
    """Return why runs cannot be compared, as text for an error; empty where all gave the same number of tokens."""
    first = runs[0]
    for run in runs[1:]:
        if run.tokens != first.tokens:
            return f"{run.tokens} tokens with {run.side}, {first.tokens} with {first.side}"
    return ""


@contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Set the BLAS threads of processes that are started meanwhile; 0 changes nothing."""
    before = {name: os.environ.get(name) for name in BLAS_THREADS}
    if count:
        os.environ.update(dict.fromkeys(BLAS_THREADS, str(count)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
