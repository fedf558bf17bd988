"""When a decoder that shares its device waits for more pages."""

import pytest
from dotsctl.decoder_worker.gathering import Gathering, PassCosts
from hypothesis import given
from hypothesis import strategies as st


def measured(**seconds: float) -> PassCosts:
    """Costs by the number of pages, as ``one=0.1, sixteen=0.2``."""
    numbers = {"one": 1, "two": 2, "eight": 8, "sixteen": 16}
    costs = PassCosts()
    for name, value in seconds.items():
        costs.passed(numbers[name], value)
    return costs


def test_without_a_permission_no_page_waits() -> None:
    assert Gathering(16, 16).remaining_s(1, 100.0, is_full=False) == 0.0


def test_a_permission_holds_for_its_time_and_the_next_one_replaces_it() -> None:
    gathering = Gathering(16, 16)
    gathering.permit(5.0, now=100.0)
    assert gathering.remaining_s(1, 102.0, is_full=False) == 3.0
    assert gathering.remaining_s(1, 105.0, is_full=False) == 0.0
    gathering.permit(9.0, now=103.0)
    gathering.permit(0.0, now=103.5)
    assert gathering.remaining_s(1, 103.5, is_full=False) == 0.0


@pytest.mark.parametrize(("pages", "is_full"), [(16, False), (3, True)])
def test_a_full_batch_is_decoded(pages: int, is_full: bool) -> None:
    gathering = Gathering(16, 16)
    gathering.permit(5.0, now=0.0)
    assert gathering.remaining_s(pages, 1.0, is_full=is_full) == 0.0


def test_a_batch_that_lacks_a_page_or_two_is_decoded() -> None:
    gathering = Gathering(16, 16)
    gathering.permit(5.0, now=0.0)
    assert [gathering.remaining_s(pages, 0.0, is_full=False) > 0 for pages in (1, 8, 13, 14, 15)] == [
        *(True, True, True),
        *(False, False),
    ]


def test_where_a_pass_costs_as_much_more_as_it_has_pages_there_is_nothing_to_wait_for() -> None:
    gathering = Gathering(16, 16, measured(one=0.1, eight=0.8))
    gathering.permit(5.0, now=0.0)
    assert gathering.remaining_s(1, 0.0, is_full=False) == 0.0


def test_a_cost_beyond_the_measured_numbers_lies_on_a_line_through_them() -> None:
    costs = measured(eight=0.100, sixteen=0.130)
    assert costs.gain(8, 16) == pytest.approx((0.1 / 8) / (0.13 / 16))
    assert costs.gain(12, 16) == pytest.approx((0.115 / 12) / (0.13 / 16))


def test_a_machine_that_becomes_slower_is_noticed() -> None:
    costs = measured(one=0.1, sixteen=0.2)
    for _ in range(30):
        costs.passed(16, 1.6)
    assert costs.gain(1, 16) < 1.1


def test_on_a_device_for_both_at_once_half_a_batch_suffices() -> None:
    assert (Gathering.on(16, is_exclusive=True).target, Gathering.on(16, is_exclusive=False).target) == (16, 8)
    assert Gathering.on(1, is_exclusive=False).target == 1


@given(
    passes=st.lists(st.tuples(st.integers(1, 64), st.floats(1e-6, 100.0)), max_size=12),
    pages=st.integers(1, 64),
    capacity=st.integers(1, 64),
    for_s=st.floats(0, 60),
    later_s=st.floats(0, 120),
)
def test_a_page_never_waits_longer_than_permitted(
    passes: list[tuple[int, float]], pages: int, capacity: int, for_s: float, later_s: float
) -> None:
    gathering = Gathering.on(capacity, is_exclusive=True)
    for number, seconds in passes:
        gathering.costs.passed(number, seconds)
    gathering.permit(for_s, now=1000.0)
    wait_s = gathering.remaining_s(pages, 1000.0 + later_s, is_full=False)
    assert 0.0 <= wait_s <= max(0.0, for_s - later_s) + 1e-9
    assert wait_s == 0.0 or pages < capacity
