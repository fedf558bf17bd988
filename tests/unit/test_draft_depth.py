"""How many drafted tokens a pass verifies, by the odds and by what rows cost."""

import pytest
from dotsctl.decoder_worker.drafts.depth import PROVEN, Account, RowCosts, best_width
from dotsctl.decoder_worker.drafts.verifying import NOTHING, Draft
from hypothesis import given
from hypothesis import strategies as st

ODDS = st.lists(st.floats(0, 1), max_size=20)
SECONDS = st.lists(st.floats(1e-4, 0.01), min_size=1, max_size=5).map(
    lambda steps: tuple((2**place, sum(steps[: place + 1])) for place in range(len(steps)))
)


def draft(*odds: float) -> Draft:
    return Draft([1] * len(odds), list(odds))


def rich(count: int) -> list[Account]:
    return [Account(balance=1e9) for _ in range(count)]


@given(SECONDS, st.lists(ODDS, min_size=1, max_size=4), st.integers(1, 40))
def test_the_width_that_is_chosen_gives_the_most_tokens_a_second(
    seconds: tuple[tuple[int, float], ...], odds: list[list[float]], limit: int
) -> None:
    costs, drafts, pages = RowCosts(seconds), [draft(*each) for each in odds], len(odds)
    width = best_width(costs, drafts, rich(pages), limit)

    def rate(rows: int) -> float:
        return sum(each.gains()[min(rows, len(each.gains())) - 1] for each in drafts) / costs.of(pages, rows)

    assert 1 <= width <= max(1, limit // pages)
    assert rate(width) >= 0.98 * max(rate(rows) for rows in range(1, max(1, limit // pages) + 1))


@given(SECONDS, st.integers(1, 5), st.integers(1, 30))
def test_more_rows_never_cost_less(seconds: tuple[tuple[int, float], ...], pages: int, width: int) -> None:
    costs = RowCosts(seconds, 1e-4)
    assert costs.of(pages, width + 1) >= costs.of(pages, width) > 0
    assert costs.of(pages + 1, width) >= costs.of(pages, width)


def test_costs_between_two_that_were_measured_lie_between_them() -> None:
    costs = RowCosts(((1, 10.0), (4, 16.0), (8, 40.0)), page_s=2.0)
    assert [costs.of(1, rows) for rows in (1, 2, 4, 6, 8, 9)] == [10.0, 12.0, 16.0, 28.0, 40.0, 46.0]
    assert costs.of(2, 2) == 18.0


@pytest.mark.parametrize(
    "seconds", [(), ((2, 1.0),), ((1, 1.0), (1, 2.0)), ((1, 0.0),), ((1, 1.0), (4, 2.0), (2, 3.0))]
)
def test_costs_that_are_none_are_refused(seconds: tuple[tuple[int, float], ...]) -> None:
    with pytest.raises(ValueError, match="not the costs of 1 row and more"):
        RowCosts(seconds)


@pytest.mark.parametrize(("share", "width"), [(0.01, 16), (0.06, 13), (0.3, 4), (1.1, 1)])
def test_dearer_rows_make_drafts_shorter_down_to_none(share: float, width: int) -> None:
    found = best_width(RowCosts.linear(share), [draft(*[0.9] * 15)], rich(1), 16)
    assert abs(found - width) <= 2
    assert (found == 1) == (width == 1)


def test_an_unlikely_draft_is_not_verified_and_a_likely_one_of_another_page_is() -> None:
    costs = RowCosts.linear(0.2)
    assert best_width(costs, [draft(0.1, 0.1)], rich(1), 16) == 1
    assert best_width(costs, [draft(0.1, 0.1), draft(*[0.99] * 7)], rich(2), 16) > 1


def test_a_page_that_has_lost_time_drafts_no_more_until_its_guesses_prove_right() -> None:
    costs, guess = RowCosts.linear(0.3), draft(*[0.95] * 7)
    account = Account(expected_tokens=100)
    assert best_width(costs, [guess], [account], 16) > 1
    while best_width(costs, [guess], [account], 16) > 1:
        account.book(Draft([1], [0.95]), [2], 2.0)  # nothing of it was right
    assert -2.0 <= account.balance <= 0
    for _ in range(PROVEN):
        assert best_width(costs, [guess], [account], 16) == 1
        account.book(Draft([1], [0.95]), [1], 1.0)  # right, though no row was spent on it
    assert best_width(costs, [guess], [account], 16) > 1


def test_without_drafts_a_pass_has_one_row_a_page() -> None:
    assert best_width(RowCosts.linear(0.0), [NOTHING, NOTHING], rich(2), 16) == 1


def test_a_page_of_unknown_length_drafts_only_what_was_right_before() -> None:
    costs, guess, account = RowCosts.linear(0.3), draft(*[0.95] * 7), Account()
    assert best_width(costs, [guess], [account], 16) == 1
    for _ in range(PROVEN):
        account.book(Draft([1], [0.95]), [1], 1.0)
    assert costs.of(1, best_width(costs, [guess], [account], 16)) <= 2.0
    account.balance = 5.0
    assert best_width(costs, [guess], [account], 16) == 8


@given(st.lists(st.integers(1, 16), max_size=200), st.integers(0, 900))
def test_drafts_that_are_never_right_cost_hardly_any_time(lengths: list[int], expected: int) -> None:
    """However likely they seem, and whichever length the answer has in the end."""
    costs, account, spent = RowCosts.linear(0.3), Account(expected), 0.0
    for length in lengths:
        width = best_width(costs, [draft(*[0.99] * length)], [account], 16)
        spent += costs.of(1, width)
        account.book(draft(*[0.99] * length), [7], costs.of(1, width))
    assert spent <= len(lengths) + max(1.0, 0.012 * len(lengths)) + 1e-9
