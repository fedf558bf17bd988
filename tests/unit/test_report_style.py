"""Every report has one style: verdict, origin and legend come first, and nothing is wider than the window."""

import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from dotsctl.client.files.part_file import PartFile
from dotsctl.client.inputs.sources import expand
from dotsctl.client.results.page import Failure, Page
from dotsctl.protocol.machine.identity import Machine
from dotsctl.tools.bench import energy, pipeline
from dotsctl.tools.bench.energy import Energy
from dotsctl.tools.bench.pipeline import PipelineOutcome
from dotsctl.tools.compare.comparison import EncoderComparison, PageRow, Version
from dotsctl.tools.compare.html import write_html
from dotsctl.tools.compare.verdict import verdict, worst_first
from dotsctl.tools.dev import curves
from dotsctl.tools.dev.evaluate import report as evaluation_report
from dotsctl.tools.dev.evaluate.evaluation import EvaluatedPage, Evaluation, record
from dotsctl.tools.measuring.distance import Distance
from dotsctl.tools.measuring.made_by import MadeBy, processor_name
from dotsctl.tools.measuring.plots import new_figure, write_result
from dotsctl.tools.measuring.report_page import STYLE
from dotsctl.tools.measuring.report_text import LegendEntry, text_report
from dotsctl.tools.measuring.scores import BoxScore, Score
from dotsctl.tools.pages.truths import Truth
from PIL import Image

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytest.importorskip("rapidfuzz", reason="rapidfuzz is not installed")

VERSIONS = {"dotsctl": "9.1", "python": "3.12.1", "mlx": "0.30", "mlx-lm": "0.31", "coremltools": "9.0", "numpy": "2"}
MADE_BY = MadeBy("2031-05-06T07:08:09+00:00", Machine("Apple M9", "macOS 19.1", "29A1"), "Apple M9", 12, VERSIONS)
LONG = "a_name_without_any_blank_" * 12
NARROW_PX = 360
CHROMIUM = shutil.which("chromium")


def version(encoder: str, text: str | None, ms: float, *, source: str = "a.png", cosine: float = 1.0) -> Version:
    error = Failure("E_OOM", f"too large {LONG}") if text is None else None
    page = Page(source, None, 1, 1, "ok", text or "", task="text", error=error)
    return Version(encoder, page, (2, 2), None if error else ms, None if error else Distance(1.0, cosine, 1 - cosine))


def compared(*rows: tuple[str | None, str | None, float]) -> EncoderComparison:
    """A row for each text of the first encoder, text of the reference and smallest cosine."""
    about = {"model": {"name": "demo"}, "decoder": "mlx", "task": "text", "max_pixels": None}
    pages = [
        PageRow(
            [
                version("coreml", ours, 50, source=f"{n}.png", cosine=cosine),
                version("mlx", theirs, 100, source=f"{n}.png"),
            ]
        )
        for n, (ours, theirs, cosine) in enumerate(rows)
    ]
    return EncoderComparison(about | {"encoders": ["coreml", "mlx"]}, pages)


def comparison_page(folder: Path) -> str:
    for number in range(3):
        Image.new("RGB", (900, 300), "white").save(folder / f"{number}.png")
    inputs = [str(folder / f"{number}.png") for number in range(3)]
    pages = [page for document in expand(inputs, io.BytesIO()) for page in document.pages()]
    found = compared(("one", "one", 0.9), (LONG, "two", 0.8), (None, "three", 0.7))
    write_html(found, pages, PartFile(folder / "report.html"), MADE_BY)
    return (folder / "report.html").read_text("utf-8")


