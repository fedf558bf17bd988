"""The next box of a layout answer, from the boxes of the hint and those that were read."""

from dotsctl.decoder_worker.drafts.sides import BlockBoxes, completion
from dotsctl.protocol.page_geometry import PageGeometry
from dotsctl.protocol.page_hint import HintBlock, PageHint
from hypothesis import given
from hypothesis import strategies as st

GEOMETRY = PageGeometry((1000, 2000), 1, (500, 1000), (0.5, 0.5), (10.0, 0.0))
HINT = PageHint(
    (
        HintBlock("a", (10.0, 10.0, 50.0, 20.0)),
        HintBlock("b", (10.0, 30.0, 50.0, 40.0)),
        HintBlock("no place"),
        HintBlock("c", (55.0, 10.0, 95.0, 20.0)),
        HintBlock("d", (10.0, 50.0, 40.0, 60.0)),
    ),
    (100.0, 200.0),
)


def test_boxes_of_a_hint_are_scaled_to_the_resized_page() -> None:
    boxes = BlockBoxes.of(HINT, GEOMETRY)
    assert boxes.boxes[0] == (60.0, 50.0, 260.0, 100.0)  # 10 pt of 100 are 100 of 1,000 px, half as many, 10 px on
    assert boxes.boxes[2] is None


def test_a_hint_without_geometry_or_size_has_no_places() -> None:
    assert BlockBoxes.of(HINT, None).boxes == [None] * 5
    assert BlockBoxes.of(PageHint((HintBlock("a"),)), GEOMETRY).boxes == [None]
    assert BlockBoxes.of(None, GEOMETRY).next_block([], "", ()) is None


def test_the_next_cell_is_the_first_block_that_no_cell_covers() -> None:
    boxes = BlockBoxes.of(HINT, GEOMETRY)
    assert boxes.next_block([], "", ()) == 0
    assert boxes.learn([56, 44, 262, 204]) == [0, 1]
    assert boxes.next_block([], "", ()) == 3
    assert boxes.next_block([], "", (3,)) == 4
    assert not boxes.is_done
    assert boxes.learn([280, 44, 490, 104]) == [3]
    assert boxes.learn([50, 244, 220, 304]) == [4]
    assert boxes.is_done
    assert boxes.next_block([], "", ()) is None


def test_sides_that_were_written_choose_the_block() -> None:
    boxes = BlockBoxes.of(HINT, GEOMETRY)
    assert boxes.next_block([285], "", ()) == 3
    assert boxes.next_block([60, 148], "", ()) == 1
    assert boxes.next_block([60], "24", ()) == 4
    assert boxes.next_block([400, 900], "", ()) is None


def test_differences_are_learnt_from_cells_that_match_and_from_no_others() -> None:
    boxes = BlockBoxes.of(HINT, GEOMETRY)
    boxes.learn([54, 41, 271, 103])
    assert [boxes.side(1, number) for number in range(4)] == [
        (54, True, True),
        (141, False, True),
        (271, True, True),
        (203, False, True),
    ]
    assert boxes.side(3, 0) == (279, False, True)  # 285 less 6
    before = boxes.side(4, 1)
    boxes.learn([20, 20, 480, 980])  # the rest of the page in one box
    assert boxes.side(4, 1).value == before.value


def test_numbers_that_are_always_even_are_expected_to_be_even() -> None:
    boxes = BlockBoxes.of(HINT, GEOMETRY)
    boxes.learn([54, 42, 270, 102])
    boxes.learn([54, 142, 270, 204])
    assert boxes.side(4, 3).value % 2 == 0


def test_without_a_block_a_side_is_guessed_from_the_cell_before() -> None:
    boxes = BlockBoxes.of(None, GEOMETRY)
    boxes.learn([54, 42, 270, 102])
    boxes.learn([54, 122, 270, 182])
    assert [boxes.side(None, number, [54, 202][:number]).value for number in range(4)] == [54, 202, 270, 262]


@given(st.integers(0, 99_999), st.integers(0, 5))
def test_digits_that_are_right_are_completed_to_the_expected_number(expected: int, known: int) -> None:
    written = str(expected)[:known]
    assert written + completion(written, expected) == str(expected)


def test_after_a_wrong_digit_the_nearest_number_is_expected() -> None:
    assert completion("18", 197) == "9"
    assert completion("20", 197) == "0"
    assert completion("198", 197) == ""
    assert completion("99", 1004) == "9"
    assert completion("1", 98) == "00"
