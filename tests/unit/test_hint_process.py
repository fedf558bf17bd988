"""Hint plugins in a render process: what one does to it costs its hint, and never the page."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dotsctl.protocol.page_hint import PageHint
from dotsctl.protocol.render import process as render_process
from dotsctl.protocol.render.document import RenderDocument, RenderedPage
from dotsctl.protocol.render.process import RenderProcess
from reportlab.pdfgen.canvas import Canvas

GROUP = "dotsctl.hints"
NAME = "stranger"
PLUGIN = """
import os
import threading

from dotsctl.protocol.page_hint import HintBlock, PageHint
from dotsctl.protocol.worker.plugins import PluginDescription


class Stranger:
    description = PluginDescription(help="Reads nothing.", reads_document=True)

    def load(self):
        {load}

    def hint(self, page):
        {hint}
"""
Install = Callable[..., None]


@pytest.fixture
def process() -> Iterator[RenderProcess]:
    made = RenderProcess()
    yield made
    made.close()


@pytest.fixture
def stranger(install: Install) -> Callable[..., None]:
    """Install a hint plugin whose methods do this."""

    def write(hint: str, load: str = "pass") -> None:
        install("stranger_hints", PLUGIN.format(hint=hint, load=load), NAME, "Stranger", GROUP)

    return write


def pdf(count: int = 1) -> bytes:
    """Pages of 90x60 points with their number."""
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=(90, 60))
    for number in range(1, count + 1):
        canvas.drawString(10, 30, f"page {number}")
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def text_of(page: RenderedPage) -> str:
    return page.hint.hint.text if page.hint.hint else ""


def test_each_page_comes_with_its_own_hint_also_when_it_was_rendered_ahead(process: RenderProcess) -> None:
    document = RenderDocument(process, pdf(3), hint="auto")
    assert document.contents().num_pages == 3
    pages = [document.page(number, 72, following=number + 1 if number < 3 else None) for number in (1, 2, 3)]
    assert [text_of(page) for page in pages] == ["page 1", "page 2", "page 3"]
    assert text_of(document.page(2, 72)) == "page 2"


def test_the_only_page_of_a_document_that_was_rendered_at_once_has_its_hint(process: RenderProcess) -> None:
    document = RenderDocument(process, pdf(), hint="auto")
    document.contents(dpi=72)
    assert text_of(document.page(1, 72)) == "page 1"


def test_without_a_request_there_is_no_hint_and_pictures_have_none(process: RenderProcess) -> None:
    from PIL import Image

    assert text_of(RenderDocument(process, pdf()).page(1, 72)) == ""
    out = io.BytesIO()
    Image.new("RGB", (30, 20)).save(out, "PNG")
    page = RenderDocument(process, out.getvalue(), hint="auto").page(1)
    assert (page.hint.hint, page.hint.problem, page.size) == (None, "", (30, 20))


def test_a_plugin_of_others_makes_the_hint(process: RenderProcess, stranger: Callable[..., None]) -> None:
    stranger("return PageHint((HintBlock(f'{page.get_size()}', (1, 2, 3, 4)),), page.get_size(), 'stranger')")
    page = RenderDocument(process, pdf(), hint=NAME).page(1, 72)
    assert page.hint.problem == ""
    assert page.hint.hint is not None and page.hint.hint.blocks[0].text == "(90.0, 60.0)"


@pytest.mark.parametrize(
    ("hint", "problem"),
    [
        ("threading.Event().wait()", "it was not made within 0.5 s"),
        ("os._exit(3)", "it ended the process that makes it (exit code 3)"),
        ("os.abort()", "it ended the process that makes it (signal SIGABRT)"),
    ],
    ids=["hangs", "exits", "crashes"],
)
def test_a_plugin_that_takes_its_process_along_costs_one_hint_and_no_page(
    process: RenderProcess,
    stranger: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    hint: str,
    problem: str,
) -> None:
    monkeypatch.setattr(render_process, "FIRST_HINT_S", 0.5)
    stranger(hint)
    expected = [RenderDocument(process, pdf(3)).page(number, 72).pixels for number in (1, 2, 3)]
    document = RenderDocument(process, pdf(3), hint=NAME)
    pages = [document.page(number, 72, following=number + 1 if number < 3 else None) for number in (1, 2, 3)]
    assert [page.pixels for page in pages] == expected
    assert [page.hint.problem for page in pages] == [problem, "", ""], "the document is asked for no further hint"
    assert text_of(RenderDocument(process, pdf(), hint="auto").page(1, 72)) == "page 1"


def test_a_later_hint_has_less_time_than_the_first_one(
    process: RenderProcess, stranger: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(render_process, "HINT_S", 0.2)
    marker = tmp_path / "hangs"
    stranger(f"os.path.exists({str(marker)!r}) and threading.Event().wait()")
    document = RenderDocument(process, pdf(2), hint=NAME)
    assert document.page(1, 72).hint.problem == ""
    marker.touch()
    page = document.page(2, 72)
    assert (page.size, page.hint.problem) == ((90, 60), "it was not made within 0.2 s")


@pytest.mark.parametrize(
    ("hint", "load", "problem"),
    [
        ("raise ValueError('no text')", "pass", "hint 'stranger' raised ValueError: no text in hint (__init__.py:"),
        ("return 'text'", "pass", "raised TypeError: it returned a str, not a PageHint"),
        ("return PageHint((HintBlock('x'),), (0, 0))", "pass", "size (0, 0) is not between"),
        ("pass", "import no_such_module", "hint 'stranger' needs the module 'no_such_module'"),
        ("raise SystemExit(1)", "pass", "called sys.exit(1) in hint"),
        ("print('noise'); return None", "pass", ""),
    ],
)
def test_a_plugin_that_fails_says_why_and_its_process_continues(
    process: RenderProcess, stranger: Callable[..., None], hint: str, load: str, problem: str
) -> None:
    stranger(hint, load)
    page = RenderDocument(process, pdf(), hint=NAME).page(1, 72)
    pid = process.pid
    assert page.size == (90, 60) and page.hint.hint is None
    assert (problem in page.hint.problem) if problem else page.hint.problem == ""
    assert text_of(RenderDocument(process, pdf(), hint="auto").page(1, 72)) == "page 1"
    assert process.pid == pid


def test_a_plugin_that_is_not_installed_is_named_with_those_that_are(process: RenderProcess) -> None:
    problem = RenderDocument(process, pdf(), hint="nowhere").page(1, 72).hint.problem
    assert "there is no plugin 'nowhere' in dotsctl.hints: use one that is installed: " in problem


def test_a_hint_of_the_largest_size_passes(process: RenderProcess, stranger: Callable[..., None]) -> None:
    stranger("return PageHint(tuple(HintBlock('x' * 64, (1.5, 2.5, 3.5, 4.5)) for _ in range(4096)), (90, 60), 's')")
    found = RenderDocument(process, pdf(), hint=NAME).page(1, 72).hint
    assert isinstance(found.hint, PageHint), found.problem
    assert len(found.hint.blocks) == 4096 and len(found.hint.text) > 256 * 1024
