from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from dotsctl.decoder_worker.drafts.depth import RowCosts
from dotsctl.decoder_worker.drafts.verifying import Draft, KnownAnswer, NoDrafts, accepted
from dotsctl.decoder_worker.rows import NOT_FINITE, PageRun, Rows, RowScheduler
from dotsctl.decoder_worker.stop import StopRule
from dotsctl.protocol.parts import FinishReason
from hypothesis import given, settings
from hypothesis import strategies as st

END = 0
FREE, DEAR = RowCosts(((1, 1.0),)), RowCosts.linear(0.3)


@dataclass
class Script:
    """A page of the fake model: prefill chunks, and the answer it will give."""

    chunks: int
    answer: list[int]


@dataclass
class ScriptedModel:
    """Gives each page its scripted answer; keeps a log of what it was asked."""

    log: list[str] = field(default_factory=list)
    pages: dict[int, Script] = field(default_factory=dict)
    running: dict[int, list[int]] = field(default_factory=dict)
    widths: list[dict[int, int]] = field(default_factory=list)
    looks_ahead: bool = False
    has_begun: bool = False
    rescored: int = 0

    def open(self, page_id: int, page: Script) -> None:
        self.pages[page_id] = Script(page.chunks, [*page.answer, END])

    def advance(self, page_id: int) -> int | None:
        self.log.append("prefill")
        self.pages[page_id].chunks -= 1
        if self.pages[page_id].chunks > 0:
            return None
        self.running[page_id] = []
        return -1

    def score(self, rows: Mapping[int, Rows], *, look_ahead: bool) -> dict[int, list[int]]:
        self.log.append("pass")
        assert not (self.has_begun and any(row.draft for row in rows.values()))
        self.has_begun = self.looks_ahead and look_ahead and not any(row.draft for row in rows.values())
        self.widths.append({page_id: 1 + len(row.draft) for page_id, row in rows.items()})
        assert rows.keys() == self.running.keys()
        gained = {}
        for page_id, (last, draft) in rows.items():
            out = self.running[page_id]
            assert last == (out[-1] if out else -1)
            rest = self.pages[page_id].answer[len(out) :] + [END] * len(draft)
            gained[page_id] = accepted(draft, rest)
            out += gained[page_id]
        return gained

    def drop(self, page_ids: Collection[int]) -> None:
        for page_id in page_ids:
            del self.pages[page_id]
            self.running.pop(page_id, None)
        self.has_begun = False


def run(max_tokens: int = 1000, hint: list[int] | None = None) -> PageRun:
    return PageRun(StopRule([END], max_tokens), KnownAnswer(hint) if hint else NoDrafts(), 1)


def scheduler(
    capacity: int = 4, row_limit: int = 16, position_budget: int = 1 << 20, costs: RowCosts = FREE
) -> "tuple[RowScheduler[Script], ScriptedModel]":
    model = ScriptedModel()
    return RowScheduler(model, capacity, row_limit, position_budget, costs), model


answers = st.lists(st.integers(1, 9), max_size=12)
plans = st.lists(
    st.tuples(answers, answers, st.integers(1, 4), st.integers(0, 5), st.booleans()), min_size=1, max_size=8
)


@settings(max_examples=80, deadline=None)
@given(plans, st.integers(1, 4), st.integers(1, 20))
def test_every_page_gets_its_own_answer_whoever_joins_or_is_cancelled(
    plan: list[tuple[list[int], list[int], int, int, bool]], capacity: int, row_limit: int
) -> None:
    rows, model = scheduler(capacity, row_limit)
    waiting, runs, cancelled = list(enumerate(plan)), dict[int, PageRun](), set[int]()
    step = 0
    while waiting or rows.pages:
        while waiting and rows.has_room(1) and waiting[0][1][3] <= step:
            page_id, (answer, hint, chunks, _, _) = waiting.pop(0)
            runs[page_id] = run(hint=hint)
            rows.admit(page_id, Script(chunks, answer), runs[page_id])
        for gain in rows.step():
            assert gain.num_decoded >= 1
        for page_id in [p for p in rows.pages if plan[p][4] and step > plan[p][3] + 3]:
            rows.cancel(page_id)
            cancelled.add(page_id)
        step += 1
    for page_id, page_run in runs.items():
        answer = plan[page_id][0]
        if page_id in cancelled:
            assert page_run.stop.tokens == answer[: len(page_run.stop.tokens)]
        else:
            assert page_run.stop.tokens == answer
            assert page_run.stop.reason is FinishReason.STOP
    assert not model.pages


def test_running_pages_never_wait_for_more_than_one_prefill_chunk() -> None:
    rows, model = scheduler()
    rows.admit(1, Script(1, [5] * 50), run())
    for page_id in (2, 3, 4):
        rows.admit(page_id, Script(6, [5] * 20), run())
    while rows.pages:
        rows.step()
    text = "".join({"prefill": "f", "pass": "p"}[entry] for entry in model.log)
    assert "ff" not in text.lstrip("f")
    assert text.startswith("fp")


