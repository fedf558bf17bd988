"""Decides whether a decoder that shares its device with an encoder waits for more pages before its next pass. Pure.

A pass over many pages costs little more than one over a few. Where the time of the device is shared, passes over a
batch that is not full cost the encoder's time. The coordinator permits the wait (``Gather``); here the measured costs
of passes decide whether it is worth it.
"""

from dataclasses import dataclass, field

LEAST_GAIN = 1.2
"""Times that a page's share of a pass must be smaller with the batch that is waited for."""
WEIGHT = 0.2
"""The weight of the newest pass in the running average; a machine that gets hot becomes slower."""


@dataclass
class PassCosts:
    """Running averages of the time of a pass by the number of its pages."""

    _seconds: dict[int, float] = field(default_factory=dict)

    def passed(self, pages: int, seconds: float) -> None:
        """Count a pass without a prefill."""
        before = self._seconds.get(pages, seconds)
        self._seconds[pages] = before + WEIGHT * (seconds - before)

    def gain(self, pages: int, more: int) -> float:
        """Return how many times smaller a page's share of a pass is with ``more`` pages than with ``pages``.

        Between and beyond the measured numbers the cost is a straight line; where it was not measured with two of
        them, a pass counts as equally expensive with any number.
        """
        return (self._cost(pages) / pages) / (self._cost(more) / more)

    def _cost(self, pages: int) -> float:
        """Seconds of a pass, up to a factor while nothing was measured; positive, and never less with more pages."""
        if not self._seconds:
            return 1.0
        fewest, most = min(self._seconds), max(self._seconds)
        low, high = self._seconds[fewest], max(self._seconds[most], self._seconds[fewest])
        slope = (high - low) / (most - fewest) if most > fewest else 0.0
        return max(low + slope * (pages - fewest), 0.1 * low, 1e-9)


@dataclass
class Gathering:
    """The wait of one decoder."""

    capacity: int
    """Most pages at once."""
    target: int
    """Pages with which it stops to wait."""
    costs: PassCosts = field(default_factory=PassCosts)
    _until: float = 0.0

    @classmethod
    def on(cls, capacity: int, *, is_exclusive: bool) -> "Gathering":
        """Return the wait of a decoder with a batch of ``capacity`` pages.

        Args:
            capacity: most pages at once.
            is_exclusive: whether its device computes for one worker at a time, as a GPU. Then it waits for a full
                batch. On a processor with several cores both halves go on at the same time: half a batch suffices,
                and leaves room for the pages that come while it is decoded, so that the encoder never stands still.
        """
        return cls(capacity, capacity if is_exclusive else -(-capacity // 2))

    def permit(self, for_s: float, now: float) -> None:
        """Take the coordinator's permission to wait for some seconds from now; 0: do not wait."""
        self._until = now + for_s

    def remaining_s(self, pages: int, now: float, *, is_full: bool) -> float:
        """Return the seconds to wait for more pages before the next pass; 0: decode now.

        Args:
            pages: that run or are being prefilled; at least one.
            now: time of a monotonic clock.
            is_full: whether no page fits beside them, whatever their number.
        """
        is_worth_it = pages < self.target and self.costs.gain(pages, self.target) >= LEAST_GAIN
        return max(0.0, self._until - now) if is_worth_it and not is_full else 0.0