def evaluation_page(folder: Path) -> str:
    truth = Truth(LONG, Image.new("RGB", (900, 300), "white"), "expected", LONG)
    readings = [EvaluatedPage(truth, LONG, LONG, "expected", 8, (("Text", (1.0, 1.0, 9.0, 9.0)),), {}, "")]
    score, boxes = Score(1, 8, 8), BoxScore(1, 1, 1, 1, 0.9)
    found = Evaluation("layout", score, {LONG: score}, {"Text": boxes}, boxes, score, 1, 1, 1.0, readings)
    evaluation_report.write_report(folder, found, record(found, model="demo", encoder="coreml"), MADE_BY)
    return (folder / "index.html").read_text("utf-8")


def point(value: str, rate: float | None) -> dict[str, Any]:
    numbers = {"characters": 100, "edits": 10, "failed": 0, "seconds_a_page": 1.5, "operations_a_page": 2e9}
    return {"value": value, "error_rate": rate, **numbers}


def curves_page(folder: Path) -> str:
    write_result(folder / "encoder.png", new_figure(7, 4))
    return curves.page({"encoder": [point(LONG, 0.5), point("coreml", 0.25)]}, folder, {"model": "coreml"}, MADE_BY)


REPORTS: dict[str, Callable[[Path], str]] = {
    "compare": comparison_page,
    "evaluate": evaluation_page,
    "curves": curves_page,
}
every_report = pytest.mark.parametrize("make", REPORTS.values(), ids=REPORTS)


@every_report
def test_the_verdict_the_origin_and_a_legend_come_before_the_first_table(
    make: Callable[[Path], str], tmp_path: Path
) -> None:
    page = make(tmp_path)
    places = [page.index(part) for part in ('class="verdict"', 'id="made-by"', 'id="legend"', "<table>")]
    assert places == sorted(places)
    verdict_text = re.search(r'<p class="verdict">(.*?)</p>', page)
    assert verdict_text and re.search(r"\d.*\.$", unescape(verdict_text[1]))


@every_report
def test_the_made_by_block_has_machine_versions_and_date(make: Callable[[Path], str], tmp_path: Path) -> None:
    page = make(tmp_path)
    block = page[page.index('id="made-by"') : page.index('id="legend"')]
    for part in ("Apple M9, 12 cores", "macOS 19.1 (29A1)", "2031-05-06 07:08 UTC"):
        assert part in block
    assert "dotsctl 9.1, Python 3.12.1, MLX 0.30, mlx-lm 0.31, coremltools 9.0" in block


