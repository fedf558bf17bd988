"""``dotsctl compare`` with the two fakes, and what it makes of numbers and texts."""

import json
import math
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from dotsctl.client.results.page import Failure, Page
from dotsctl.decoder_worker.plugins.fake import FakeDecoder
from dotsctl.protocol.errors import CommandFailedError, ExitCode, MissingError, NoInputError, OutputError, UsageError
from dotsctl.tools.compare import main as compare
from dotsctl.tools.compare.comparison import EncoderComparison, PageRow, Version
from dotsctl.tools.measuring.distance import Distance
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("rapidfuzz")

from dotsctl.tools.compare.html import marked

Run = Callable[..., ExitCode]


@pytest.fixture
def run(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``dotsctl compare`` in this process, with fakes; temporary files go into ``scratch``."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    monkeypatch.chdir(tmp_path)
    defaults: dict[str, Any] = dict.fromkeys(("model", "task", "max_pixels", "pages", "password", "output"))
    defaults |= {"decoder": "fake", "dpi": 72, "as_json": False}

    def start(*inputs: str, encoders: tuple[str, ...] = ("fake", "fake"), **options: Any) -> ExitCode:
        return compare.run(inputs=inputs, encoders=encoders, **defaults | options)

    return start


def save(name: str, colour: int = 0) -> bytes:
    Image.new("RGB", (40, 30), (colour, 0, 0)).save(name)
    return Path(name).read_bytes()


def test_two_equal_encoders_differ_in_nothing(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save("a.png", 1), save("b.png", 2)
    assert run("a.png", "b.png", as_json=True) == ExitCode.OK
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["task"], found["encoders"]) == ("dotsctl-compare/1", "text", ["fake", "fake"])
    assert [page["path"] for page in found["pages"]] == ["a.png", "b.png"]
    for page in found["pages"]:
        ours, reference = page["encoders"]
        assert (ours["relative_error"], ours["error_rate"], ours["grid"]) == (0, 0, [2, 8])
        assert ours["cosine_min"] == pytest.approx(1)
        assert ours["md"] == reference["md"] != ""
        assert ours["ms"] > 0 and ours["timing_ms"]["encode"] > 0
        assert reference["cosine_min"] is None and reference["error_rate"] is None
    assert found["medians"][0]["same_texts"] == found["medians"][0]["texts"] == 2
    assert not list((tmp_path / "scratch").iterdir())


def test_a_page_that_fails_in_one_encoder_is_a_row_with_the_error(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    save("a.png", 1), save("b.png", 2)
    assert run("a.png", "b.png", encoders=("fake:fault=raise", "fake")) == ExitCode.SOME_FAILED
    shown = capsys.readouterr().out
    assert shown.count("failed: encoder fake:fault=raise raised ZeroDivisionError: encoder fake is set to raise") == 2
    assert "2 failed" in shown
    assert run("a.png", "b.png", encoders=("fake", "fake:fault=refuse"), as_json=True) == ExitCode.SOME_FAILED
    for page in json.loads(capsys.readouterr().out)["pages"]:
        ours, reference = page["encoders"]
        assert reference["error"] == {
            "code": "E_BAD_IMAGE",
            "problem": "encoder fake is set to refuse this page",
            "remedy": "",
        }
        assert ours["md"] and (ours["error_rate"], ours["cosine_min"], ours["error"]) == (None, None, None)


def test_a_file_that_is_no_page_fails_alone(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    save("a.png", 1), Path("b.png").write_text("words")
    assert run("a.png", "b.png") == ExitCode.SOME_FAILED
    assert capsys.readouterr().out.count("failed: this file holds text") == 2


def test_without_a_readable_page_nothing_is_loaded(run: Run) -> None:
    with pytest.raises(NoInputError, match=r"none of 2 pages.*\na.png:1: there is no such file"):
        run("a.png", "b.png", encoders=("fake:load_fault=refuse", "fake"))


def test_an_encoder_that_fails_in_everything_readable_is_no_unreadable_input(run: Run) -> None:
    save("a.png", 1)
    assert run("a.png", encoders=("fake:fault=no-memory", "fake:fault=raise")) == ExitCode.SOME_FAILED


def test_another_grid_that_the_reference_cannot_take_is_reported_and_only_texts_are_compared(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    save("a.png", 1)
    assert run("a.png", encoders=("fake", "fake:embed_mib=0.0625"), as_json=True) == ExitCode.OK
    ((ours, reference),) = [page["encoders"] for page in json.loads(capsys.readouterr().out)["pages"]]
    assert (ours["grid"], reference["grid"]) == ([2, 8], [2, 32])
    assert ours["note"].startswith("2x8 patches, the reference alone 2x32, and 2x32 of the other's pixels: ")
    assert (ours["cosine_min"], ours["error_rate"]) == (None, 0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"encoders": ("fake",)}, UsageError, "at least two encoders, the reference last"),
        ({"encoders": ("fake", "unheard"), "model": "demo"}, UsageError, "no plugin 'unheard'"),
        ({"encoders": ("fake:odd=1", "fake")}, UsageError, "has no option 'odd'"),
        ({"decoder": "fake:odd=1"}, UsageError, "has no option 'odd'"),
        ({"task": "sing"}, UsageError, "unknown task 'sing'; fake knows: text, layout"),
        ({"encoders": ("fake", "fake:load_fault=refuse")}, MissingError, "set to miss something"),
        ({"dpi": 5}, UsageError, "5 dpi"),
    ],
)
def test_what_cannot_be_compared_is_refused_and_leaves_nothing(
    run: Run, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    save("a.png")
    with pytest.raises(error, match=message):
        run("a.png", output="report.html", **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "scratch"]
    assert not list((tmp_path / "scratch").iterdir())


def test_encoders_or_a_decoder_of_different_models_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    save("a.png")
    digests = iter(["one", "two", "three", "three"])
    monkeypatch.setattr("dotsctl.encoder_worker.plugins.fake.fake_fingerprint", lambda *_: next(digests))
    with pytest.raises(CommandFailedError, match=r"fake one, fake two|different models"):
        run("a.png", encoders=("fake", "fake:encode_ms=1"))
    with pytest.raises(CommandFailedError, match="decoder fake has loaded another model"):
        run("a.png", encoders=("fake", "fake:encode_ms=1"))


def test_a_report_replaces_a_file_only_with_overwrite_and_never_an_input(run: Run) -> None:
    content = save("a.png")
    Path("report.html").write_text("notes by hand")
    with pytest.raises(UsageError, match=r"report\.html exists, and it was edited or not written by dotsctl"):
        run("a.png", output="report.html", encoders=("fake:load_fault=refuse", "fake"))
    assert Path("report.html").read_text() == "notes by hand"
    assert run("a.png", output="report.html", overwrite=True) == ExitCode.OK
    assert Path("report.html").read_text().endswith("</html>\n")
    with pytest.raises(UsageError, match="is an input and would be lost"):
        run("a.png", output="a.png", overwrite=True)
    assert Path("a.png").read_bytes() == content


def test_a_report_that_cannot_be_written_is_an_error_before_anything_is_loaded(run: Run) -> None:
    save("a.png")
    with pytest.raises(OutputError, match=r"a\.png"):
        run("a.png", output="a.png/report.html", encoders=("fake:load_fault=refuse", "fake"))


def test_the_report_shows_every_page_and_runs_nothing_that_came_with_a_name_or_a_text(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dotsctl.decoder_worker.plugins.fake.fake_pieces", lambda *_: ["<script>x</script>"] * 8)
    name = "<img src=x onerror=y>.png"
    save(name), save("b.png", 3), Path("c.png").write_bytes(b"")
    assert run(name, "b.png", "c.png", output="out/report.html") == ExitCode.SOME_FAILED
    report = Path("out/report.html").read_text()
    assert report.count("data:image/jpeg;base64,") == 2
    assert report.count("<script>") == 1 and "&lt;script&gt;x" in report  # the one that lights up boxes
    assert "<img src=x" not in report and "&lt;img src=x onerror=y&gt;.png, page 1 of 1" in report
    assert "c.png, page 1 of 1" in report and "E_BAD_IMAGE: the file is empty" in report
    assert report.endswith("</html>\n")


@settings(max_examples=40)
@given(*[st.text(alphabet="ab <&\n", max_size=12)] * 2)
def test_marks_show_both_texts(expected: str, found: str) -> None:
    html = marked(expected, found)
    assert "<" not in re.sub("</?(ins|del)>", "", html)
    without_new = re.sub(r"<ins>.*?</ins>", "", html, flags=re.DOTALL)
    without_lost = re.sub(r"<del>.*?</del>", "", html, flags=re.DOTALL)
    assert unescape(re.sub("</?del>", "", without_new)) == expected
    assert unescape(re.sub("</?ins>", "", without_lost)) == found


def version(name: str, text: str | None, ms: float, smallest: float | None = None) -> Version:
    failure = Failure("E_OOM", "too large") if text is None else None
    page = Page("a.png", None, 1, 1, "ok", text or "", task="text", error=failure)
    distance = None if smallest is None else Distance(1.0, smallest, 1 - smallest)
    return Version(name, page, (2, 2), ms, distance)


def test_medians_are_over_the_pages_that_have_a_number() -> None:
    rows = [
        PageRow([version("a", "four", 1, 0.9), version("b", "four", 10)]),
        PageRow([version("a", "f0ur", 3, 0.5), version("b", "four", 20)]),
        PageRow([version("a", "f00r", 5, 0.7), version("b", "four", 30)]),
        PageRow([version("a", None, 99), version("b", "four", 40)]),
    ]
    ours, reference = EncoderComparison({}, rows).medians()
    assert (ours.ms, ours.cosine_min, ours.failed) == (4, 0.7, 1)
    assert ours.relative_error == pytest.approx(0.3)
    assert (ours.error_rate, ours.same_texts, ours.texts) == (0.25, 1, 3)
    assert (reference.ms, reference.cosine_min, reference.error_rate, reference.failed) == (25, None, None, 0)


def test_a_text_where_the_reference_has_none_is_all_other_and_no_number_in_json() -> None:
    row = PageRow([version("a", "words", 1), version("b", "", 1)])
    assert row.error_rate(row.versions[0]) == math.inf
    assert "all" in EncoderComparison({}, [row]).table()
    assert row.record()["encoders"][0]["error_rate"] is None
    both = PageRow([version("a", "", 1), version("b", "", 1)])
    assert both.error_rate(both.versions[0]) == 0


def test_a_page_without_memory_for_its_text_fails_alone(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save("a.png", 1), save("b.png", 2)
    step, running = FakeDecoder.step, list[int]()

    def fail_first(self: FakeDecoder) -> Any:
        running.append(len(self._running))
        if len(running) == 1:
            raise MemoryError
        return step(self)

    monkeypatch.setattr(FakeDecoder, "step", fail_first)
    assert run("a.png", "b.png", as_json=True) == ExitCode.SOME_FAILED
    pages = json.loads(capsys.readouterr().out)["pages"]
    errors = [version["error"] and version["error"]["code"] for page in pages for version in page["encoders"]]
    assert errors == ["E_OOM", None, None, None]
    assert set(running) == {1}  # a page that failed is out of the way of the next
