"""Lines become paragraphs, and columns their reading order; whatever comes in, a hint stays within its limits."""

import pytest
from dotsctl.protocol.page_hint import MAX_HINT_BLOCKS, MAX_HINT_BYTES, HintBlock
from dotsctl.protocol.render.text_blocks import TextLine, in_reading_order, joined, limited, paragraphs
from hypothesis import given
from hypothesis import strategies as st

HEIGHT = 10.0


def line(text: str, x: float, y: float, width: float = 200.0, height: float = HEIGHT) -> TextLine:
    return TextLine(text, (x, y, x + width, y + height), y, y + height)


def column(texts: list[str], x: float, y: float, pitch: float = 13.0) -> list[TextLine]:
    return [line(text, x, y + number * pitch) for number, text in enumerate(texts)]


def texts(blocks: list[HintBlock]) -> list[str]:
    return [block.text for block in blocks]


def test_lines_below_each_other_are_a_paragraph_and_a_larger_space_begins_another() -> None:
    found = paragraphs([*column(["one", "two", "three"], 50, 100), *column(["four", "five"], 50, 150)])
    assert texts(found) == ["one two three", "four five"]
    assert found[0].box == (50, 100, 250, 136)


def test_columns_that_take_turns_are_kept_apart() -> None:
    left, right = column(["a", "b", "c"], 50, 100), column(["x", "y", "z"], 300, 100)
    turns = [each for pair in zip(left, right, strict=True) for each in pair]
    assert texts(paragraphs(turns)) == ["a b c", "x y z"]


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (line("two", 50, 113), ["one two"]),
        (line("two", 90, 113), ["one", "two"]),
        (line("two", 50, 113, height=16), ["one", "two"]),
        (line("- two", 50, 113), ["one", "- two"]),
        (line("2. two", 50, 113), ["one", "2. two"]),
        (line("two", 50, 130), ["one", "two"]),
        (line("two", 50, 80), ["one", "two"]),
        (line("two", 100, 113, width=100), ["one two"]),
    ],
    ids=["below", "another edge", "a larger size", "a list", "a number", "far below", "above", "centred"],
)
def test_a_line_continues_a_paragraph_by_size_edge_and_space(second: TextLine, expected: list[str]) -> None:
    assert texts(paragraphs([line("one", 50, 100), second])) == expected


def test_an_indented_line_begins_a_paragraph_and_may_be_its_first_one() -> None:
    lines = [line("one", 62, 100), line("two", 50, 113), line("three", 62, 126), line("four", 50, 139)]
    assert texts(paragraphs(lines)) == ["one two", "three four"]


def test_the_items_of_a_list_are_one_paragraph_with_the_lines_below_their_marks() -> None:
    items = [line("• one", 50, 100), line("two", 62, 113), line("• three", 50, 126), line("four", 62, 139)]
    assert texts(paragraphs([line("before", 50, 87), *items])) == ["before", "• one two • three four"]
    assert texts(paragraphs([items[0], line("• deeper", 80, 113)])) == ["• one", "• deeper"]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["an exam-", "ple of it"], "an example of it"),
        (["state-of-", "the-art"], "state-of-the-art"),
        (["Meyer-", "Schmidt"], "Meyer-Schmidt"),
        (["pages 3 -", "and more"], "pages 3 - and more"),
        (["exam\u00ad", "ple"], "example"),
        (["1990-", "1995"], "1990-1995"),
        ([" a ", "", "b"], "a b"),
        ([], ""),
    ],
)
def test_lines_are_joined_by_a_space_and_divided_words_are_rejoined(lines: list[str], text: str) -> None:
    assert joined(lines) == text


def test_a_page_with_a_heading_two_columns_and_a_footer_is_read_in_this_order() -> None:
    left, right = column([f"l{number}" for number in range(5)], 50, 100), column(["r0", "r1", "r2", "r3"], 300, 103)
    heading, footer = line("heading", 50, 60, width=450), line("footer", 50, 250, width=450)
    shuffled = [footer, *reversed([each for pair in zip(left, right, strict=False) for each in pair]), heading, left[4]]
    expected = ["heading", *(f"l{number}" for number in range(5)), "r0", "r1", "r2", "r3", "footer"]
    assert [each.text for each in in_reading_order(shuffled)] == expected


places = st.floats(0, 1000)
lines_of_a_page = st.lists(
    st.builds(line, st.text(max_size=5), places, places, st.floats(0, 300), st.floats(0, 40)), max_size=30
)


@given(lines_of_a_page)
def test_no_line_is_lost_or_doubled_wherever_the_lines_are(lines: list[TextLine]) -> None:
    ordered = in_reading_order(lines)
    assert sorted(map(id, ordered)) == sorted(map(id, lines))
    found = paragraphs(lines)
    boxes = [block.box for block in found if block.box is not None]
    for each in lines:
        x0, y0, x1, y1 = each.box
        assert any(b[0] <= x0 and b[1] <= y0 and b[2] >= x1 and b[3] >= y1 for b in boxes)


@pytest.mark.parametrize(
    ("blocks", "kept"),
    [
        (["a" * 1000] * 300, MAX_HINT_BYTES // 1000 + 1),
        (["é" * 500] * 300, MAX_HINT_BYTES // 1000 + 1),
        (["é" * MAX_HINT_BYTES], 1),
        (["a"] * 5000, MAX_HINT_BLOCKS),
        (["", "a", ""], 1),
    ],
)
def test_a_hint_holds_as_many_blocks_as_may_travel(blocks: list[str], kept: int) -> None:
    hint = limited(map(HintBlock, blocks), None, "textlayer")
    assert hint is not None and len(hint.blocks) == kept


def test_without_text_there_is_no_hint() -> None:
    assert limited([HintBlock("")], None, "textlayer") is None
