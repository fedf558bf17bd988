import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from dotsctl.client.formats.stream import Stream
from dotsctl.client.formats.style import Style
from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.inputs.sources import InputFile
from dotsctl.client.outputs.destination import choose_output
from dotsctl.client.results.page import Failure, Page
from hypothesis import given, settings
from hypothesis import strategies as st


def page(source: str, text: str = "", number: int = 1, of: int = 1) -> Page:
    return Page(source, Path(source), number, of, "ok", text, task="text")


def failed(source: str, number: int = 1, of: int = 1) -> Page:
    origin = PageInput(source, Path(source), number, of)
    return Page.from_failure(origin, Failure("E_OOM", "no memory -- sorry"), model="demo", fingerprint="", task="text")


def printed(names: Iterable[str], pages: Iterable[Page], format_: str = "md") -> str:
    text: list[str] = []
    inputs = [InputFile(name, Path(name), Path.cwd()) for name in names]
    output = choose_output(None, inputs, Style(format_), text.append)
    for one in pages:
        output.add(one)
    output.finish()
    return "".join(text)


def test_one_page_is_printed_without_a_head() -> None:
    assert printed(["a.png"], [page("a.png", "one\n")]) == "one\n"


def test_several_inputs_are_printed_in_input_order_under_heads() -> None:
    pages = [page("b.png", "two"), page("c.png", "three"), page("a.png", "one")]
    expected = "==> a.png <==\none\n\n==> b.png <==\ntwo\n\n==> c.png <==\nthree\n"
    assert printed(["a.png", "b.png", "c.png"], pages) == expected


def test_a_page_is_printed_as_soon_as_those_before_it_are() -> None:
    text: list[str] = []
    inputs = [InputFile(name, Path(name), Path.cwd()) for name in ("a.tif", "b.png")]
    output = choose_output("-", inputs, Style("md"), text.append)
    output.add(page("a.tif", "p2", 2, 2))
    output.add(page("b.png", "b"))
    assert text == []
    output.add(page("a.tif", "p1", 1, 2))
    assert text == ["==> a.tif <==\np1\n\np2\n\n==> b.png <==\nb\n"]


def test_the_pages_of_a_source_are_joined_by_a_blank_line_and_a_failed_one_is_noted() -> None:
    pages = [page("a.tif", "one", 1, 3), failed("a.tif", 2, 3), page("a.tif", "three", 3, 3)]
    note = "page 2 failed: E_OOM: no memory"
    assert printed(["a.tif"], pages) == f"one\n\n<!-- {note} - - sorry -->\n\nthree\n"
    assert printed(["a.tif"], pages, "txt") == f"one\n\n[{note} -- sorry]\n\nthree\n"


def test_a_failed_picture_leaves_no_trace_in_text() -> None:
    assert printed(["a.png", "b.png"], [failed("a.png"), page("b.png", "b")]) == "==> b.png <==\nb\n"


def test_json_lines_have_one_record_a_page_and_no_heads() -> None:
    lines = printed(["a.png", "b.png"], [page("b.png", "é"), failed("a.png")], "jsonl").splitlines()
    assert [(json.loads(line)["path"], json.loads(line)["status"]) for line in lines] == [
        ("a.png", "failed"),
        ("b.png", "ok"),
    ]
    assert "é" in lines[1]


def test_json_of_one_page_is_its_record_and_of_several_an_array() -> None:
    assert json.loads(printed(["a.png"], [page("a.png", "x")], "json"))["md"] == "x"
    several = json.loads(printed(["a.png", "b.png"], [page("b.png"), page("a.png")], "json"))
    assert [record["path"] for record in several] == ["a.png", "b.png"]
    assert len(json.loads(printed(["a.tif"], [page("a.tif", "x", 1, 2), page("a.tif", "y", 2, 2)], "json"))) == 2


def test_what_is_there_is_printed_when_a_page_never_comes() -> None:
    assert printed(["a.png", "b.png", "c.png"], [page("b.png", "b")]) == "==> b.png <==\nb\n"
    assert printed(["a.png"], [], "json") == ""


def test_chosen_pages_are_printed_as_soon_as_it_is_their_turn() -> None:
    stream = Stream(["a.pdf", "b.png"], Style("txt"))
    fourth, second = (replace(page("a.pdf", str(number), number, 9), chosen=(2, 4)) for number in (4, 2))
    assert stream.add(fourth) == ""
    assert stream.add(second) == "==> a.pdf <==\n2\n\n4\n"
    assert stream.add(page("b.png", "b")) == "\n==> b.png <==\nb\n"


@settings(max_examples=50)
@given(st.permutations([(name, number) for name in "abc" for number in (1, 2)]))
def test_the_order_of_finishing_never_changes_what_is_printed(order: list[tuple[str, int]]) -> None:
    pages = [page(name, f"{name}{number}", number, 2) for name, number in order]
    assert printed("abc", pages) == "==> a <==\na1\n\na2\n\n==> b <==\nb1\n\nb2\n\n==> c <==\nc1\n\nc2\n"
