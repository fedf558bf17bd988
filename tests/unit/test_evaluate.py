"""The error rate over rendered pages, and the pages themselves."""

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from click.testing import CliRunner
from dotsctl.protocol.errors import DotsctlError
from dotsctl.tools import evaluate as tool
from dotsctl.tools.demo_pages import CURRICULUM, FACES, NOTHING, RenderedPage, render_page
from dotsctl.tools.evaluate import Evaluation, Score, edit_distance, evaluate, normal, record, rendered_pages, table
from PIL import Image

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytest.importorskip("rapidfuzz", reason="rapidfuzz is not installed")


@dataclass(frozen=True)
class Read:
    """What a client answers about one page."""

    index: int
    text: str
    error: str | None = None


def page(text: str, face: str = "DejaVuSans") -> RenderedPage:
    return RenderedPage(Image.new("RGB", (28, 28)), text, np.zeros((1, 1, 4), np.int64), face)


def reader(*answers: Read) -> tool.Read:
    def read(images: Iterable[Image.Image]) -> Iterator[Read]:
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
    pages = [page("a" * 10), page("b" * 90, "DejaVuSerif"), page("", "")]
    result = evaluate(reader(Read(1, "b" * 81), Read(0, "a" * 10), Read(2, "x")), pages)
    assert (result.total.edits, result.total.characters, result.total.exact) == (10, 100, 1)
    assert result.total.error_rate == 0.1
    assert result.faces["DejaVuSerif"].error_rate == 0.1
    assert result.faces["DejaVuSans"] == Score(pages=1, characters=10, edits=0, exact=1, failed=0)
    assert result.faces["(no text)"].error_rate == float("inf")


def test_a_failed_page_counts_as_one_of_which_nothing_was_read() -> None:
    result = evaluate(reader(Read(0, "half", error="E_POISON")), [page("half a page")])
    assert (result.total.edits, result.total.failed, result.total.exact) == (11, 1, 0)


def test_a_failed_page_without_text_is_not_an_exact_one() -> None:
    assert evaluate(reader(Read(0, "", error="E_STALL")), [page("")]).total.exact == 0


@pytest.mark.parametrize("answers", [[Read(0, "a")], [Read(0, "a"), Read(0, "a")], [Read(0, "a")] * 3])
def test_lost_or_doubled_pages_are_an_error(answers: list[Read]) -> None:
    with pytest.raises(DotsctlError, match="answers to 2 pages"):
        evaluate(reader(*answers), [page("a"), page("a")])


def test_the_table_lists_faces_from_worst_to_best_and_then_all() -> None:
    result = evaluate(reader(Read(0, "aaaa"), Read(1, "bb")), [page("aaaa", "Good"), page("bbbb", "Bad")])
    heads = [line.split()[0] for line in table(result).splitlines()]
    assert heads == ["face", "Bad", "Good", "all", "4"]
    assert "25.00%" in table(result).splitlines()[3]


def test_the_record_is_json_even_where_the_rate_is_infinite() -> None:
    result = evaluate(reader(Read(0, "ghost")), [page("", "")])
    found = json.loads(json.dumps(record(result, model="demo"), allow_nan=False))
    assert (found["model"], found["error_rate"], found["edits"]) == ("demo", None, 5)
    assert found["faces"]["(no text)"]["pages"] == 1


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str, edits: int = 9, failed: int = 0) -> tuple[int, str]:
    score = Score(pages=2, characters=100, edits=edits, failed=failed)
    evaluation = Evaluation(score, {"DejaVuSans": score}, 1.0)
    monkeypatch.setattr(tool, "run", lambda *_: (evaluation, {"model": "demo"}))
    outcome = CliRunner().invoke(tool.main, ["--pages", "5", "--min-characters", "10", *arguments])
    return outcome.exit_code, outcome.output


@pytest.mark.parametrize(
    ("arguments", "edits", "failed", "code"),
    [([], 99, 1, 0), (["--limit", "0.09"], 9, 0, 0), (["--limit", "0.08"], 9, 0, 1), (["--limit", "0.5"], 9, 1, 1)],
)
def test_the_exit_code_says_whether_the_limit_was_kept(
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
    first, second = list(rendered_pages(6, 50)), list(rendered_pages(3, 53))
    assert [p.text for p in first[3:]] == [p.text for p in second]
    assert len({p.text for p in first}) > 4


def test_pages_have_the_announced_length_on_average() -> None:
    pages = list(rendered_pages(100, 1_000_000))
    assert 90 <= sum(len(normal(page.text)) for page in pages) / len(pages) <= 140
    assert {page.face for page in pages if page.text} <= set(FACES)
    assert all(page.image.width <= 11 * 28 + 10 and page.image.height <= 8 * 28 + 10 for page in pages)


def test_rendered_text_stands_where_its_cells_say() -> None:
    pages = [render_page(random.Random(seed), CURRICULUM[2], 4, 8) for seed in range(8)]
    assert sum(bool(page.text) for page in pages) >= 6
    for page in pages:
        assert bool(page.text) == bool(page.face) == bool((page.cells != NOTHING).any())
        ink = np.asarray(page.image.resize((8 * 28, 4 * 28)).convert("L")) < 200
        for row, column in np.argwhere(page.cells[:, :, 0] != NOTHING):
            around = ink[28 * row : 28 * row + 28, max(0, 28 * column - 14) : 28 * column + 42]
            assert around.any()
