import json
from collections import Counter
from typing import Any

import pytest
from dotsctl.client.results.cell import Cell
from dotsctl.client.results.cell_repair import read_damaged
from dotsctl.client.results.cells import CellStream, parse_cells
from dotsctl.protocol.geometry import PageGeometry, PixelLimits, fit
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.broken_answers import DAMAGES, PAGE_PX, Broken, broken_answers

PAGE = PageGeometry(source=PAGE_PX, orientation=1, resized=PAGE_PX, scale=(1.0, 1.0))
BROKEN = broken_answers(200, seed=1)


def streamed(answer: str, sizes: list[int]) -> tuple[list[Cell], tuple[str, ...]]:
    """The cells of an answer that comes in pieces of these sizes, over and over."""
    stream = CellStream(PAGE)
    cells, at, turn = [], 0, 0
    while at < len(answer):
        cells += stream.push(answer[at : at + sizes[turn % len(sizes)]])
        at, turn = at + sizes[turn % len(sizes)], turn + 1
    rest, repairs = stream.finish()
    return cells + rest, repairs


def box_of(value: Any) -> tuple[int, ...] | None:
    """What a box of a whole cell must become on a page of the same size."""
    if not (isinstance(value, list) and len(value) == 4 and all(type(side) in (int, float, str) for side in value)):
        return None
    sides = [float(side) for side in value]
    if not all(abs(side) <= 1e7 for side in sides):
        return None
    return tuple(int(min(max(side, 0), limit)) for side, limit in zip(sides, PAGE_PX * 2, strict=True))


def test_all_kinds_of_damage_are_among_the_200_answers() -> None:
    assert len(BROKEN) == 200
    assert len({broken.kind for broken in BROKEN}) == len(DAMAGES) == 20
    assert len({broken.answer for broken in BROKEN}) > 150
    assert max(len(broken.answer) for broken in BROKEN) > 50_000


@pytest.mark.parametrize("broken", BROKEN, ids=[f"{place}-{each.kind}" for place, each in enumerate(BROKEN)])
def test_every_complete_cell_of_a_broken_answer_is_kept_as_it_is(broken: Broken) -> None:
    cells, _ = parse_cells(broken.answer, PAGE)
    found = [(cell.bbox, cell.category, cell.text) for cell in cells]
    expected = [(box_of(cell["bbox"]), cell["category"], cell.get("text", "")) for cell in broken.whole]
    assert [each for each in found if each in expected] == expected
    assert not Counter(broken.repaired) - Counter(cell.text for cell in cells)


@pytest.mark.parametrize("broken", BROKEN[: len(DAMAGES)], ids=[each.kind for each in BROKEN[: len(DAMAGES)]])
def test_a_broken_answer_in_single_characters_gives_the_same_cells(broken: Broken) -> None:
    cells, repairs = parse_cells(broken.answer, PAGE)
    assert streamed(broken.answer, [1]) == (list(cells), repairs)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([each for each in BROKEN if len(each.answer) < 5000]), st.lists(st.integers(1, 60), min_size=1))
def test_the_pieces_in_which_an_answer_comes_change_nothing(broken: Broken, sizes: list[int]) -> None:
    cells, repairs = parse_cells(broken.answer, PAGE)
    assert streamed(broken.answer, sizes) == (list(cells), repairs)


noise = st.text("[]{}\":,\\'\n bcx1.-`é", max_size=40)
fragments = st.sampled_from(
    [
        '{"bbox": [1, 2, 3, 4], "category": "Text", "text": "a"}',
        '{"bbox":',
        '"text": "',
        "{'bbox': [1,2,3,4], 'text': '",
    ]
)

begun = st.sampled_from(["{'a': ", "{'a': 'it's", '{"a": "', "{'text': 'x"])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(noise, fragments), max_size=12), st.integers(1, 9))
def test_no_answer_at_all_raises_or_depends_on_its_pieces(parts: list[str], size: int) -> None:
    cells, repairs = parse_cells("".join(parts), PAGE)
    assert streamed("".join(parts), [size]) == (list(cells), repairs)
    json.dumps([cell.record() for cell in cells]).encode()


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=60), st.booleans(), st.one_of(noise, st.sampled_from(["{'a': ", "{'a': 'it's", '{"a": "', "[{"]))
)
def test_a_complete_cell_between_anything_is_never_changed(text: str, ascii_only: bool, around: str) -> None:
    cell = {"bbox": [1, 2, 3, 4], "category": "Text", "text": text}
    damaged = '{"bbox": [5, 6, 7, 8], "category": "Text", "text": "' + around.replace("\\", "")
    answer = f"{around} [{damaged}, {json.dumps(cell, ensure_ascii=ascii_only)}, {damaged}"
    cells, _ = parse_cells(answer, PAGE)
    shown = text.encode("utf-8", "replace").decode()
    assert Cell((1, 2, 3, 4), "Text", shown) in cells


def test_a_cell_is_given_with_its_last_character() -> None:
    stream = CellStream(PAGE)
    assert stream.push('[{"bbox": [1, 2, 3, 4], "category": "Title", "text": "T"') == []
    assert [cell.category for cell in stream.push("}")] == ["Title"]
    assert stream.push(', {"bbox": [1, 2, 3, 4], "category": "Text", "text": "a "b" c"}') == []
    assert [cell.text for cell in stream.push(', {"bbox":')] == ['a "b" c']
    assert stream.finish() == (
        [],
        ("cell 2: broken JSON, whose fields were recovered", "cell 3: the answer is cut off here"),
    )


