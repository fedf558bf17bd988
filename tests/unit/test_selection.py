import pytest
from dotsctl.client.inputs.selection import PageRanges, Selection
from dotsctl.protocol.errors import UsageError
from hypothesis import given, settings
from hypothesis import strategies as st

NUMBER = st.integers(1, 30)
RANGES = st.lists(
    st.tuples(NUMBER, st.one_of(st.none(), NUMBER)).map(lambda pair: pair if pair[1] is None else tuple(sorted(pair))),
    min_size=1,
    max_size=6,
)


def written(ranges: list[tuple[int, int | None]]) -> str:
    return ",".join(
        f"{first}-{'' if last is None else last}" if first != last else str(first) for first, last in ranges
    )


def test_ranges_are_read_as_they_are_written() -> None:
    assert PageRanges.parse("1-3, 7 ,10-").ranges == ((1, 3), (7, 7), (10, None))


def test_all_pages_are_chosen_when_none_are() -> None:
    pages, outside = Selection().choose(3)
    assert (list(pages), outside.ranges) == ([1, 2, 3], ())


@settings(max_examples=200)
@given(RANGES, st.integers(1, 40))
def test_a_page_is_chosen_exactly_when_a_range_holds_it(ranges: list[tuple[int, int | None]], num_pages: int) -> None:
    chosen, _ = PageRanges.parse(written(ranges)).choose(num_pages)
    held = [n for n in range(1, num_pages + 1) if any(a <= n and (b is None or n <= b) for a, b in ranges)]
    assert list(chosen) == held


@settings(max_examples=200)
@given(RANGES, st.integers(1, 40))
def test_pages_are_outside_exactly_when_the_document_does_not_have_them(
    ranges: list[tuple[int, int | None]], num_pages: int
) -> None:
    _, outside = PageRanges.parse(written(ranges)).choose(num_pages)
    asked = {n for a, b in ranges for n in range(a, (b or a) + 1) if n > num_pages}
    assert {n for a, b in outside.ranges for n in range(a, (b or a) + 1)} == asked
    assert len(set(outside.ranges)) == len(outside.ranges)


@settings(max_examples=200)
@given(RANGES)
def test_the_shown_form_means_the_same_in_whatever_order_it_was_written(ranges: list[tuple[int, int | None]]) -> None:
    parsed = PageRanges.parse(written(ranges))
    assert PageRanges.parse(str(parsed)) == parsed == PageRanges.parse(written(ranges[::-1] + ranges))


@settings(max_examples=100)
@given(st.text(alphabet="0123456789-, x\u0663", max_size=8))
def test_any_text_is_ranges_or_one_line_for_the_user(text: str) -> None:
    try:
        parsed = PageRanges.parse(text)
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert all(first >= 1 and (last is None or last >= first) for first, last in parsed.ranges)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "as in 1-3,7,10-"),
        ("a", "as in 1-3,7,10-"),
        ("1-3,,7", "as in 1-3,7,10-"),
        ("-3", "as in 1-3,7,10-"),
        ("0-3", "counted from 1"),
        ("7,5-3", "write 3-5"),
        ("9" * 5000, "neither a page"),
    ],
)
def test_what_is_no_range_is_refused_with_an_example(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        PageRanges.parse(text)


@pytest.mark.parametrize("dpi", [0, 35, 1201])
def test_a_resolution_that_nothing_is_scanned_at_is_refused(dpi: int) -> None:
    with pytest.raises(UsageError, match="between 36 and 1200"):
        Selection.of(None, dpi, None)


def test_the_password_comes_from_the_caller_or_the_environment_and_is_not_shown() -> None:
    environment = {"DOTSCTL_PASSWORD": "hidden"}
    assert Selection.of(None, 200, None, {}).password is None
    assert Selection.of(None, 200, None, environment).password == "hidden"
    assert Selection.of(None, 200, "mine", environment).password == "mine"
    assert "hidden" not in repr(Selection.of("1-", 200, None, environment))
