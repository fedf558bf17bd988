import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.results.cells import Cell, parse_cells
from dotsctl.client.results.page import Failure, Page
from dotsctl.client.results.repairs import Repair
from dotsctl.protocol.errors import PageError
from dotsctl.protocol.geometry import PageGeometry, PixelLimits, fit
from dotsctl.protocol.messages import PageResult
from dotsctl.protocol.parts import FinishReason, Quality
from hypothesis import given, settings
from hypothesis import strategies as st

SAME_SIZE = PageGeometry(source=(560, 280), orientation=1, resized=(560, 280), scale=(1.0, 1.0))
CELLS = [
    {"bbox": [10, 20, 110, 40], "category": "Title", "text": "# A title"},
    {"bbox": [10, 60, 500, 90], "category": "Formula", "text": "E = mc^2"},
    {"bbox": [0, 100, 100, 200], "category": "Picture"},
    {"bbox": [10, 210, 500, 270], "category": "Text", "text": 'Quoted "words" and a \\backslash.'},
]


def result(text: str, finish_reason: FinishReason = FinishReason.STOP, orientation: int = 1) -> PageResult:
    return PageResult(
        job_id="job",
        page_index=0,
        request_id=1,
        attempt=2,
        text=text,
        finish_reason=finish_reason,
        geometries=(PageGeometry((560, 280), orientation, (280, 560), (1.0, 1.0), (0.0, 0.0)),),
        image_tokens=200,
        prompt_tokens=210,
        completion_tokens=7,
        encoder="mlx",
        decoder="fake",
        timings_ms={"encode": 12.5},
    )


def page_of(answer: PageResult, task: str = "text") -> Page:
    page = PageInput("scans/a.png", Path("scans/a.png"), 2, 3)
    return Page.from_result(page, answer, model="demo", fingerprint="f" * 64, task=task)


def test_a_page_of_plain_text_is_its_own_markdown() -> None:
    page = page_of(result("Some *text*"))
    assert (page.text, page.markdown, page.plain_text, page.cells) == ("Some *text*", "Some *text*", "Some *text*", ())
    assert (page.status, page.error) == ("ok", None)


def test_a_page_without_text_reads_as_empty() -> None:
    assert page_of(result("")).markdown == ""
    assert page_of(result("[]"), "layout").markdown == ""
    assert page_of(result("[]"), "layout").status == "ok"


def test_a_blank_page_is_blank_and_empty_in_every_form() -> None:
    for task in ("text", "layout", "scene"):
        page = page_of(result("", FinishReason.BLANK), task)
        assert (page.status, page.finish_reason, page.cells, page.repaired) == ("blank", "blank", (), ())
        assert (page.markdown, page.plain_text, page.record()["status"]) == ("", "", "blank")


def test_web_and_scene_answers_become_cells_and_layout_only_has_no_text() -> None:
    bare = [{key: cell[key] for key in ("bbox", "category")} for cell in CELLS]
    assert [cell.text for cell in page_of(result(json.dumps(bare)), "layout-only").cells] == [""] * 4
    assert len(page_of(result(json.dumps(CELLS)), "web").cells) == 4
    scene = page_of(result("(1,2),(30,2),(30,40),(1,40) EXIT"), "scene")
    assert (scene.markdown, scene.record()["cells"][0]["polygon"]) == ("EXIT", [[1, 2], [30, 2], [30, 40], [1, 40]])


def test_an_svg_is_given_without_the_fence_around_it_and_kept_raw() -> None:
    page = page_of(result("```svg\n<svg/>\n```"), "svg")
    assert (page.markdown, page.plain_text, page.text) == ("<svg/>", "<svg/>", "```svg\n<svg/>\n```")


def test_answers_that_are_no_pages_of_text_are_plain_as_they_are() -> None:
    for task in ("ground", "ask"):
        assert page_of(result("# **as it is**"), task).plain_text == "# **as it is**"
    assert page_of(result("# **as it is**"), "text").plain_text == "as it is"


def test_headers_and_footers_can_be_left_out() -> None:
    cells = [{"bbox": [1, 2, 3, 4], "category": name, "text": name} for name in ("Page-header", "Text", "Page-footer")]
    page = page_of(result(json.dumps(cells)), "layout")
    assert page.to_markdown(header_footer=False) == page.to_plain_text(header_footer=False) == "Text"
    record = page.record(header_footer=False)
    assert (record["md"], len(record["cells"])) == ("Text", 3)


@pytest.mark.parametrize("reason", [FinishReason.LENGTH, FinishReason.LOOP])
def test_a_cut_text_is_partial(reason: FinishReason) -> None:
    page = page_of(result("Some", reason))
    assert (page.status, page.finish_reason) == ("partial", str(reason))


