"""Lines and words of cells: where they are, and what they say."""

import random
from collections.abc import Sequence

import pytest
from dotsctl.client.results.cell import Cell
from dotsctl.client.results.ink_lines import InkLines
from dotsctl.client.results.lines import Line, lines_of
from dotsctl.tools.dev.word_boxes.pages import TruePage, foreign_page, latin_page, rotated
from dotsctl.tools.dev.word_boxes.score import WordScore, overlap, score
from dotsctl.tools.pages.fonts import font
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

WORDS = ["The", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "then", "sleeps"]


def drawn(
    lines: Sequence[str], *, ink: str = "black", paper: str = "white", size_px: int = 24
) -> tuple[Image.Image, list[tuple[int, int, int, int]]]:
    """A picture of lines, and the box of each word."""
    image = Image.new("RGB", (700, 60 + 40 * len(lines)), paper)
    pen, face = ImageDraw.Draw(image), font("dejavu-sans", size_px)
    boxes = []
    for number, line in enumerate(lines):
        x = 30.0
        for word in line.split():
            box = pen.textbbox((round(x), 30 + 40 * number), word, font=face)
            boxes.append((int(box[0]), int(box[1]), int(box[2]), int(box[3])))
            pen.text((round(x), 30 + 40 * number), word, font=face, fill=ink)
            x += face.getlength(word + " ")
    return image, boxes


def around(boxes: Sequence[tuple[int, int, int, int]]) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def read(image: Image.Image | None, cell: Cell) -> tuple[Line, ...]:
    return lines_of([cell], InkLines(image) if image else None)[0].lines


def test_each_word_has_the_box_of_its_ink() -> None:
    image, boxes = drawn(["The quick brown fox", "jumps over the lazy dog", "and then sleeps"])
    lines = read(image, Cell(around(boxes), "Text", " ".join(WORDS)))
    assert [line.text for line in lines] == ["The quick brown fox", "jumps over the lazy dog", "and then sleeps"]
    found = [word.bbox for line in lines for word in line.words]
    assert all(overlap(one, other) > 0.8 for one, other in zip(found, boxes, strict=True))
    assert not any(line.estimated for line in lines)


def test_light_text_on_a_dark_ground_is_found_as_well() -> None:
    image, boxes = drawn(["White words here"], ink="white", paper="#202040")
    (line,) = read(image, Cell(around(boxes), "Text", "White words here"))
    assert not line.estimated
    assert all(overlap(word.bbox, box) > 0.8 for word, box in zip(line.words, boxes, strict=True))


def test_a_bullet_that_is_not_in_the_text_belongs_to_no_word() -> None:
    image, boxes = drawn(["\N{BULLET} first item"])
    (line,) = read(image, Cell(around(boxes), "List-item", "first item"))
    assert all(overlap(word.bbox, box) > 0.8 for word, box in zip(line.words, boxes[1:], strict=True))


def test_marks_of_markdown_are_no_words() -> None:
    image, boxes = drawn(["Some heading"])
    (line,) = read(image, Cell(around(boxes), "Section-header", "## Some **heading**"))
    assert line.text == "Some heading" and not line.estimated


def test_each_cell_of_a_table_is_a_line_of_its_own() -> None:
    image = Image.new("RGB", (600, 200), "white")
    pen, face = ImageDraw.Draw(image), font("dejavu-sans", 22)
    entries = [["Item", "Price"], ["Blue paper", "4.10"], ["Ink", ""]]
    boxes = []
    for row, texts in enumerate(entries):
        pen.line((20, 20 + 50 * row, 560, 20 + 50 * row), fill="black", width=2)
        for column, text in enumerate(texts):
            place = (30 + 270 * column, 32 + 50 * row)
            pen.text(place, text, font=face, fill="black")
            boxes += [tuple(map(int, pen.textbbox(place, text, font=face)))] if text else []
    html = "".join(f"<tr>{''.join(f'<td>{text}</td>' for text in row)}</tr>" for row in entries)
    lines = read(image, Cell((20, 18, 562, 172), "Table", f"<table>{html}</table>"))
    assert [line.text for line in lines] == ["Item", "Price", "Blue paper", "4.10", "Ink"]
    assert all(overlap(line.bbox, box) > 0.8 for line, box in zip(lines, boxes, strict=True))


