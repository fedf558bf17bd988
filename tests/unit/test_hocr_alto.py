"""hOCR and ALTO: valid documents that give back the same text and boxes."""

import io
import os
import re
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from dotsctl.client.formats.alto import NAMESPACE
from dotsctl.client.formats.format import PageSources
from dotsctl.client.formats.stream import Stream
from dotsctl.client.formats.style import Style
from dotsctl.client.results.cell import Cell
from dotsctl.client.results.ink_lines import InkLines
from dotsctl.client.results.lines import CellLines, lines_of
from dotsctl.client.results.page import Failure, Page
from dotsctl.tools.dev.word_boxes.pages import TruePage, latin_page
from hypothesis import given, settings
from hypothesis import strategies as st

SCHEMA = "ALTO_SCHEMA"
"""The variable that names the schema, which does not ship."""
XLINK = b"""<xsd:schema xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns="http://www.w3.org/1999/xlink"
 targetNamespace="http://www.w3.org/1999/xlink"><xsd:attributeGroup name="simpleLink"/></xsd:schema>"""
"""The part of a schema that the one of ALTO imports from the network."""
NAMES = ("scan.png", "other & <scan>.png")
HEBREW = "\N{HEBREW LETTER SHIN}\N{HEBREW LETTER LAMED} \N{HEBREW LETTER ALEF}"


@pytest.fixture(scope="module")
def true_pages() -> dict[str, TruePage]:
    return {name: latin_page(seed) for name, seed in zip(NAMES, (5, 6), strict=True)}


def page_of(name: str, true: TruePage) -> Page:
    width, height = true.image.size
    return Page(name, None, 1, 1, "ok", "raw", true.cells, width, height, task="layout")


@pytest.fixture(scope="module")
def outputs(true_pages: dict[str, TruePage]) -> dict[str, str]:
    return {name: written(name, true_pages) for name in ("hocr", "alto")}


def written(format_: str, pages: dict[str, TruePage]) -> str:
    sources = PageSources(pixels=lambda page: pages[page.source].image)
    stream = Stream(list(pages), Style(format_), sources)
    return "".join([*(stream.add(page_of(name, page)) for name, page in pages.items()), stream.rest()])


def expected(page: TruePage) -> list[CellLines]:
    return [each for each in lines_of(page.cells, InkLines(page.image)) if each.lines]


