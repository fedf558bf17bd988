"""Decides how many drafted tokens a pass verifies: as many as give the most tokens a second. Pure.

Rows of a pass are a rectangle: as many for each page. What they cost is measured when the model is loaded.
"""

import functools
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from dotsctl.decoder_worker.drafts.verifying import Draft

ALLOWANCE = 0.012
"""Share of a page's time that drafts may cost it at most."""
FIRST_ALLOWANCE = 1.0
"""Most that they may cost in the beginning, in passes of one row, by the length that the answer probably has."""
PROVEN = 8
"""Guesses in a row that were right, verified or not, after which a page drafts that has no allowance left."""
MARGIN = 1.01
"""Expected gain in tokens a second below which a pass has one row a page."""


@dataclass(frozen=True)
class RowCosts:
    """Time of a pass by its rows."""

    seconds: tuple[tuple[int, float], ...]
    """Rows of a single page and the seconds of their pass, both rising; at least that of one row."""
    page_s: float = 0.0
    """Seconds that a row of another page takes more than one more row of the same page."""

    def __post_init__(self) -> None:
        rows = [count for count, _ in self.seconds]
        times = [each for _, each in self.seconds]
        if not rows or rows[0] != 1 or sorted(set(rows)) != rows or min(times) <= 0 or self.page_s < 0:
            raise ValueError(f"{self.seconds} are not the costs of 1 row and more")

    @classmethod
    def linear(cls, share: float) -> "RowCosts":
        """Return costs at which each further row takes this share of a pass with one row."""
        return cls(((1, 1.0), (2, 1.0 + share)))

    def of(self, pages: int, width: int) -> float:
        """Return the seconds of a pass with ``width`` rows for each page; never less than with fewer rows."""
        return self._of_rows(pages * width) + self.page_s * (pages - 1)

    @functools.lru_cache(maxsize=4096)  # noqa: B019  (there is one object in a process)
    def _of_rows(self, rows: int) -> float:
        """Interpolate between what was measured; beyond it the last slope goes on."""
        known = [count for count, _ in self.seconds]
        place = min(max(bisect_left(known, rows), 1), len(known) - 1)
        if len(known) == 1:
            return self.seconds[0][1]
        (low, low_s), (high, high_s) = self.seconds[place - 1 : place + 1]
        return low_s + (high_s - low_s) * (rows - low) / (high - low)


@dataclass
class Account:
    """The gains and costs of the drafts of one page, in passes of one row."""

    expected_tokens: int = 0
    """Tokens that the answer probably has; 0: not known."""
    balance: float = 0.0
    """Passes that were saved, less those that rows of drafts took."""
    tokens: int = 0
    proven: int = 0
    """Guesses in a row that were right, verified or not."""

    def book(self, draft: Draft, tokens: Sequence[int], cost: float) -> None:
        """Take the result of a pass that took ``cost`` passes of one row; the draft need not have been verified."""
        self.balance += len(tokens) - cost
        self.tokens += len(tokens)
        for guess, token in zip(draft.tokens, tokens, strict=False):
            self.proven = self.proven + 1 if guess == token else 0

    def affords(self, extra: float) -> bool:
        """Return whether a pass may take so much more than one of one row, though nothing may come of it."""
        allowed = max(ALLOWANCE * self.tokens, min(FIRST_ALLOWANCE, ALLOWANCE * self.expected_tokens))
        return self.balance + allowed >= extra or (self.proven >= PROVEN and extra <= FIRST_ALLOWANCE)


@functools.lru_cache(maxsize=256)
def widest(costs: RowCosts, pages: int, row_limit: int) -> int:
    """Return the rows for each page that would be best if all drafts were right; more never pay."""
    return max(range(1, max(1, row_limit // pages) + 1), key=lambda width: width / costs.of(pages, width))


def best_width(costs: RowCosts, drafts: Sequence[Draft], accounts: Sequence[Account], row_limit: int) -> int:
    """Return the rows for each page at which a pass gives the most expected tokens a second.

    Args:
        costs: of this model on this machine.
        drafts: for each page that runs.
        accounts: for each page that runs.
        row_limit: most rows of all pages together, at least one a page.
    """
    pages = len(drafts)
    plain = costs.of(pages, 1)
    gains = [draft.gains() for draft in drafts]
    most = min(max(map(len, gains)), widest(costs, pages, row_limit))
    best, rate = 1, MARGIN * pages / plain
    for width in range(2, most + 1):
        cost = costs.of(pages, width)
        extra, expected = cost / plain - 1, 0.0
        for gain, account in zip(gains, accounts, strict=True):
            expected += gain[min(width, len(gain)) - 1] if account.affords(extra) else 1.0
        if expected / cost > rate:
            best, rate = width, expected / cost
    return best
