"""Which images share a call of the encoder."""

import pytest
from dotsctl.encoder_worker.packing import pack
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(0, 120))
def test_groups_are_in_order_without_a_gap_under_the_cap_and_as_large_as_they_can_be(
    counts: list[int], cap: int
) -> None:
    groups = list(pack(counts, cap))
    assert [place for group in groups for place in group] == list(range(len(counts)))
    sums = [sum(counts[place] for place in group) for group in groups]
    assert all(total <= cap or len(group) == 1 for group, total in zip(groups, sums, strict=True))
    following = [counts[group.start] for group in groups[1:]]
    assert all(total + first > cap for total, first in zip(sums, following, strict=False))


@pytest.mark.parametrize(
    ("counts", "cap", "expected"),
    [
        ([], 10, []),
        ([4, 4, 4], 8, [range(2), range(2, 3)]),
        ([100, 4, 4], 8, [range(1), range(1, 3)]),
        ([4, 100, 4], 8, [range(1), range(1, 2), range(2, 3)]),
    ],
)
def test_an_image_above_the_cap_has_a_call_of_its_own(counts: list[int], cap: int, expected: list[range]) -> None:
    assert list(pack(counts, cap)) == expected
