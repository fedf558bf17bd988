"""Decides what each decoder pass computes: rows of pages, not pages. Pure; the model is behind a small contract.

Between two passes at most one prefill chunk runs, so that running pages never stall for longer. A pass has one row for
each page, or as many as give the most tokens a second by the odds of the drafts and the measured cost of rows.
"""

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

from dotsctl.decoder_worker.drafts.depth import Account, RowCosts, best_width, widest
from dotsctl.decoder_worker.drafts.verifying import Draft, Drafter
from dotsctl.decoder_worker.stop import StopRule

ANSWER_TOKENS = 2048
"""Positions that are kept free for the rest of an answer; most pages of dots.ocr have shorter ones."""

Page = TypeVar("Page")
PageIn = TypeVar("PageIn", contravariant=True)


class Rows(NamedTuple):
    """The rows of one page in a pass."""

    last: int
    """The page's newest token, which the model has not seen yet."""
    draft: list[int]
    """Guesses of what follows."""


class RowModel(Protocol[PageIn]):
    """The methods of a model that the scheduler needs."""

    def open(self, page_id: int, page: PageIn) -> None:
        """Begin the prefill of a page."""

    def advance(self, page_id: int) -> int | None:
        """Prefill one chunk; the last token of the prompt once the page has joined the running ones."""

    @property
    def has_begun(self) -> bool:
        """Return whether the next pass runs already, with one row for each page."""

    @property
    def rescored(self) -> int:
        """Return the passes of one row for each page that followed others so far, where rounding might decide."""

    def score(self, rows: Mapping[int, Rows], *, look_ahead: bool) -> Mapping[int, list[int]]:
        """One pass over all running pages: the tokens that each one gains, at least one, or ``NOT_FINITE``.

        Args:
            rows: of each running page.
            look_ahead: whether the next pass may begin at once, with one row for each page.
        """

    def drop(self, page_ids: Collection[int]) -> None:
        """Forget pages in whatever state."""


NOT_FINITE = -1
"""The place of a token for which the model's scores hold NaN or infinity."""


@dataclass
class PageRun:
    """One page from its admission to its end."""

    stop: StopRule
    drafter: Drafter
    prompt_tokens: int
    last: int = 0
    """Newest token; of the prompt at first."""

    def __post_init__(self) -> None:
        self.account = Account(self.drafter.expected_tokens)
        """The gains and costs of its drafts."""


@dataclass
class Gain:
    """The result of one pass for one page."""

    page_id: int
    run: PageRun
    tokens: list[int]
    """New tokens of the answer, without an end token."""
    num_decoded: int
    """New tokens with the end token."""
    is_finite: bool = True
    """False: the model's scores are no numbers; the page is forgotten."""