@pytest.mark.parametrize(("pages", "expected"), [(1, 16), (2, 8), (3, 5), (4, 4)])
def test_the_rows_of_a_pass_are_shared_by_the_pages_that_run(pages: int, expected: int) -> None:
    rows, model = scheduler()
    answer = [i % 7 + 1 for i in range(400)]
    for page_id in range(pages):
        rows.admit(page_id, Script(1, answer), run(hint=answer))
    for _ in range(pages + 3):
        rows.step()
    assert set(model.widths[-1].values()) == {expected}


def test_a_page_without_a_hint_costs_one_row() -> None:
    rows, model = scheduler()
    rows.admit(1, Script(1, [3] * 30), run())
    while rows.pages:
        rows.step()
    assert rows.rows == rows.passes == 31
    assert all(widths == {1: 1} for widths in model.widths)


def test_a_draft_does_not_go_beyond_the_token_limit() -> None:
    rows, model = scheduler()
    answer = list(range(1, 100))
    limited = run(max_tokens=5, hint=answer)
    rows.admit(1, Script(1, answer), limited)
    while rows.pages:
        rows.step()
    assert limited.stop.tokens == answer[:5]
    assert limited.stop.reason is FinishReason.LENGTH
    assert model.widths[0] == {1: 5}


def test_a_page_more_than_the_capacity_is_refused() -> None:
    rows, _ = scheduler(capacity=1)
    rows.admit(1, Script(3, [1]), run())
    assert not rows.has_room(1)
    with pytest.raises(ValueError, match="1 of 1 pages"):
        rows.admit(2, Script(1, [1]), run())


def test_cancelling_a_page_nobody_knows_is_ignored() -> None:
    rows, _ = scheduler()
    rows.cancel(77)
    assert rows.has_room(1)


def test_pages_too_long_for_the_memory_run_one_after_another() -> None:
    rows, _ = scheduler(position_budget=10_000)
    assert rows.has_room(1_000_000)  # any page may come when there is none
    rows.admit(1, Script(1, [4]), PageRun(StopRule([END], 9), NoDrafts(), 2_900))
    assert rows.has_room(2_900)  # 2 x (2,900 + 2,048) positions
    assert not rows.has_room(3_000)
    while rows.pages:
        rows.step()
    assert rows.has_room(3_000)


def test_a_page_without_finite_scores_fails_alone() -> None:
    pages, model = scheduler()
    pages.admit(1, Script(1, [5, NOT_FINITE]), run())
    pages.admit(2, Script(1, [6, 7]), run())
    gains = [gain for _ in range(6) for gain in pages.step()]
    assert [gain.page_id for gain in gains if not gain.is_finite] == [1]
    assert [token for gain in gains if gain.page_id == 2 for token in gain.tokens] == [6, 7]
    assert not pages.pages and not model.pages


class Guesses:
    """Proposes right tokens from some pass on."""

    def __init__(self, answer: list[int], first: int) -> None:
        self._known, self._first, self._passes = KnownAnswer(answer), first, 0
        self.expected_tokens = len(answer)

    def propose(self, limit: int) -> Draft:
        self._passes += 1
        return self._known.propose(limit if self._passes >= self._first else 0)

    def learn(self, tokens: Sequence[int]) -> None:
        self._known.learn(tokens)


@pytest.mark.parametrize("first", [1, 2, 7])
def test_a_pass_that_has_begun_is_used_and_none_begins_where_drafts_are_requested(first: int) -> None:
    pages, model = scheduler()
    model.looks_ahead = True
    answer = [number % 7 + 1 for number in range(60)]
    page = PageRun(StopRule([END], 1000), Guesses(answer, first), 1)
    pages.admit(1, Script(1, answer), page)
    while pages.pages:
        pages.step()
    assert page.stop.tokens == answer
    plain = first if first > 1 else 0  # the first draft comes a pass late, as that pass has begun
    assert pages.passes == plain + -(-(61 - plain) // 16)


def test_a_page_whose_drafts_would_not_pay_costs_one_row_a_pass() -> None:
    pages, model = scheduler(costs=RowCosts(((1, 1.0), (2, 3.0))))
    pages.admit(1, Script(1, [3] * 30), run(hint=[3] * 30))
    while pages.pages:
        pages.step()
    assert all(widths == {1: 1} for widths in model.widths)


def test_passes_that_decide_ties_are_counted() -> None:
    pages, model = scheduler(costs=DEAR)
    pages.admit(1, Script(1, [3, 4]), page := run())
    pages.step()
    model.score, score = lambda rows, look_ahead: tie(model, score, rows), model.score  # type: ignore[method-assign]
    pages.step()
    assert pages.passes == 3
    assert page.account.balance == -1


def tie(
    model: ScriptedModel, score: Callable[..., dict[int, list[int]]], rows: Mapping[int, Rows]
) -> dict[int, list[int]]:
    model.rescored += 1
    return score(rows, look_ahead=False)


def test_prompts_are_computed_without_a_pass_and_the_answers_stay_the_same() -> None:
    rows, model = scheduler()
    runs = {page_id: run() for page_id in (1, 2)}
    rows.admit(1, Script(1, [5, 6, END]), runs[1])
    rows.admit(2, Script(3, [7, END]), runs[2])
    assert [rows.prefill() for _ in range(5)] == [True, True, True, False, False]
    assert model.log == ["prefill"] * 4 and rows.passes == 0
    while rows.pages:
        rows.step()
    assert [runs[page_id].stop.tokens for page_id in (1, 2)] == [[5, 6], [7]]
