"""Hints as callers choose them: where they come from, which pages get them, and what is refused."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dotsctl import HintBlock, PageHint, PageInput, testing
from dotsctl.client.inputs.hints import hint_in_box, hint_of_text
from dotsctl.client.inputs.pages import close_renderer
from dotsctl.client.jobs.page_options import ReadingOptions
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.messages import Submit
from dotsctl.protocol.page_hint import MAX_HINT_BLOCKS, MAX_HINT_BYTES
from hypothesis import given
from hypothesis import strategies as st
from reportlab.pdfgen.canvas import Canvas

from tests.fake_client import FakeClient, call, pictures

LAYER = "textlayer"
OWN = PageHint((HintBlock("upper", (10, 10, 90, 20)), HintBlock("lower", (10, 80, 90, 90))), (100, 100), "mine")
PICTURE = np.full((56, 56, 3), 255, np.uint8)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[PageHint | None]]:
    """The hints of the pages that a client of ``dotsctl.testing`` sends."""
    found: list[PageHint | None] = []
    answer = testing._FakeSession._messages

    def noted(session: Any, page: Submit) -> Any:
        found.append(page.options.hint)
        return answer(session, page)

    monkeypatch.setattr(testing._FakeSession, "_messages", noted)
    yield found
    close_renderer()


def pdf(*pages: str) -> bytes:
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=(200, 100))
    for text in pages:
        canvas.drawString(10, 50, text)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def read(inputs: Any, **options: Any) -> list[str]:
    """The sources of the hints in the records of the pages."""
    with testing.FakeClient("x") as client:
        return [page.hint for page in client.read(inputs, dpi=72, **options)]


def texts(hints: list[PageHint | None]) -> list[str]:
    return [hint.text if hint else "" for hint in hints]


def test_the_text_layer_of_a_pdf_is_a_hint_without_being_requested(sent: list[PageHint | None]) -> None:
    assert read(pdf("one", "two")) == [LAYER, LAYER]
    assert texts(sent) == ["one", "two"]
    assert {hint.size for hint in sent if hint} == {(200, 100)}


def test_a_pdf_with_one_page_and_one_that_is_streamed_have_their_hint(sent: list[PageHint | None]) -> None:
    assert read(pdf("only")) == [LAYER]
    with testing.FakeClient("x") as client:
        assert "".join(client.stream(pdf("streamed"), dpi=72)) == "x"
    assert texts(sent) == ["only", "streamed"]


@pytest.mark.parametrize("option", ["none", "", None])
def test_hints_can_be_turned_off(sent: list[PageHint | None], option: str | None) -> None:
    assert read(pdf("one"), hint=option) == [""]
    assert sent == [None]


def test_a_picture_has_no_text_layer(sent: list[PageHint | None]) -> None:
    assert read(PICTURE, hint=LAYER) == [""]
    assert sent == [None]


@pytest.mark.parametrize(
    ("options", "has_hint"),
    [
        ({"task": "text"}, True),
        ({"task": "layout-only"}, True),
        ({"task": "ground", "box": (0, 0, 9, 9)}, True),
        ({"task": "svg"}, False),
        ({"prompt": "Count the words."}, False),
        ({"prompt": "Count the words.", "hint": LAYER}, True),
    ],
)
def test_only_pages_whose_text_is_requested_get_a_hint_without_being_asked(
    sent: list[PageHint | None], options: dict[str, Any], has_hint: bool
) -> None:
    read(pdf("one"), **options)
    assert texts(sent) == ["one" if has_hint else ""]


def test_a_question_has_no_hint(sent: list[PageHint | None]) -> None:
    with testing.FakeClient("x") as client:
        client.ask("What is it?", [pdf("one"), pdf("two")], dpi=72)
    assert sent == [None]


def test_a_text_is_the_hint_of_every_page_in_paragraphs(sent: list[PageHint | None]) -> None:
    assert read([PICTURE, PICTURE], hint="a para-\ngraph\n\nand another") == ["user", "user"]
    blocks = (HintBlock("a paragraph"), HintBlock("and another"))
    assert sent == [PageHint(blocks), PageHint(blocks)]


def test_a_hint_with_boxes_is_sent_as_it_is(sent: list[PageHint | None]) -> None:
    assert read(PICTURE, hint=OWN) == ["mine"]
    assert sent == [OWN]


def test_a_function_gives_the_hint_of_each_page(sent: list[PageHint | None]) -> None:
    def hint(page: PageInput) -> str | PageHint | None:
        return {1: "first", 2: None, 3: OWN}[page.page]

    assert read(pdf("a", "b", "c"), hint=hint) == ["user", "", "mine"]
    assert texts(sent) == ["first", "", OWN.text]


def test_a_function_that_fails_ends_the_call_and_a_wrong_value_is_refused() -> None:
    def failing(page: PageInput) -> str:
        raise KeyError(page.page)

    with pytest.raises(KeyError):
        read(PICTURE, hint=failing)
    with pytest.raises(UsageError, match="returned a int: return a text, a PageHint or None"):
        read(PICTURE, hint=lambda page: 3)


@pytest.mark.parametrize("option", [3, b"text", ["text"], 1.5])
def test_what_is_no_hint_is_refused_in_the_call(option: object) -> None:
    with pytest.raises(UsageError, match=f"{type(option).__name__} is not a hint: give 'auto', 'none', a path"):
        ReadingOptions(hint=option)  # type: ignore[arg-type]


def test_the_texts_of_a_folder_belong_to_the_inputs_of_the_same_name(
    sent: list[PageHint | None], tmp_path: Path
) -> None:
    texts_of = tmp_path / "texts"
    texts_of.mkdir()
    (texts_of / "whole.txt").write_text("page one\fpage two\f", "utf-8")
    (texts_of / "single-2.txt").write_text("the second", "utf-8-sig")
    (texts_of / "report.v2.txt").write_text("with a point", "utf-8")
    for name in ("whole", "single", "report.v2", "other"):
        (tmp_path / f"{name}.pdf").write_bytes(pdf("x", "x"))
    for name in ("whole", "single", "report.v2", "other"):
        read(tmp_path / f"{name}.pdf", hint=texts_of)
    assert texts(sent) == ["page one", "page two", "", "the second", "with a point", "with a point", "", ""]


def test_a_file_is_the_hint_of_every_page_unless_it_has_pages_itself(
    sent: list[PageHint | None], tmp_path: Path
) -> None:
    text = tmp_path / "a.txt"
    text.write_bytes(b"for \xff all")
    read(pdf("x", "x"), hint=text)
    text.write_text("one\ftwo")
    read(pdf("x", "x", "x"), hint=text)
    assert texts(sent) == ["for \ufffd all", "for \ufffd all", "one", "two", ""]


def test_a_path_that_does_not_exist_is_refused_in_the_call(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"hint .*nowhere\.txt cannot be read: No such file or directory"):
        ReadingOptions(hint=tmp_path / "nowhere.txt")


def test_a_hint_of_a_box_is_the_part_of_the_page_in_it(sent: list[PageHint | None]) -> None:
    read(PICTURE, hint=OWN, box=(0, 28, 56, 56), task="ground")
    assert texts(sent) == ["lower"]
    assert hint_in_box(OWN, (40, 40, 60, 60), (100, 100)) == OWN, "nothing is known of this place"
    assert hint_in_box(PageHint((HintBlock("x"),)), (0, 0, 1, 1), (9, 9)).text == "x"


@given(st.text() | st.text(st.sampled_from("a \n-\f\ud800é"), max_size=40))
def test_any_text_makes_a_hint_that_may_travel(text: str) -> None:
    hint = hint_of_text(text)
    assert (hint is None) == (not text.encode(errors="replace").decode().split())


@pytest.mark.parametrize("text", ["é" * MAX_HINT_BYTES, "word " * MAX_HINT_BYTES, "a\n\n" * 5000])
def test_a_text_above_the_limit_is_cut(text: str) -> None:
    hint = hint_of_text(text)
    assert hint is not None and 0 < len(hint.blocks) <= MAX_HINT_BLOCKS
    assert MAX_HINT_BYTES / 100 < len(hint.text.encode()) <= 1.1 * MAX_HINT_BYTES


@pytest.mark.parametrize(("argument", "option"), [("auto", "auto"), ("none", "none"), (LAYER, LAYER), ("h", Path("h"))])
def test_the_command_line_takes_sources_files_and_folders(
    client: type[FakeClient], argument: str, option: str | Path
) -> None:
    pictures("a.png")
    Path("h").write_text("text")
    assert call("ocr", "a.png", "--hint", argument).exit_code == 0
    assert client.asked[0]["hint"] == option


def test_a_hint_that_is_neither_file_nor_plugin_is_a_usage_error_with_the_choices(client: type[FakeClient]) -> None:
    pictures("a.png")
    result = call("ocr", "a.png", "--hint", "missing.txt")
    assert result.exit_code == 2 and not client.created
    assert "--hint missing.txt: there is no such file, folder or plugin" in result.stderr
    assert LAYER in result.stderr


def test_results_do_not_depend_on_hints(client: type[FakeClient]) -> None:
    assert ReadingOptions(hint="none").key() == ReadingOptions().key() == ReadingOptions(hint=OWN).key()
    pictures("a.png", "b.png")
    assert call("ocr", "a.png", "b.png", "-o", "out/", "--hint", "none").exit_code == 0
    assert "2 skipped" in call("ocr", "a.png", "b.png", "-o", "out/").stderr


def test_a_source_that_fails_is_reported_once_and_the_pages_are_read(
    sent: list[PageHint | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    with testing.FakeClient("x") as client:
        pages = list(client.ocr([pdf("a"), pdf("b")], dpi=72, hint="textlayer", on_notice=lines.append))
        assert len(pages) == 2 and lines == []
    from dotsctl.client.inputs import loading
    from dotsctl.protocol.render.exchange import HintAnswer
    from dotsctl.protocol.render.process import RenderProcess

    close_renderer()
    assert loading.RENDERER.pid is None
    monkeypatch.setattr(RenderProcess, "_hint", lambda process, fd: process._end() or HintAnswer(problem="it is torn"))
    with testing.FakeClient("x") as client:
        pages = list(client.ocr([pdf("a"), pdf("b")], dpi=72, on_notice=lines.append))
    assert [page.status for page in pages] == ["ok", "ok"]
    assert lines == ["<bytes>: the hint of page 1 failed, it is read without: it is torn"]
