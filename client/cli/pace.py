"""The progress of a run: pages of how many, pages a second, and the time that is left. Pure, but for the clock."""

import time
from collections.abc import Callable

HOUR_S = 3600
UNITS = ((24 * HOUR_S, "d"), (HOUR_S, "h"), (60, "min"), (1, "s"))


class RunPace:
    """Counts pages and predicts how many there are and when they are read.

    The pages of a document are known when it is opened. One that was not opened yet counts as the mean of those that
    were, so the total is an estimate until the last one is open.
    """

    def __init__(self, num_documents: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._num_closed = num_documents
        """Documents that were not opened yet."""
        self._num_opened = self._num_pages = 0
        """Documents that were opened, and their pages."""
        self._num_passed = 0
        """Documents that need no reading, each of which counts as a page."""
        self._num_done = self._num_read = 0
        """Pages that have come to their end, and those of them that were read in this run."""
        self._clock, self._started_s = clock, clock()

    def start(self) -> None:
        """Begin to measure: loading the model is no part of the time of pages."""
        self._started_s = self._clock()

    def pass_over(self, documents: int) -> None:
        """Count documents that need no reading."""
        self._num_closed -= documents
        self._num_passed += documents

    def open(self, pages: int) -> None:
        """Count a document that is read, by its number of pages."""
        self._num_closed -= 1
        self._num_opened += 1
        self._num_pages += pages

    def add(self, *, is_read: bool) -> None:
        """Count a page that has come to its end; one that an earlier run read took no time."""
        self._num_done += 1
        self._num_read += is_read

    @property
    def done(self) -> int:
        """Pages that have come to their end."""
        return self._num_done + self._num_passed

    @property
    def total(self) -> int:
        """Pages of the run, some of them estimated."""
        mean = self._num_pages / self._num_opened if self._num_opened else 1.0
        return self._num_passed + self._num_pages + round(max(0, self._num_closed) * mean)

    @property
    def is_estimate(self) -> bool:
        """Return whether the total may change."""
        return self._num_closed > 0 and self._num_pages != self._num_opened

    def text(self) -> str:
        """The state in words: ``12 of about 200 pages, 0.8/s, 4 min left``."""
        about = "about " if self.is_estimate else ""
        parts = [f"{self.done} of {about}{self.total} pages"]
        elapsed_s = self._clock() - self._started_s
        if self._num_read and elapsed_s > 0:
            rate = self._num_read / elapsed_s
            parts.append(f"{rate:.1f}/s" if rate >= 0.1 else f"{rate * 60:.1f}/min")
            if (left := self.total - self.done) > 0:
                parts.append(f"{duration(left / rate)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """A time in its two largest units, as ``2 h 10 min``; below an hour in one."""
    rest = max(1, round(seconds))
    place = next(place for place, (size, _) in enumerate(UNITS) if rest >= size)
    size, unit = UNITS[place]
    text = f"{rest // size} {unit}"
    if size >= HOUR_S and (smaller := rest % size // UNITS[place + 1][0]):
        text += f" {smaller} {UNITS[place + 1][1]}"
    return text