def test_sizes_are_those_that_viewers_show() -> None:
    page = page_of(result("x", orientation=6))
    assert (page.width, page.height, page.input_width, page.input_height) == (280, 560, 280, 560)


def test_the_record_has_the_documented_keys_and_is_json() -> None:
    record = json.loads(json.dumps(page_of(result(json.dumps(CELLS)), "layout").record()))
    keys = "schema path page num_pages status width height input_width input_height quality "
    keys += "resolution_loss cells md raw repaired "
    keys += "finish_reason tokens timing_ms model encoder decoder task attempt reread warning hint error"
    assert " ".join(record) == keys
    assert record["schema"] == "dotsctl/1"
    assert (record["path"], record["page"], record["num_pages"]) == ("scans/a.png", 2, 3)
    assert record["cells"][0] == {"bbox": [10, 20, 110, 40], "category": "Title", "text": "# A title"}
    assert record["tokens"] == {"image": 200, "prompt": 210, "completion": 7}
    assert record["model"] == {"name": "demo", "digest": "f" * 64}
    assert (record["quality"], record["resolution_loss"]) == ("full", 0.0)
    assert (record["encoder"], record["decoder"], record["attempt"], record["error"]) == ("mlx", "fake", 2, None)


def test_the_record_reports_the_quality_and_the_greatest_loss_of_all_images() -> None:
    geometry = PageGeometry((560, 280), 1, (280, 140), (0.5, 0.5), (0.0, 0.0))
    geometries = tuple(replace(geometry, resolution_loss=loss) for loss in (0.0, 0.25, 0.125))
    read = replace(result("text"), geometries=geometries)
    origin = PageInput("a.png", Path("a.png"))
    page = Page.from_result(origin, read, model="demo", fingerprint="f", task="text", quality=Quality.FAST)
    assert (page.record()["quality"], page.record()["resolution_loss"]) == ("fast", 0.25)


def test_a_failed_page_states_why() -> None:
    page = Page.from_failure(
        PageInput("a.png", None),
        Failure.of(PageError("the file is empty", "scan it again")),
        model="demo",
        fingerprint="",
        task="text",
    )
    assert page.status == "failed"
    assert page.record()["error"] == {"code": "E_BAD_IMAGE", "problem": "the file is empty", "remedy": "scan it again"}
    assert (page.record()["width"], page.markdown) == (None, "")
    assert (page.record()["quality"], page.record()["resolution_loss"]) == (None, None)


def test_a_layout_answer_becomes_cells_and_markdown() -> None:
    page = page_of(result(json.dumps(CELLS)), "layout")
    assert [cell.category for cell in page.cells] == ["Title", "Formula", "Picture", "Text"]
    assert page.markdown == '# A title\n\n$$\nE = mc^2\n$$\n\nQuoted "words" and a \\backslash.'
    assert page.plain_text.startswith("A title\n\nE = mc^2\n\n")
    assert (page.status, page.repaired) == ("ok", ())


def test_a_formula_that_has_marks_within_keeps_them() -> None:
    assert Cell(None, "Formula", " where $x$ is 1 ").markdown == "where $x$ is 1"


def test_prose_instead_of_cells_is_kept_as_it_is() -> None:
    page = page_of(result("This page is blank."), "layout")
    assert (page.cells, page.markdown) == ((), "This page is blank.")


@pytest.mark.parametrize(
    ("answer", "num_cells", "repair"),
    [
        (json.dumps(CELLS)[:-1], 4, "the closing bracket is missing"),
        (json.dumps(CELLS)[:-8], 4, "cell 4: the answer is cut off here"),
        (json.dumps(CELLS)[: json.dumps(CELLS).rindex("270") + 2], 3, "cell 4: the answer is cut off here"),
        ("```json\n" + json.dumps(CELLS) + "\n```", 4, ""),
        ("Here is the layout: " + json.dumps(CELLS), 4, ""),
        (json.dumps(CELLS[0]), 1, ""),
        (json.dumps(CELLS).replace("}, {", "}{"), 4, ""),
        (json.dumps(CELLS, indent=2), 4, ""),
        ('[{"bbox": [1, 2, 3, 4], "category": "Formula", "text": "\\alpha \\\\beta \\n"}]', 1, "backslashes"),
        ('[{"bbox": [1, 2, 3, 4], "category": "Text", "text": "two\nlines"}]', 1, ""),
        ('[{"bbox": [1, 2, 3], "category": "Text", "text": "three sides"}]', 1, "no usable box"),
        ('[{"bbox": [1, 2, NaN, 4], "category": "Text", "text": "no number"}]', 1, "no usable box"),
        (
            '[{"bbox": [1, 2, 3, 4], "text": "a "b" c"}, {"bbox": [1, 2, 3, 4], "text": "kept"}]',
            2,
            "cell 1: broken JSON",
        ),
        ('[{"bbox": [1, 2, 3, 4', 0, "cell 1: the answer is cut off here"),
    ],
)
def test_a_damaged_answer_costs_as_little_as_possible(answer: str, num_cells: int, repair: str) -> None:
    cells, repairs = parse_cells(answer, SAME_SIZE)
    assert len(cells) == num_cells
    assert any(repair in note for note in repairs) if repair else repairs == ()


