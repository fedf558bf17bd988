"""The error rate over pages whose content is known, the overlap of boxes, and the pages themselves."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner
from dotsctl.client.results.cells import Cell
from dotsctl.protocol.errors import DotsctlError, UsageError
from dotsctl.tools.dev.evaluate import main as tool
from dotsctl.tools.dev.evaluate.evaluation import Evaluation, Read, evaluate, record
from dotsctl.tools.dev.evaluate.report import worst, write_report
from dotsctl.tools.dev.evaluate.tables import table
from dotsctl.tools.measuring.made_by import MadeBy
from dotsctl.tools.measuring.scores import Box, BoxScore, Score, edit_distance, overlap, pairs
from dotsctl.tools.pages.elements import Element
from dotsctl.tools.pages.fonts import EVERYWHERE
from dotsctl.tools.pages.truths import Truth, folder_pages, generated_pages, omnidocbench_pages, printed_pages
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytest.importorskip("rapidfuzz", reason="rapidfuzz is not installed")


@dataclass(frozen=True)
class Page:
    """What a client answers about one page."""

    index: int
    text: str
    error: str | None = None
    cells: Sequence[Cell] = ()
    finish_reason: str | None = "stop"
    tokens: Mapping[str, int] = field(default_factory=lambda: {"image": 4, "prompt": 10, "completion": 5})

    @property
    def markdown(self) -> str:
        return "\n\n".join(cell.text for cell in self.cells) if self.cells else self.text

    @property
    def plain_text(self) -> str:
        return self.markdown.replace("*", "")


def page(text: str, group: str = "DejaVuSans") -> Truth:
    return Truth("page", Image.new("RGB", (28, 28)), text, group)


def reader(*answers: Page) -> Read:
    def read(images: Iterable[Image.Image | Path]) -> Iterator[Page]:
        assert len(list(images)) > 0
        yield from answers

    return read


@pytest.mark.parametrize(
    ("truth", "answer", "edits"),
    [
        ("two words", "two words", 0),
        ("two\nwords", " two   words \n", 0),
        ("two words", "twowords", 1),
        ("two words", "two wards", 1),
        ("two words", "", 9),
        ("", "ghost", 5),
        ("é", "e", 1),
    ],
)
def test_edits_are_counted_with_runs_of_blanks_as_one(truth: str, answer: str, edits: int) -> None:
    assert edit_distance(truth, answer) == edits


def test_the_error_rate_is_the_sum_of_edits_over_the_sum_of_characters() -> None:
    pages = [page("a" * 10), page("b" * 90, "DejaVuSerif"), page("", "(no text)")]
    result = evaluate(reader(Page(1, "b" * 81), Page(0, "a" * 10), Page(2, "x")), pages)
    assert (result.total.edits, result.total.characters, result.total.exact) == (10, 100, 1)
    assert result.total.error_rate == 0.1
    assert result.groups["DejaVuSerif"].error_rate == 0.1
    assert result.groups["DejaVuSans"] == Score(pages=1, characters=10, edits=0, exact=1, failed=0)
    assert result.groups["(no text)"].error_rate == float("inf")


def test_a_failed_page_counts_as_one_of_which_nothing_was_read() -> None:
    result = evaluate(reader(Page(0, "half", error="E_POISON")), [page("half a page")])
    assert (result.total.edits, result.total.failed, result.total.exact) == (11, 1, 0)


def test_a_failed_page_without_text_is_not_an_exact_one() -> None:
    assert evaluate(reader(Page(0, "", error="E_STALL")), [page("")]).total.exact == 0


@pytest.mark.parametrize("answers", [[Page(0, "a")], [Page(0, "a"), Page(0, "a")], [Page(0, "a")] * 3])
def test_lost_or_doubled_pages_are_an_error(answers: list[Read]) -> None:
    with pytest.raises(DotsctlError, match="answers to 2 pages"):
        evaluate(reader(*answers), [page("a"), page("a")])


def test_the_table_lists_faces_from_worst_to_best_and_then_all() -> None:
    result = evaluate(reader(Page(0, "aaaa"), Page(1, "bb")), [page("aaaa", "Good"), page("bbbb", "Bad")])
    heads = [line.split()[0] for line in table(result).splitlines()]
    assert heads == ["group", "Bad", "Good", "all", "4"]
    assert "25.00%" in table(result).splitlines()[3]


def test_the_record_is_json_even_where_the_rate_is_infinite() -> None:
    result = evaluate(reader(Page(0, "ghost")), [page("", "(no text)")])
    found = json.loads(json.dumps(record(result, model="demo"), allow_nan=False))
    assert (found["model"], found["error_rate"], found["edits"]) == ("demo", None, 5)
    assert found["groups"]["(no text)"]["pages"] == 1


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str, edits: int = 9, failed: int = 0) -> tuple[int, str]:
    score = Score(pages=2, characters=100, edits=edits, failed=failed)
    evaluation = Evaluation("text", score, {"DejaVuSans": score}, seconds=1.0)
    monkeypatch.setattr(tool, "run", lambda *_, **__: (evaluation, {"model": "demo"}))
    outcome = CliRunner().invoke(tool.main, ["--pages", "5", "--min-characters", "10", *arguments])
    return outcome.exit_code, outcome.output


@pytest.mark.parametrize(
    ("arguments", "edits", "failed", "code"),
    [([], 99, 1, 0), (["--limit", "0.09"], 9, 0, 0), (["--limit", "0.08"], 9, 0, 1), (["--limit", "0.5"], 9, 1, 1)],
)
def test_the_exit_code_depends_on_the_limit(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], edits: int, failed: int, code: int
) -> None:
    assert run(monkeypatch, *arguments, edits=edits, failed=failed)[0] == code


def test_pages_with_too_few_characters_are_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = run(monkeypatch, "--min-characters", "1000")
    assert code == 2
    assert "characters on average, not 1000" in output


def test_json_goes_to_the_output_with_what_it_ran_with(monkeypatch: pytest.MonkeyPatch) -> None:
    found = json.loads(run(monkeypatch, "--json")[1])
    assert (found["model"], found["seed"], found["error_rate"]) == ("demo", 1_000_000, 0.09)


def test_a_page_depends_on_its_seed_alone() -> None:
    first, second = list(printed_pages(6, 51)), list(printed_pages(3, 54))
    assert [p.text for p in first[3:]] == [p.text for p in second]
    assert len({p.text for p in first}) > 4
    assert {page.group for page in first if page.text} <= set(EVERYWHERE)
    assert all(isinstance(page.image, Image.Image) and page.image.width <= 344 for page in first)


def test_type_of_another_size_is_drawn_on_request() -> None:
    lengths = []
    for type_px in (16, 32):
        pages = generated_pages(12, 0, "full", EVERYWHERE, noise=0.0, type_px=type_px)
        lengths.append(sum(len(page.text) for page in pages))
    assert lengths[0] > 2 * lengths[1]


A, B = (0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 10.0, 20.0)
sides = st.integers(0, 50)
boxes = st.tuples(sides, sides, st.integers(1, 50), st.integers(1, 50)).map(
    lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3]))
)


def test_overlap_is_shared_over_covered_area() -> None:
    assert overlap(A, B) == 0.5
    assert overlap(A, (10.0, 0.0, 20.0, 10.0)) == 0.0
    assert overlap(A, (5.0, 5.0, 5.0, 9.0)) == 0.0


@settings(max_examples=50, deadline=None)
@given(boxes, boxes)
def test_overlap_is_symmetric_and_one_for_the_same_box_alone(first: Box, second: Box) -> None:
    assert overlap(first, second) == overlap(second, first)
    assert (overlap(first, second) == 1.0) == (first == second)


def test_each_element_is_paired_once_and_with_its_own_category() -> None:
    assert pairs([("Text", A), ("Text", B)], [("Text", A), ("Text", A), ("Title", B)]) == [(0, 0, 1.0), (1, 1, 0.5)]
    assert pairs([("Text", A)], [("Title", A)]) == []


def layout_truth(*elements: Element) -> Truth:
    return Truth("layout", Image.new("RGB", (60, 60), (255, 255, 255)), "", "DejaVuSans", elements)


def answered(*cells: tuple[str, tuple[int, int, int, int], str]) -> Page:
    found = tuple(Cell(box, category, text) for category, box, text in cells)
    entries = [{"bbox": list(box), "category": category, "text": text} for category, box, text in cells]
    return Page(0, json.dumps(entries), cells=found)


def test_boxes_and_the_text_inside_them_are_scored_by_category() -> None:
    truth = layout_truth(
        Element(A, "Title", "# One", "One"), Element((0, 20, 10, 40), "Text", "two words", "two words")
    )
    answer = answered(("Title", (0, 0, 10, 10), "# One"), ("Text", (0, 20, 10, 52), "two word"), ("Text", A, "x"))
    result = evaluate(reader(answer), [truth], "layout")
    assert result.boxes["Title"] == BoxScore(true=1, answered=1, loose=1, strict=1, overlap=1.0)
    assert result.boxes["Text"] == BoxScore(true=1, answered=2, loose=1, strict=0, overlap=0.625)
    assert result.all_boxes.f1(strict=True) == 2 / 5
    assert (result.matched.pages, result.matched.edits) == (1, 0)
    assert result.json_share == 1.0
    assert "F1 at 0.7" in table(result) and "100.0% of 1 answers are JSON" in table(result)
    assert json.loads(json.dumps(record(result)))["categories"]["Text"]["mean_overlap"] == 0.625


def test_an_answer_that_is_no_list_counts_against_json_and_a_blank_page_does_not() -> None:
    pages = [layout_truth(Element(A, "Text", "a", "a"))] * 3 + [layout_truth()]
    answers = [Page(0, '[{"bbox": [0, 0'), Page(1, "{}"), Page(2, "[]"), Page(3, "", finish_reason="blank")]
    result = evaluate(reader(*answers), pages, "layout")
    assert (result.answers, result.valid_json, result.json_share) == (3, 1, 1 / 3)
    assert result.boxes["Text"].f1(strict=False) == 0.0


def test_the_exit_code_depends_on_the_share_of_json(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation = Evaluation("layout", Score(1, 10), answers=10, valid_json=8)
    monkeypatch.setattr(tool, "run", lambda *_, **__: (evaluation, {}))
    for least, code in (("0.8", 0), ("0.85", 1)):
        outcome = CliRunner().invoke(tool.main, ["--pages", "2", "--min-json", least])
        assert outcome.exit_code == code, outcome.output
    assert "80.0% of the answers are JSON, 85.0% are required" in outcome.output


def test_the_report_shows_the_worst_pages_first_and_no_perfect_one(tmp_path: Path) -> None:
    pages = [page("good page"), page("<bad> page"), page("cut page")]
    answers = [Page(0, "good page"), Page(1, "<bud> paga"), Page(2, "cut page", finish_reason="length")]
    result = evaluate(reader(*answers), pages)
    assert [reading.answer for reading in worst(result)] == ["cut page", "<bud> paga"]
    write_report(tmp_path / "new", result, record(result, model="demo"), MadeBy.now())
    written = (tmp_path / "new" / "index.html").read_text()
    assert "<del>&lt;bad&gt; page</del> <ins>&lt;bud&gt; paga</ins>" in written
    assert "ended by length" in written and "good page" not in written
    assert json.loads((tmp_path / "new" / "evaluation.json").read_text())["edits"] == 2


def test_the_report_of_a_layout_shows_true_and_answered_boxes(tmp_path: Path) -> None:
    truth = layout_truth(Element((2, 2, 20, 20), "Text", "a", "a"))
    result = evaluate(reader(answered(("Text", (30, 30, 50, 50), "b"))), [truth], "layout")
    write_report(tmp_path, result, record(result), MadeBy.now())
    assert "data:image/png;base64," in (tmp_path / "index.html").read_text()
    assert result.readings[0].cells == (("Text", (30.0, 30.0, 50.0, 50.0)),)


def test_generated_pages_take_the_families_in_turn() -> None:
    found = list(generated_pages(6, 10, "full", ("dejavu-serif", "dejavu-sans"), 0.0))
    assert {truth.group for truth in found[::2]} <= {"dejavu-serif", "(no text)"}
    assert {truth.group for truth in found[1::2]} <= {"dejavu-sans", "(no text)"}
    assert all(truth.elements is not None for truth in found)


def test_a_folder_holds_pictures_with_texts_of_the_same_names(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no picture"):
        list(folder_pages(tmp_path))
    Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"write a\.md or a\.txt"):
        list(folder_pages(tmp_path))
    (tmp_path / "a.md").write_text("# A")
    (truth,) = folder_pages(tmp_path)
    assert (truth.name, truth.text, truth.markdown, truth.elements) == ("a.png", "# A", "# A", None)


def test_a_page_with_a_text_file_is_compared_as_plain_text_and_one_with_markdown_as_markdown(tmp_path: Path) -> None:
    Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
    for name, edits in (("a.txt", 0), ("a.md", 4)):
        (tmp_path / name).write_text("bold")
        outcome = evaluate(reader(Page(0, "**bold**")), folder_pages(tmp_path))
        assert outcome.total.edits == edits


def test_annotations_in_the_form_of_omnidocbench_are_understood(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (30, 30)).save(tmp_path / "images" / "p.png")
    entries = [
        {"category_type": "text_block", "poly": [0, 9, 9, 9, 9, 12, 0, 12], "order": 2, "text": "body"},
        {"category_type": "title", "poly": [0, 0, 9, 0, 9, 5, 0, 5], "order": 1, "text": "Head"},
        {"category_type": "header", "poly": [0, 0, 9, 0, 9, 1, 0, 1], "order": None, "text": "running"},
        {"category_type": "text_block", "poly": [0, 0, 1, 0, 1, 1, 0, 1], "order": 3, "text": "no", "ignore": True},
        {"category_type": "abandon", "poly": [0, 0, 1, 0, 1, 1, 0, 1], "order": 4, "text": "no"},
    ]
    about = {"image_path": "p.png", "page_attribute": {"data_source": "book"}}
    file = tmp_path / "pages.json"
    file.write_text(json.dumps([{"layout_dets": entries, "page_info": about}]))
    (truth,) = omnidocbench_pages(file)
    assert truth.elements is not None
    assert [e.category for e in truth.elements] == ["Section-header", "Text", "Page-header"]
    assert (truth.group, truth.text) == ("book", "Head\n\nbody")
    assert truth.elements[1].box == (0, 9, 9, 12)
    result = evaluate(reader(answered(("Title", (0, 0, 9, 5), "Head"))), [truth], "layout")
    assert result.boxes["Section-header"].strict == 1
    file.write_text('[{"pages": []}]')
    with pytest.raises(UsageError, match="no annotation file of OmniDocBench"):
        list(omnidocbench_pages(file))
