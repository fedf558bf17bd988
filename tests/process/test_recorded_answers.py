"""Recorded answers of a model through real processes: ``fake:answer=FILE|DIR`` gives them in pieces."""

import json
from pathlib import Path

import pytest
from dotsctl import Client
from dotsctl.client.results.page import Page
from PIL import Image

from tests.process.conftest import START_S, dotsctl

pytestmark = pytest.mark.process
CASES = {  # name: category, text as the model writes it between the quotes of its JSON, Markdown, plain text
    "single": (
        "Text",
        r"Let $\theta = \frac{a}{b}$ and $\beta \neq 0$",
        r"Let $\theta = \frac{a}{b}$ and $\beta \neq 0$",
        r"Let $\theta = \frac{a}{b}$ and $\beta \neq 0$",
    ),
    "doubled": ("Text", r"$\\frac{1}{2}$\nand $\\nu$", "$\\frac{1}{2}$\nand $\\nu$", "$\\frac{1}{2}$\nand $\\nu$"),
    "cell": (
        "Table",
        r"<table><tr><td>$\frac{1}{2} \times 3$</td></tr></table>",
        r"<table><tr><td>$\frac{1}{2} \times 3$</td></tr></table>",
        r"$\frac{1}{2} \times 3$",
    ),
    "formula": ("Formula", r"E = h\nu \ne 0", "$$\nE = h\\nu \\ne 0\n$$", r"E = h\nu \ne 0"),
    "escaped": (
        "Text",
        r"sconto del 5\% sui costi\ne sui ricavi",
        "sconto del 5\\% sui costi\ne sui ricavi",
        "sconto del 5\\% sui costi\ne sui ricavi",
    ),
    "break": (
        "Text",
        r"sconto del 5% sui costi\ne sui ricavi",
        "sconto del 5% sui costi\ne sui ricavi",
        "sconto del 5% sui costi\ne sui ricavi",
    ),
    "brackets": (
        "Table",
        "<table><tr><td>ping <host></td><td>Ann <ann@x.org></td><td>List<String> v</td></tr></table>",
        "<table><tr><td>ping &lt;host&gt;</td><td>Ann &lt;ann@x.org&gt;</td><td>List&lt;String&gt; v</td></tr></table>",
        "ping <host>\tAnn <ann@x.org>\tList<String> v",
    ),
    "less": (
        "Table",
        "<table><tr><td>0<x and x>1</td></tr></table>",
        "<table><tr><td>0&lt;x and x&gt;1</td></tr></table>",
        "0<x and x>1",
    ),
    "spans": (
        "Table",
        "<table><tr><th rowspan='2'>Item</th><th colspan='2'>2024</th><th>2025</th></tr>"
        "<tr><th>Q1</th><th>Q2</th><th>Q1</th></tr><tr><td>A</td><td>1</td><td>2</td><td>3</td></tr></table>",
        "<table><tr><th rowspan='2'>Item</th><th colspan='2'>2024</th><th>2025</th></tr>"
        "<tr><th>Q1</th><th>Q2</th><th>Q1</th></tr><tr><td>A</td><td>1</td><td>2</td><td>3</td></tr></table>",
        "Item\t2024\t\t2025\n\tQ1\tQ2\tQ1\nA\t1\t2\t3",
    ),
    "dunder": (
        "Text",
        r"if __name__ == \"__main__\": self.__init__()",
        'if __name__ == "__main__": self.__init__()',
        'if __name__ == "__main__": self.__init__()',
    ),
    "open": ("Text", "no closing bracket", "no closing bracket", "no closing bracket"),
}


def record(category: str, text: str) -> str:
    return f'[{{"bbox": [98, 140, 196, 280], "category": "{category}", "text": "{text}"}}]'


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    """Every case as a page of its own, read with the answers of one folder; and a page without an answer."""
    folder = tmp_path_factory.mktemp("recorded")
    scans, answers = folder / "scans", folder / "answers"
    scans.mkdir()
    answers.mkdir()
    for name in [*CASES, "unknown"]:
        Image.new("RGB", (200, 280), "white").save(scans / f"{name}.png")
    for name, (category, text, _, _) in CASES.items():
        (answers / f"{name}.txt").write_text(record(category, text), "utf-8")
    (answers / "open.txt").write_text(record("Text", "no closing bracket").removesuffix("]"), "utf-8")
    decoder = f"fake:answer={answers}"
    with Client(encoder="fake", decoder=decoder, private=True, timeout_s=START_S) as client:
        return {Path(page.source).stem: page for page in client.ocr([scans], task="layout", check_blank=False)}


@pytest.mark.parametrize("name", CASES)
def test_a_recorded_answer_becomes_its_right_text(read: dict[str, Page], name: str) -> None:
    _, _, markdown, plain = CASES[name]
    page = read[name]
    assert (page.status, page.finish_reason) == ("ok", "stop")
    assert (page.markdown, page.plain_text) == (markdown, plain)
    assert (page.width, page.height, page.cells[0].bbox) == (200, 280, (100, 140, 200, 280))


def test_a_page_without_an_answer_fails_alone_and_is_named(read: dict[str, Page]) -> None:
    error = read["unknown"].error
    assert error is not None and "there is no answer for unknown in " in error.message


def test_one_answer_that_is_named_by_a_relative_path_is_that_of_every_page(tmp_path: Path) -> None:
    for name in "ab":
        Image.new("RGB", (200, 280), "white").save(tmp_path / f"{name}.png")
    (tmp_path / "one.json").write_text(record("Title", "# Zoë"), "utf-8")
    options = ("--encoder", "fake", "--decoder", "fake:answer=one.json", "--task", "layout")
    process = dotsctl("ocr", "a.png", "b.png", *options, "-f", "jsonl", cwd=tmp_path)
    out, err = process.communicate(timeout=START_S)
    assert process.returncode == 0, err
    assert [json.loads(line)["cells"][0]["text"] for line in out.splitlines()] == ["# Zoë", "# Zoë"]


def test_an_answer_that_is_not_there_ends_the_command_with_one_line(tmp_path: Path) -> None:
    Image.new("RGB", (200, 280), "white").save(tmp_path / "a.png")
    options = ("--encoder", "fake", "--decoder", "fake:answer=nix.txt")
    process = dotsctl("ocr", "a.png", *options, cwd=tmp_path)
    _, err = process.communicate(timeout=START_S)
    assert process.returncode == 3 and "nix.txt" in err and "Traceback" not in err
