"""The reader of a layout answer: fields by structure, frames learnt."""

import json

from dotsctl.decoder_worker.drafts.cell_reader import NEXT_CELL, CellReader, Field, Frame
from hypothesis import given
from hypothesis import strategies as st

CELLS = st.lists(
    st.fixed_dictionaries(
        {
            "bbox": st.lists(st.integers(0, 99_999), min_size=4, max_size=4),
            "category": st.sampled_from(["Text", "List-item", "Table"]),
            "text": st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
        }
    ),
    min_size=1,
    max_size=4,
)


def read(answer: str, *, has_text: bool = True) -> CellReader:
    reader = CellReader(has_text)
    for character in answer:
        reader.push(character)
    return reader


@given(CELLS, st.sampled_from([None, 1]), st.booleans())
def test_cells_are_read_as_json_reads_them(cells: list[dict[str, object]], indent: int | None, is_ascii: bool) -> None:
    written = [{key: cell[key] for key in ("bbox", "category", "text")} for cell in cells]
    found = read(json.dumps(written, indent=indent, ensure_ascii=is_ascii))
    assert [each.sides for each in found.cells] == [cell["bbox"] for cell in cells]
    assert [each.category for each in found.cells] == [cell["category"] for cell in cells]
    if not is_ascii:  # a character beyond 16 bits has two escapes
        assert [each.text for each in found.cells] == [cell["text"] for cell in cells]


@given(st.text(max_size=200))
def test_anything_may_come_in_place_of_cells(answer: str) -> None:
    read(answer)
    read('[{"bbox": [' + answer)


def test_the_place_in_an_answer_is_known_at_every_character() -> None:
    answer = '[{"bbox": [1, 22, 3, 4], "category": "Text", "text": "a"}'
    places = [read(answer[:end]).at for end in range(len(answer) + 1)]
    assert places[answer.index("1") + 1] is Field.SIDE_0
    assert places[answer.index("22") + 2] is Field.SIDE_1
    assert places[answer.index("22") + 3] is None
    assert places[answer.index("Text")] is Field.CATEGORY
    assert places[answer.index('a"}')] is Field.TEXT
    assert places[-1] is None


def test_frames_are_those_of_dots_ocr_until_the_answer_shows_others() -> None:
    reader = CellReader()
    assert reader.frame(None) == Frame('[{"bbox": [', Field.SIDE_0)
    assert reader.frame(Field.SIDE_3) == Frame('], "category": "', Field.CATEGORY)
    assert reader.frame(Field.CATEGORY, "Picture") == NEXT_CELL
    assert CellReader(has_text=False).frame(Field.CATEGORY, "Text") == NEXT_CELL
    reader = read('[{"bbox":[1,2,3,4],"category":"Text","text":"a"},\n{"bbox":[5,6')
    assert reader.frame(Field.SIDE_0) == Frame(",", Field.SIDE_1)
    assert reader.frame(Field.CATEGORY, "Text") == Frame('","text":"', Field.TEXT)
    assert reader.frame(Field.TEXT) == Frame('"},\n{"bbox":[', Field.SIDE_0)


def test_a_quote_with_a_backslash_does_not_end_a_text() -> None:
    assert (
        read(r'[{"bbox": [1, 2, 3, 4], "category": "Text", "text": "a \"b\"\n\u00e9 \frac"}').cell.text
        == 'a "b"\né \frac'
    )
