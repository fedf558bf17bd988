from dotsctl.client.results.answers import has_cells, read_answer
from dotsctl.client.results.cell import Cell
from dotsctl.client.results.scene import SceneStream
from dotsctl.protocol.geometry import PageGeometry
from hypothesis import given, settings
from hypothesis import strategies as st

PAGE = PageGeometry(source=(500, 400), orientation=1, resized=(250, 200), scale=(0.5, 0.5))
ANSWER = (
    "(10,20),(30,20),(30,40),(10,40) EXIT\n(5.5, -5), (90, 10), (300,30), (5,30) Straße (1)\n(1,2),(3,2),(3,4),(1,4) "
)


def test_a_line_with_four_corners_is_a_cell_in_pixels_of_the_page() -> None:
    cells, repairs = read_answer("scene", ANSWER, PAGE)
    assert cells == (
        Cell((20, 40, 60, 80), "Scene-text", "EXIT", ((20, 40), (60, 40), (60, 80), (20, 80))),
        Cell((10, 0, 500, 60), "Scene-text", "Straße (1)", ((11, 0), (180, 20), (500, 60), (10, 60))),
        Cell((2, 4, 6, 8), "Scene-text", "", ((2, 4), (6, 4), (6, 8), (2, 8))),
    )
    assert repairs == ()
    assert cells[0].record()["polygon"] == [[20, 40], [60, 40], [60, 80], [20, 80]]


def test_a_line_without_corners_continues_with_the_text_before() -> None:
    cells, _ = read_answer(
        "scene", "no corners\n(1,2),(3,2),(3,4),(1,4) one\ntwo\n\n(1,2),(3,2),(3,4),(1,4) three", PAGE
    )
    assert [cell.text for cell in cells] == ["one\ntwo", "three"]


def test_three_corners_are_no_box_and_cut_corners_are_reported() -> None:
    cells, repairs = read_answer("scene", "(1,2),(3,2),(3,4) text\n(1,2),(3,2),(3", PAGE)
    assert cells == (Cell(None, "Scene-text", "text"),)
    assert repairs == ("cell 1: no usable box", "the answer is cut off here")


@settings(max_examples=150)
@given(
    st.lists(
        st.sampled_from(["(1,2)", ",", "(3,2),(3,4),(1,4)", " ", "\n", "word", "(", ")", "7", ANSWER]), max_size=20
    )
)
def test_the_pieces_in_which_lines_come_change_nothing(pieces: list[str]) -> None:
    stream = SceneStream(PAGE)
    cells = [cell for piece in pieces for cell in piece for cell in stream.push(cell)]
    rest, repairs = stream.finish()
    assert (tuple(cells + rest), repairs) == read_answer("scene", "".join(pieces), PAGE)


def test_tasks_have_cells_or_text() -> None:
    assert [
        task for task in ("text", "layout", "layout-only", "ground", "web", "scene", "svg", "ask") if has_cells(task)
    ] == [
        "layout",
        "layout-only",
        "web",
        "scene",
    ]
