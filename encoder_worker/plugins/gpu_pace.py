"""Cuts the work of the tower on a GPU into submissions of about 50 ms, by the measured speed. Imports no MLX.

A submission cannot be interrupted. While it runs, the decoder's pass and the window server wait, and macOS ends what
holds the GPU for about 5 s (reports of MLX users). A fanless Mac becomes slower when it gets hot, so the speed is a
running average.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

TARGET_S = 0.05
"""Time of a submission; longer ones make the pointer and windows stutter."""
FIRST_FLOP = 5e10
"""Operations of a submission before anything was measured: 50 ms of an M1's GPU at 1 TFLOP/s."""
LEAST_FLOP, MOST_FLOP = 2e9, 2e12
LEAST_SHARE = 0.25
"""Share of a usual submission below which the overhead of one hides the speed."""
WEIGHT = 0.2
"""The weight of the newest submission in the running average."""
ROWS_STEP = 64
"""Rows of a submission are a multiple of this."""


@dataclass
class GpuPace:
    """The work that one submission gets."""

    target_s: float = TARGET_S
    timer: Callable[[], float] = time.perf_counter
    flop: float = field(init=False)
    """Operations of a usual submission."""
    _flop_per_s: float | None = None

    def __post_init__(self) -> None:
        self.flop = FIRST_FLOP * self.target_s / TARGET_S

    def rows(self, flop_a_row: float) -> int:
        """Return the rows of a usual submission."""
        return max(1, round(self.flop / flop_a_row) // ROWS_STEP) * ROWS_STEP

    def pieces(self, num_rows: int, flop_a_row: float, most_rows: int = 0) -> Iterator[slice]:
        """Cut rows into pieces; each is as large as the speed allows when it is requested.

        Args:
            num_rows: all rows.
            flop_a_row: operations for one.
            most_rows: of a piece; 0: any number.
        """
        start = 0
        while start < num_rows:
            if (rows := self.rows(flop_a_row)) >= most_rows > 0:
                yield slice(start, min(num_rows, start + most_rows))
                start += most_rows
                continue
            end = num_rows if num_rows - start < 1.5 * rows else start + rows  # no small piece at the end
            yield slice(start, end)
            start = end

    def timed(self, flop: float, compute: Callable[[], None]) -> None:
        """Compute one submission to its end, and learn from its time."""
        started = self.timer()
        compute()
        seconds = max(self.timer() - started, 1e-9)
        if flop < LEAST_SHARE * self.flop and seconds < self.target_s:
            return
        before = flop / seconds if self._flop_per_s is None else self._flop_per_s
        self._flop_per_s = before + WEIGHT * (flop / seconds - before)
        self.flop = min(max(LEAST_FLOP, self._flop_per_s * self.target_s), MOST_FLOP)
