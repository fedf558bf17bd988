"""The decoder's scheduler with a model that knows what it will answer. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from dotsctl.decoder_worker.drafts.depth import RowCosts
from dotsctl.decoder_worker.drafts.verifying import Drafter, accepted
from dotsctl.decoder_worker.rows import PageRun, Rows, RowScheduler
from dotsctl.decoder_worker.stop import StopRule

END = 1 << 30
"""The token behind an answer, which no tokenizer has."""


@dataclass
class RecordedModel:
    """Gives each page its recorded answer, and sums up what the passes cost."""

    costs: RowCosts
    time: float = 0.0
    """Seconds of all passes, in the unit of the costs."""
    has_begun: bool = False
    rescored: int = 0
    _answers: dict[int, list[int]] = field(default_factory=dict)
    _running: dict[int, int] = field(default_factory=dict)

    def open(self, page_id: int, page: Sequence[int]) -> None:
        """Take the answer of a page."""
        self._answers[page_id] = [*page, END]

    def advance(self, page_id: int) -> int | None:
        """Let the page join; it has no prompt."""
        self._running[page_id] = 0
        return END

    def score(self, rows: Mapping[int, Rows], *, look_ahead: bool) -> dict[int, list[int]]:
        """Return for each page the tokens that its draft and its answer have in common, and the one behind them."""
        self.time += self.costs.of(len(rows), 1 + max(len(row.draft) for row in rows.values()))
        gained = {}
        for page_id, row in rows.items():
            done = self._running[page_id]
            rest = [*self._answers[page_id][done : done + len(row.draft) + 1], *[END] * len(row.draft)]
            gained[page_id] = accepted(row.draft, rest)
            self._running[page_id] += len(gained[page_id])
        return gained

    def drop(self, page_ids: Collection[int]) -> None:
        """Forget pages."""
        for page_id in page_ids:
            del self._answers[page_id], self._running[page_id]


@dataclass(frozen=True)
class Play:
    """The result for one page, or for several at once."""

    tokens: int
    """Tokens of all answers, end tokens included."""
    passes: int
    time: float
    """Seconds, in the unit of the costs."""
    plain_time: float
    """The same with one row for each page in every pass."""

    @property
    def tokens_a_pass(self) -> float:
        """Tokens of a pass over all pages."""
        return self.tokens / self.passes

    @property
    def speedup(self) -> float:
        """Time without drafts over time with them."""
        return self.plain_time / self.time


def play(pages: Sequence[tuple[Sequence[int], Drafter]], costs: RowCosts, row_limit: int) -> Play:
    """Decode recorded answers at once, each with its drafter.

    Args:
        pages: tokens of each answer without an end token, and its drafter.
        costs: of passes.
        row_limit: most rows of a pass.
    """
    model = RecordedModel(costs)
    scheduler: RowScheduler[Sequence[int]] = RowScheduler(model, len(pages), row_limit, 1 << 40, costs)
    lengths = sorted(len(answer) + 1 for answer, _ in pages)
    for number, (answer, drafter) in enumerate(pages):
        scheduler.admit(number, answer, PageRun(StopRule([END], len(answer) + 1), drafter, 1))
    while scheduler.pages:
        scheduler.step()
    plain, before = 0.0, 0
    for place, length in enumerate(lengths):
        plain += (length - before) * costs.of(len(lengths) - place, 1)
        before = length
    return Play(sum(lengths), scheduler.passes, model.time, plain)