def test_the_cells_of_a_table_may_have_several_lines() -> None:
    image = Image.new("RGB", (640, 260), "white")
    pen, face = ImageDraw.Draw(image), font("dejavu-sans", 20)
    columns = [
        ["Material", "Printing paper", "of linen, white", "Ink"],
        ["Remarks", "bought in the", "spring", "to be mixed"],
    ]
    rows = [30, 80, 106, 156]
    boxes = {}
    for column, texts in enumerate(columns):
        for top, text in zip(rows, texts, strict=True):
            place = (30 + 300 * column, top)
            pen.text(place, text, font=face, fill="black")
            boxes[text] = tuple(map(int, pen.textbbox(place, text, font=face)))
    html = (
        "<table><tr><td>Material</td><td>Remarks</td></tr><tr><td>Printing paper of linen, white</td>"
        "<td>bought in the spring</td></tr><tr><td>Ink</td><td>to be mixed</td></tr></table>"
    )
    lines = read(image, Cell((20, 20, 600, 190), "Table", html))
    assert [line.text for line in lines] == [
        "Material", "Remarks", "Printing paper", "of linen, white", "bought in the", "spring", "Ink", "to be mixed"
    ]  # fmt: skip
    assert all(overlap(line.bbox, boxes[line.text]) > 0.8 for line in lines)
    assert not any(line.estimated for line in lines)


def test_a_page_without_pixels_has_estimated_lines_that_fill_the_cell() -> None:
    lines = read(None, Cell((100, 100, 400, 220), "Text", " ".join(WORDS)))
    assert len(lines) > 1 and all(line.estimated for line in lines)
    assert " ".join(line.text for line in lines) == " ".join(WORDS)
    assert overlap(around([line.bbox for line in lines]), (100, 100, 400, 220)) > 0.6


@pytest.mark.parametrize("ground", ["white", "noise"])
def test_where_nothing_fits_the_text_lines_are_estimated(ground: str) -> None:
    image = Image.new("L", (400, 300), "white")
    if ground == "noise":
        image.putdata(random.Random(1).choices((0, 255), k=400 * 300))
    lines = read(image, Cell((50, 50, 350, 250), "Text", " ".join(WORDS)))
    assert lines and all(line.estimated for line in lines)


def test_the_latex_of_a_formula_is_not_looked_for() -> None:
    image, boxes = drawn(["E = mc"])
    lines = read(image, Cell(around(boxes), "Formula", "$$\\frac{a}{b} = c$$"))
    assert lines[0].estimated and "\\frac{a}{b}" in lines[0].text


def test_a_picture_has_no_lines_and_neither_has_a_cell_without_a_box() -> None:
    found = lines_of([Cell((0, 0, 9, 9), "Picture", ""), Cell(None, "Text", "words"), Cell((0, 0, 9, 9), "Text", " ")])
    assert [each.lines for each in found] == [(), (), ()]


def test_headers_and_footers_are_left_out_on_request() -> None:
    cells = [Cell((0, 0, 90, 9), "Page-header", "top"), Cell((0, 20, 90, 29), "Text", "words")]
    assert [each.place for each in lines_of(cells, header_footer=False)] == [1]


def pages(kind: str, seeds: Sequence[int], degrees: float = 0.0) -> WordScore:
    total = WordScore()
    for seed in seeds:
        page: TruePage = (
            latin_page(seed) if kind == "latin" else foreign_page(seed, kind, str(font("dejavu-sans", 20).path))
        )
        page = rotated(page, degrees) if degrees else page
        total += score(page, lines_of(page.cells, InkLines(page.image)))
    return total


def test_words_and_lines_of_generated_pages_are_found() -> None:
    found = pages("latin", range(1, 13))
    assert found.lines > 200 and found.line_share >= 0.97
    assert found.words > 500 and found.word_share >= 0.9


@pytest.mark.parametrize("script", ["hebrew", "arabic"])
def test_words_from_right_to_left_are_found(script: str) -> None:
    found = pages(script, range(1, 3))
    assert found.line_share >= 0.97 and found.word_share >= 0.9


def test_lines_of_a_scan_that_lies_askew_are_found() -> None:
    found = pages("latin", range(1, 9), 1.0)
    assert found.line_share >= 0.9


def test_the_parts_of_a_line_without_spaces_are_one_word_and_the_next_line_goes_on() -> None:
    lines = read(None, Cell((0, 0, 200, 60), "Text", "\N{CJK UNIFIED IDEOGRAPH-4E00}" * 15))
    assert len(lines) > 1 and all(len(line.words) == 1 for line in lines)
    assert [line.is_continued for line in lines] == [True] * (len(lines) - 1) + [False]
    assert "".join(line.text for line in lines) == "\N{CJK UNIFIED IDEOGRAPH-4E00}" * 15


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=60)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 300), st.integers(1, 120), st.sampled_from(["Text", "Formula", "Table"]), st.booleans())
def test_no_character_is_lost_or_made_up(text: str, width: int, height: int, category: str, has_page: bool) -> None:
    image, _ = drawn(["Some words to be found"])
    (found,) = lines_of(
        [Cell((20, 20, 20 + width, 20 + height), category, text)], InkLines(image) if has_page else None
    )
    from dotsctl.client.results.printed import printed

    words = "".join(piece.text for piece in printed(found.cell).pieces)
    assert "".join(word.text for line in found.lines for word in line.words) == words
    for line in found.lines:
        for x0, y0, x1, y1 in (word.bbox for word in line.words):
            assert x0 < x1 and y0 < y1