@dataclass
class RowScheduler(Generic[Page]):
    """Admits pages, prefills them, and steps those that run."""

    model: RowModel[Page]
    capacity: int
    """Most pages at once, prefilling ones included."""
    row_limit: int
    """Most rows of a pass; at least one a page."""
    position_budget: int
    """Positions of all pages, each counted as the longest; bounds the memory of keys and values."""
    costs: RowCosts
    """The time of a pass by its rows."""
    passes: int = 0
    """Passes so far."""
    rows: int = 0
    """Rows of all passes, without padding."""
    _prefilling: deque[int] = field(default_factory=deque)
    _runs: dict[int, PageRun] = field(default_factory=dict)
    """All pages."""
    _running: dict[int, PageRun] = field(default_factory=dict)
    """The pages that are through their prefill."""

    def has_room(self, prompt_tokens: int) -> bool:
        """Return whether one more page may come; true for any page when there is none.

        Pages of one batch share arrays that are as long as the longest page, now and for the answers to come.
        """
        if not self._runs:
            return True
        used = [run.prompt_tokens + run.stop.num_decoded for run in self._runs.values()]
        longest = max(prompt_tokens, *used) + ANSWER_TOKENS
        return len(used) < self.capacity and (len(used) + 1) * longest <= self.position_budget

    @property
    def pages(self) -> Collection[int]:
        """Ids of all pages here."""
        return self._runs.keys()

    def admit(self, page_id: int, page: Page, run: PageRun) -> None:
        """Take a page; its prefill begins with one of the next steps.

        Raises:
            ValueError: there are as many pages as there may be, or one of this id is here already.
        """
        if len(self._runs) >= self.capacity or page_id in self._runs:
            raise ValueError(f"page {page_id} cannot be admitted to {len(self._runs)} of {self.capacity} pages")
        self.model.open(page_id, page)
        self._runs[page_id] = run
        self._prefilling.append(page_id)

    def step(self) -> list[Gain]:
        """One prefill chunk where a page waits for one, and one pass where pages run."""
        self.prefill()
        return self._pass() if self._running else []

    def prefill(self) -> bool:
        """One prefill chunk where a page waits for one, and no pass; whether a page waits for another one."""
        if self._prefilling:
            self._prefill(self._prefilling[0])
        return bool(self._prefilling)

    def cancel(self, page_id: int) -> None:
        """Forget a page; unknown ids are ignored."""
        if page_id in self._runs:
            self._forget([page_id])

    def clear(self) -> None:
        """Forget all pages at once, whatever state a pass that failed has left them in."""
        self._forget(list(self._runs))

    def _prefill(self, page_id: int) -> None:
        last = self.model.advance(page_id)
        if last is None:
            return
        self._prefilling.popleft()
        self._running[page_id] = self._runs[page_id]
        self._running[page_id].last = last

    def _pass(self) -> list[Gain]:
        """Verify as many drafted tokens as pay; while the next pass runs already, drafts wait for the one behind it."""
        pages = len(self._running)
        most = widest(self.costs, pages, self.row_limit)
        drafts = {page_id: _draft(run, most - 1) for page_id, run in self._running.items()}
        accounts = [run.account for run in self._running.values()]
        requested = best_width(self.costs, list(drafts.values()), accounts, self.row_limit)
        width = 1 if self.model.has_begun else requested
        rows = {page_id: Rows(run.last, drafts[page_id].tokens[: width - 1]) for page_id, run in self._running.items()}
        before = self.model.rescored
        gained = self.model.score(rows, look_ahead=requested == 1)
        more = self.model.rescored - before
        self.passes += 1 + more
        self.rows += sum(1 + len(row.draft) for row in rows.values()) + more * pages
        cost = self.costs.of(pages, width) / self.costs.of(pages, 1) + more
        gains = [_gain(page_id, run, drafts[page_id], gained[page_id], cost) for page_id, run in self._running.items()]
        self._forget([gain.page_id for gain in gains if gain.run.stop.reason is not None or not gain.is_finite])
        return gains

    def _forget(self, page_ids: list[int]) -> None:
        if not page_ids:
            return
        self.model.drop(page_ids)
        for page_id in page_ids:
            del self._runs[page_id]
            if self._running.pop(page_id, None) is None:
                self._prefilling.remove(page_id)


def _draft(run: PageRun, limit: int) -> Draft:
    """Guesses for one page; a draft that would go beyond the token limit is cut."""
    return run.drafter.propose(min(limit, run.stop.room - 1))


def _gain(page_id: int, run: PageRun, draft: Draft, tokens: list[int], cost: float) -> Gain:
    """Book the tokens of a pass that took as long as ``cost`` passes of one row."""
    if NOT_FINITE in tokens:
        return Gain(page_id, run, [], 0, is_finite=False)
    before = run.stop.num_decoded
    run.account.book(draft, tokens, cost)
    run.drafter.learn(tokens)
    run.last = tokens[-1]
    return Gain(page_id, run, run.stop.extend(tokens), run.stop.num_decoded - before)
