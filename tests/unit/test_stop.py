import pytest
from dotsctl.decoder_worker.stop import LoopDetector, StopRule
from dotsctl.protocol.parts import FinishReason
from hypothesis import given, settings
from hypothesis import strategies as st

END = 99


def small(tokens: int = 12, repeats: int = 2, longest_period: int = 8) -> LoopDetector:
    return LoopDetector(tokens, repeats, longest_period)


def test_an_end_token_stops_the_page_and_is_no_part_of_the_answer() -> None:
    rule = StopRule([END], 10)
    assert rule.extend([1, 2, END, 3, 4]) == [1, 2]
    assert rule.reason is FinishReason.STOP
    assert rule.tokens == [1, 2]
    assert rule.num_decoded == 3


def test_nothing_is_taken_after_the_end() -> None:
    rule = StopRule([END], 10)
    rule.extend([END])
    assert rule.extend([1, 2]) == []
    assert rule.tokens == []


def test_the_token_limit_is_hard_even_when_a_pass_brings_more() -> None:
    rule = StopRule([END], 3)
    assert rule.extend([1, 2, 3, 4, 5]) == [1, 2, 3]
    assert rule.reason is FinishReason.LENGTH
    assert rule.room == 0


def test_an_end_token_at_the_limit_counts_as_an_end() -> None:
    rule = StopRule([END], 2)
    rule.extend([1, END])
    assert rule.reason is FinishReason.STOP


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="max_tokens 0"):
        StopRule([END], 0)


@settings(max_examples=60, deadline=None)
@given(
    head=st.lists(st.integers(100, 120), max_size=10),
    period=st.lists(st.integers(0, 3), min_size=1, max_size=8),
    sizes=st.lists(st.integers(1, 5), min_size=60, max_size=60),
)
def test_every_loop_is_found_and_cut_back_to_one_round(head: list[int], period: list[int], sizes: list[int]) -> None:
    rule = StopRule([END], 10_000, small())
    stream = head + period * 60
    start = 0
    for size in sizes:
        rule.extend(stream[start : start + size])
        start += size
    if start < len(head) + 12 + 4 * len(period):
        return
    assert rule.reason is FinishReason.LOOP
    assert len(rule.tokens) <= len(head) + len(period)
    assert rule.tokens == stream[: len(rule.tokens)]
    assert len(rule.tokens) >= len(head)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 200), max_size=200, unique=True))
def test_tokens_that_do_not_repeat_are_never_a_loop(stream: list[int]) -> None:
    rule = StopRule([], 10_000, small())
    assert rule.extend(stream) == stream
    assert rule.reason is None


def row(cells: int) -> list[int]:
    """``<tr>``, empty ``<td></td>`` of three tokens each, ``</tr>``, as a byte-pair tokenizer cuts them."""
    return [1, *[2, 3, 4] * cells, 5, 6]


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("dotted leader", [10] * 900),
        ("leaders with page numbers", [token for number in range(30, 500) for token in (20, 10, 10, 10, 10, number)]),
        ("row of empty cells", [2, 3, 4] * 300),
        ("attendance sheet of 31 days and 19 pupils", row(31) * 19),
        ("labels of 40 tokens on a sheet of 24", [*range(40)] * 24),
    ],
)
def test_forms_tables_and_leaders_of_usual_size_are_no_loop(name: str, stream: list[int]) -> None:
    detector = LoopDetector()
    assert all(detector.add(token) is None for token in stream), name


@pytest.mark.parametrize("period", [1, 3, 40, 200, 512])
def test_an_endless_repetition_is_found_before_it_has_cost_its_limit(period: int) -> None:
    detector = LoopDetector()
    for count in range(1, 20_000):
        if detector.add(count % period):
            assert count == period + 1024 + 8 * period
            return
    raise AssertionError("no loop found")