def of_class(node: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (each for each in node.iter() if each.get("class") == name)


def bbox(node: ElementTree.Element) -> tuple[int, ...]:
    found = re.search(r"bbox ([0-9]+) ([0-9]+) ([0-9]+) ([0-9]+)", node.get("title", ""))
    assert found
    return tuple(map(int, found.groups()))


def test_hocr_gives_back_lines_and_words_with_their_boxes(
    outputs: dict[str, str], true_pages: dict[str, TruePage]
) -> None:
    pages = list(of_class(ElementTree.fromstring(outputs["hocr"]), "ocr_page"))
    assert len(pages) == len(true_pages)
    for node, true in zip(pages, true_pages.values(), strict=True):
        assert bbox(node) == (0, 0, *true.image.size)
        lines = [line for cell in expected(true) for line in cell.lines]
        found = list(of_class(node, "ocr_line"))
        assert [bbox(each) for each in found] == [line.bbox for line in lines]
        words = [[(word.text, bbox(word)) for word in of_class(each, "ocrx_word")] for each in found]
        assert [[(text or "", box) for text, box in line] for line in words] == [
            [(word.text, word.bbox) for word in line.words] for line in lines
        ]


def test_alto_gives_back_lines_and_words_with_their_boxes(
    outputs: dict[str, str], true_pages: dict[str, TruePage]
) -> None:
    names = {"a": NAMESPACE}
    pages = ElementTree.fromstring(outputs["alto"]).findall(".//a:Page", names)
    assert len(pages) == len(true_pages)
    for node, true in zip(pages, true_pages.values(), strict=True):
        assert (node.get("WIDTH"), node.get("HEIGHT")) == tuple(map(str, true.image.size))
        lines = [line for cell in expected(true) for line in cell.lines]
        found = [
            [(word.get("CONTENT"), alto_box(word)) for word in line.findall("a:String", names)]
            for line in node.findall(".//a:TextLine", names)
        ]
        assert found == [[(word.text, word.bbox) for word in line.words] for line in lines]


def alto_box(node: ElementTree.Element) -> tuple[int, int, int, int]:
    x, y, width, height = (int(node.get(name, "")) for name in ("HPOS", "VPOS", "WIDTH", "HEIGHT"))
    return x, y, x + width, y + height


def test_alto_is_valid_against_its_schema(outputs: dict[str, str]) -> None:
    etree = pytest.importorskip("lxml.etree", reason="lxml is not installed")
    if (file := os.environ.get(SCHEMA)) is None:
        pytest.skip(f"{SCHEMA} does not name alto-4-4.xsd of the Library of Congress")

    class Local(etree.Resolver):  # type: ignore[misc, name-defined]
        def resolve(self, url: str, public_id: str | None, context: object) -> object:
            return self.resolve_string(XLINK, context) if "xlink" in url else None

    parser = etree.XMLParser(no_network=True)
    parser.resolvers.add(Local())
    schema = etree.XMLSchema(etree.parse(file, parser))
    failed = written_pages("alto", [Page("a.png", None, 1, 1, "failed", error=Failure("E_BAD_IMAGE", "no picture"))])
    made_up = written_pages("alto", [of_cells(Cell((1, 1, 90, 20), "Made-up", "words"), Cell(None, "Text", "words"))])
    for document in (outputs["alto"], failed, made_up):
        schema.assertValid(etree.fromstring(document.encode()))
    broken = outputs["alto"].replace("CONTENT=", "WORDS=")
    assert not schema.validate(etree.fromstring(broken.encode()))


def test_hocr_follows_its_specification(outputs: dict[str, str]) -> None:
    spec = pytest.importorskip("hocr_spec", reason="hocr-spec is not installed")
    report = spec.HocrValidator("standard").validate(io.BytesIO(outputs["hocr"].encode()), parse_strict=True)
    assert report.is_valid(), report.format("text")


def of_cells(*cells: Cell) -> Page:
    return Page("a.png", None, 1, 1, "ok", "raw", cells, 200, 100, task="layout")


def written_pages(format_: str, pages: list[Page], **style: bool) -> str:
    stream = Stream([page.source for page in pages], Style(format_, **style))
    return "".join([*map(stream.add, pages), stream.rest()])


def test_the_direction_of_right_to_left_text_is_noted() -> None:
    page = of_cells(Cell((0, 0, 100, 20), "Text", HEBREW))
    assert 'dir="rtl"' in written_pages("hocr", [page])
    assert 'BASEDIRECTION="rtl"' in written_pages("alto", [page])


def test_lines_without_ink_are_marked_as_estimated() -> None:
    page = of_cells(Cell((0, 0, 100, 20), "Text", "words"))
    assert 'data-estimated="true"' in written_pages("hocr", [page])
    assert 'TAGREFS="tag_estimated"' in written_pages("alto", [page])


@pytest.mark.parametrize("format_", ["hocr", "alto"])
def test_headers_can_be_left_out(format_: str) -> None:
    page = of_cells(Cell((0, 0, 100, 20), "Page-header", "topmost"), Cell((0, 40, 100, 60), "Text", "words"))
    assert "topmost" in written_pages(format_, [page])
    assert "topmost" not in written_pages(format_, [page], header_footer=False)


@pytest.mark.parametrize("format_", ["hocr", "alto"])
@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40), category=st.text(min_size=1, max_size=9), name=st.text(min_size=1, max_size=9))
def test_any_text_category_and_name_give_a_document_that_parses(
    format_: str, text: str, category: str, name: str
) -> None:
    cells = (Cell((1, 1, 90, 40), category, text),)
    page = Page(name, None, 1, 1, "ok", "raw", cells, 100, 50, task="layout")
    ElementTree.fromstring(written_pages(format_, [page]))