@every_report
def test_tables_scroll_in_their_own_box_and_pictures_shrink(make: Callable[[Path], str], tmp_path: Path) -> None:
    page = make(tmp_path)
    boxed = re.findall(r'<div class="scroll" [^>]*><table>', page)
    assert len(boxed) == page.count("<table>") > 0
    assert len(re.findall(r'<div class="(?:page|plot)"><img ', page)) == page.count("<img ") > 0
    assert not re.search(r" (?:width|style)=", page)
    assert "img { max-width: 100%" in page and ".scroll { overflow-x: auto; max-width: 100%" in STYLE


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_no_element_is_wider_than_a_window_of_360_pixels(tmp_path: Path) -> None:
    """All reports in one run of the browser, each in a frame as wide as the window of a phone."""
    script = """<script>
    const found = [...document.querySelectorAll("body *")].filter(one => !one.closest(".scroll *, svg")
      && one.getBoundingClientRect().right > innerWidth).map(one => one.outerHTML.slice(0, 60));
    const told = [innerWidth, document.documentElement.scrollWidth, found];
    parent.postMessage(JSON.stringify(told), "*");
    </script>"""
    frames = ""
    for name, make in REPORTS.items():
        (tmp_path / name).mkdir()
        page = re.sub(r"<meta http-equiv=[^>]*>", "", make(tmp_path / name)).replace("</body>", script + "</body>")
        (tmp_path / f"{name}.html").write_text(page, "utf-8")
        frames += f"<iframe src='{name}.html' style='width:{NARROW_PX}px;height:600px;border:0'></iframe>"
    collect = "<ol></ol><script>onmessage = event => { const item = document.createElement('li');"
    collect += "item.textContent = event.data; document.querySelector('ol').append(item) }</script>"
    (tmp_path / "all.html").write_text(f"<!DOCTYPE html>{collect}{frames}", "utf-8")
    command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        [*command, profile, (tmp_path / "all.html").as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    told = [json.loads(unescape(item)) for item in re.findall(r"<li>(.*?)</li>", done.stdout, re.DOTALL)]
    assert told == [[NARROW_PX, NARROW_PX, []]] * len(REPORTS)


def test_the_verdict_of_a_comparison_has_speed_texts_and_failures() -> None:
    assert verdict(compared(("one", "one", 0.9), ("two", "two", 0.9))) == (
        "coreml is 2.00 times as fast as mlx (50.0 ms against 100 ms a page); the text is the same on all 2 pages."
    )
    assert verdict(compared(("one", "one", 0.9), ("four", "five", 0.9), (None, "six", 0.9))) == (
        "coreml is 2.00 times as fast as mlx (50.0 ms against 100 ms a page); the text is the same on 1 of 2 pages and "
        "differs by up to 75.00% of the characters; failed pages (of 3): coreml 1."
    )
    assert verdict(compared((None, "six", 0.9))).startswith("coreml cannot be compared with mlx in speed; failed pages")


def test_pages_that_failed_come_first_then_other_texts_then_other_embeddings() -> None:
    found = compared(("one", "one", 0.9), ("one", "one", 0.5), ("two", "too", 0.9), (None, "three", 0.9))
    assert worst_first(found.rows) == [3, 2, 1, 0]


def test_the_verdict_of_curves_names_the_lowest_and_the_highest_error_rate() -> None:
    found = {"noise": [point("0", 0.01), point("1", 0.5), point("2", 0.2)], "type-px": [point("9", None)]}
    assert curves.verdict(found) == (
        "The error rate is lowest at noise 0 (1.00%) and highest at noise 1 (50.00%). "
        "type-px: no point has an error rate."
    )
    assert curves.verdict({"noise": [point("0", 0.01)]}) == "The error rate is 1.00% at noise 0."


def test_the_verdicts_of_the_benchmarks_name_the_worst_balance_and_the_best_encoder() -> None:
    balanced = PipelineOutcome(10, 60, 60, 1.0, 1.1, 2.0, 2, {})
    slower = replace(balanced, decode_ms=80, wall_s=1.5)
    assert pipeline.verdict([balanced, slower]) == (
        "The pipeline takes 1.500 times the ideal at 60/80 ms, the worst of 2; without overlap it takes 2.00 times."
    )
    assert pipeline.verdict([replace(balanced, ideal_s=0.0)]) == "The pipeline takes 1.10 s; there is no ideal time."
    mlx = Energy("mlx", 4, 1, 1.0, {}, {}, 4.0)
    assert energy.verdict([mlx, replace(mlx, encoder="coreml", wh_per_1000_pages=2.0)]) == (
        "coreml takes 2.00 Wh for 1,000 pages; mlx takes 2.00 times as much."
    )


def test_a_report_on_a_terminal_begins_with_its_verdict_and_its_origin() -> None:
    shown = text_report("It is fast.", MADE_BY, "a  b\n1  2", [LegendEntry("a", "first")]).splitlines()
    assert shown[0] == "It is fast."
    assert shown[1] == (
        "Apple M9, 12 cores; macOS 19.1 (29A1); dotsctl 9.1, Python 3.12.1, MLX 0.30, mlx-lm 0.31; 2031-05-06 07:08 UTC"
    )
    assert shown[2:] == ["", "a  b", "1  2", "", "a: first"]


def test_the_processor_is_named_by_the_system(tmp_path: Path) -> None:
    linux, info = Machine("x86_64", "Linux 6", "1"), tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Fast CPU 3000\n")
    assert processor_name(linux, info) == "Fast CPU 3000"
    assert processor_name(linux, tmp_path / "none") != ""
    assert processor_name(MADE_BY.machine, info) == "Apple M9"