def test_an_unknown_escape_is_read_as_it_was_meant() -> None:
    cells, _ = parse_cells('[{"bbox": [1, 2, 3, 4], "text": "\\alpha and \\\\beta"}]', SAME_SIZE)
    assert cells[0].text == "\\alpha and \\beta"


def test_half_a_character_does_not_reach_a_file() -> None:
    cells, _ = parse_cells('[{"bbox": [1, 2, 3, 4], "text": "a\\ud800b"}]', SAME_SIZE)
    assert cells[0].text == "a?b"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (json.dumps(CELLS)[:-1], "ok"),  # dots.ocr with some versions of transformers ends so
        (json.dumps(CELLS)[:-1] + "\n", "ok"),
        (r'[{"bbox": [1, 2, 3, 4], "text": "$\alpha$"}]', "ok"),
        ('[{"bbox": ["1", "2", "3", "4"], "text": "a"}]', "ok"),
        ('[{"bbox": [1, 2, 3, 4], "text": "a "b" c"}]', "ok"),
        ('[{"bbox": [1, 2, 3], "text": "a"}]', "partial"),
        (json.dumps(CELLS)[:-8], "partial"),
    ],
)
def test_only_a_loss_makes_a_page_partial_that_ended_by_itself(answer: str, status: str) -> None:
    assert page_of(result(answer), "layout").status == status


def test_a_blank_page_with_text_in_its_document_is_partial_and_states_why() -> None:
    facts: dict[str, Any] = {"model": "m", "fingerprint": "f", "task": "text"}
    blank = result("", FinishReason.BLANK)
    page = Page.from_result(PageInput("a.pdf", None, text_finder=lambda: True), blank, **facts)
    assert (page.status, page.repaired) == ("partial", (Repair.MISSING_FONTS,))
    assert Page.from_result(PageInput("a.pdf", None, text_finder=lambda: False), blank, **facts).status == "blank"
    assert Page.from_result(PageInput("a.png", None), blank, **facts).status == "blank"


def test_an_answer_cut_before_its_first_cell_leaves_no_json_in_the_text() -> None:
    page = page_of(result('[{"bbox": [8, 8, '), "layout")
    assert page.markdown == "<!-- page 2: the answer was cut off before the first element -->"
    assert page.plain_text == ""
    assert page_of(result("```json\n[{"), "layout").markdown.startswith("<!-- ")
    assert page_of(result("words of another kind"), "layout").markdown == "words of another kind"


def test_a_deeply_nested_answer_is_given_up_without_harm() -> None:
    cells, repairs = parse_cells('[{"bbox": ' + "[" * 100_000, SAME_SIZE)
    assert cells == ()
    assert repairs == ("cell 1: the answer is cut off here",)


sides = st.integers(60, 4000)


@settings(max_examples=100)
@given(sides, sides, st.integers(1, 8), st.tuples(*[st.floats(0, 1)] * 4))
def test_a_box_comes_back_to_where_it_was_on_the_page(
    width: int, height: int, orientation: int, shares: tuple[float, float, float, float]
) -> None:
    geometry = fit((width, height), orientation, PixelLimits())
    shown = geometry.oriented
    x0, x1 = sorted(round(share * shown[0]) for share in shares[:2])
    y0, y1 = sorted(round(share * shown[1]) for share in shares[2:])
    (sx, sy), box = geometry.scale, (x0, y0, x1, y1)
    seen = [x0 * sx, y0 * sy, x1 * sx, y1 * sy]
    cells, repairs = parse_cells(json.dumps([{"bbox": seen, "category": "Text", "text": ""}]), geometry)
    assert (cells[0].bbox, repairs) == (box, ())


@settings(max_examples=200)
@given(st.integers(0, len(json.dumps(CELLS))))
def test_wherever_an_answer_is_cut_the_cells_before_are_kept(length: int) -> None:
    answer = json.dumps(CELLS)
    cells, _ = parse_cells(answer[:length], SAME_SIZE)
    complete = sum(1 for cell in CELLS if answer.index(json.dumps(cell)) + len(json.dumps(cell)) <= length)
    assert [cell.category for cell in cells[:complete]] == [cell["category"] for cell in CELLS[:complete]]


@settings(max_examples=200)
@given(st.text(alphabet='[]{}":,\\bboxcategorytext 0123456789.-eE', max_size=80))
def test_no_answer_at_all_raises(answer: str) -> None:
    parse_cells('[{"bbox":' + answer, SAME_SIZE)