def test_cells_within_an_object_are_found() -> None:
    cells, repairs = parse_cells('{"layout": [{"bbox": [1, 2, 3, 4], "text": "a"}, {"text": "b"}]}', PAGE)
    assert [cell.text for cell in cells] == ["a", "b"]
    assert repairs == ("cell 2: no usable box",)


def test_a_cell_without_its_opening_brace_is_found() -> None:
    cells, _ = parse_cells('[{"text": "a"}, "bbox": [1, 2, 3, 4], "text": "b"}, {"text": "c"}]', PAGE)
    assert [(cell.bbox, cell.text) for cell in cells] == [(None, "a"), ((1, 2, 3, 4), "b"), (None, "c")]


@pytest.mark.parametrize(
    ("end", "text", "category"),
    [
        (', "category": "Sec', "", "Text"),
        (', "category": "Title"', "", "Title"),
        (', "category": "Title", "text": "ab\\', "ab", "Title"),
        (', "category": "Title", "text": "ab\\u00e', "ab", "Title"),
        (', "category": "Title", "text": "ab\\\\', "ab\\", "Title"),
        (', "category": "Title", "text": "ab"', "ab", "Title"),
        (', "category": "Formula", "text": "[\\\\frac{a}{b}]', "[\\frac{a}{b}]", "Formula"),
    ],
)
def test_a_cut_cell_has_what_was_written_and_nothing_else(end: str, text: str, category: str) -> None:
    cells, repairs = parse_cells('[{"bbox": [1, 2, 3, 4]' + end, PAGE)
    assert [(cell.bbox, cell.category, cell.text) for cell in cells] == [((1, 2, 3, 4), category, text)]
    assert repairs == ("cell 1: the answer is cut off here",)


def test_a_box_whose_last_number_may_be_cut_is_no_box() -> None:
    assert read_damaged('{"bbox": [10, 20, 30, 4', str, is_last=True) == {}
    assert read_damaged('{"bbox": [10, 20, 30, 40, "category": "Text"}', str, is_last=False)["bbox"] == [10, 20, 30, 40]


def test_a_text_that_is_no_text_is_left_out_and_reported() -> None:
    cells, repairs = parse_cells('[{"bbox": [1, 2, 3, 4], "text": {"a": 1}}, {"text": ["b", "c"]}, {"text": 5}]', PAGE)
    assert [cell.text for cell in cells] == ["", "b\nc", "5"]
    assert repairs[0] == "cell 1: its text is not a string"


@pytest.mark.parametrize(
    "answer",
    [
        "{" * 100_000,
        '[{"bbox": [1,2,3,4], "text": "' + "\n" * 100_000,
        '[{"bbox": [1,2,3,4], "text": "' + '"' * 100_000,
        '[{"bbox": [1,2,3,4], "text": "' + ":" * 100_000,
        '[{"bbox": [1,2,3,4], "text": "' + "} \n " * 30_000 + "x",
        '[{"bbox": [1,2,3,4], "text": "' + "\\" * 100_001,
        '{"bbox":' * 20_000,
        '[{"bbox": [' + "1" * 100_000,
        '[{"bbox": [1,2,3,4], "text": "' + '"  ' * 30_000,
    ],
)
@pytest.mark.timeout(30)
def test_a_long_answer_that_repeats_itself_is_read_in_no_time(answer: str) -> None:
    parse_cells(answer, PAGE)


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(st.integers(20, 6000), st.integers(20, 6000)).filter(lambda size: max(size) < 100 * min(size)),
    st.integers(1, 8),
    st.integers(3136, 11_289_600),
    st.tuples(*[st.floats(-0.1, 1.1)] * 4),
)
def test_a_box_of_the_page_comes_back_within_a_pixel_and_on_the_page(
    size: tuple[int, int], orientation: int, max_pixels: int, shares: tuple[float, float, float, float]
) -> None:
    geometry = fit(size, orientation, PixelLimits(3136, max_pixels))
    width, height = geometry.oriented
    x0, x1 = sorted(share * width for share in shares[:2])
    y0, y1 = sorted(share * height for share in shares[2:])
    seen = geometry.box_from_oriented((x0, y0, x1, y1))
    inside = tuple(min(max(side, 0), limit) for side, limit in zip((x0, y0, x1, y1), (width, height) * 2, strict=True))
    back = geometry.box_to_oriented(seen)
    assert all(abs(a - b) < 1e-6 * max(size) for a, b in zip(back, inside, strict=True))
    cells, _ = parse_cells(json.dumps([{"bbox": list(seen), "category": "Text", "text": ""}]), geometry)
    assert cells[0].bbox is not None
    assert all(abs(a - b) <= 0.5 + 1e-6 for a, b in zip(cells[0].bbox, back, strict=True))
    assert all(0 <= side <= limit for side, limit in zip(cells[0].bbox, geometry.oriented * 2, strict=True))


@pytest.mark.parametrize("box", [[5000, 5000, 6000, 6000], [-9, 1, -2, 5], [1, -9, 5, -2]])
def test_a_box_outside_of_the_page_is_noted_and_its_text_is_kept(box: list[int]) -> None:
    (cell,), notes = parse_cells(json.dumps([{"bbox": box, "category": "Text", "text": "beyond"}]), PAGE)
    assert (cell.text, notes) == ("beyond", ("cell 1: its box lies outside of the page",))
    (_,), notes = parse_cells('[{"bbox": [-5, -5, 9000, 9000], "category": "Text", "text": "over"}]', PAGE)
    assert notes == ()
