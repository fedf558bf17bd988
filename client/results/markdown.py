"""Renders cells as Markdown and as plain text. Pure."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

from dotsctl.client.results.cell import Cell
from dotsctl.client.results.latex import formula_block, formula_body
from dotsctl.client.results.safe_markdown import safe_html_table, safe_text
from dotsctl.client.results.tables import is_table, table_text

HEADER_FOOTER = ("Page-header", "Page-footer")
PICTURE, TABLE, FORMULA = "Picture", "Table", "Formula"

CODED_FORMULA = re.compile(r"`(\$[^`$]+\$)`")
BLANK_LINES = re.compile(r"\n(?:[ \t]*+\n)++")
TABLE_TAG = re.compile(r"<(/?)table\b[^>]*+>?", re.IGNORECASE)
HEADING = re.compile(r"^#{1,6}[ \t]++", re.MULTILINE)
STRONG = re.compile(r"(?<![\w*])(\*\*|__)(?=[^\s*_])((?:(?!\n\n).){1,300}?)(?<=[^\s*_])\1(?![\w*])", re.DOTALL)
CODE = re.compile(r"(?<!`)(`++)[^`](?:.{0,2000}?[^`])?\1(?!`)", re.DOTALL)
DUNDER = re.compile(r"__[a-z](?:_?[a-z0-9])*+__")
"""A name of Python, which Markdown would take for bold."""
FENCE = re.compile(r"\s*+```[ \t]*\w*[ \t]*\n(.*?)\n?[ \t]*```\s*", re.DOTALL)


def block(cell: Cell, picture: str | None = None) -> str:
    """A cell as a block of Markdown; ``picture`` is where its picture is: a path with ``/``, or a ``data:`` address."""
    if cell.category == PICTURE:
        image = f"![]({picture if picture.startswith('data:') else quote(os.fsencode(picture))})" if picture else ""
        return "\n\n".join(filter(None, (image, safe_text(cell.text.strip()))))
    if cell.category == FORMULA:
        return formula_block(cell.text)
    text = CODED_FORMULA.sub(r"\1", cell.text.strip())
    return _table_block(text) if cell.category == TABLE and is_table(text) else safe_text(text)


def _table_block(text: str) -> str:
    """A table stands between blank lines and has none: the first blank line is where Markdown ends its HTML."""
    parts: list[str] = []
    at = 0
    for start, end in _tables(text):
        parts += [safe_text(text[at:start].strip()), BLANK_LINES.sub("\n", safe_html_table(text[start:end]))]
        at = end
    return "\n\n".join(filter(None, [*parts, safe_text(text[at:].strip())]))


def _tables(text: str) -> Iterator[tuple[int, int]]:
    """Yield where tables begin and end that are in no other table; one that is cut goes to the end."""
    start = depth = 0
    for tag in TABLE_TAG.finditer(text):
        if tag[1]:
            depth = max(0, depth - 1)
        else:
            start = start if depth else tag.start()
            depth += 1
        if tag[1] and not depth:
            yield start, tag.end()
            start = len(text)
    if depth:
        yield start, len(text)


def chosen(cells: Sequence[Cell], *, header_footer: bool) -> list[tuple[int, Cell]]:
    """The cells that are shown, each with its place among all of them."""
    return [each for each in enumerate(cells) if header_footer or each[1].category not in HEADER_FOOTER]


def to_markdown(cells: Sequence[Cell], *, header_footer: bool = True, pictures: Mapping[int, str] | None = None) -> str:
    """Cells in reading order as Markdown, joined by blank lines.

    Args:
        cells: of one page.
        header_footer: whether the page's header and footer are part of it.
        pictures: where the picture of a cell is, by the cell's place in ``cells``; pictures without one are left out.
    """
    where = pictures or {}
    blocks = [block(cell, where.get(place)) for place, cell in chosen(cells, header_footer=header_footer)]
    return "\n\n".join(filter(None, blocks))


def to_plain(cells: Sequence[Cell], *, header_footer: bool = True) -> str:
    """Cells in reading order as plain text, joined by blank lines."""
    blocks = [_plain(cell) for _, cell in chosen(cells, header_footer=header_footer)]
    return "\n\n".join(filter(None, blocks))


def _plain(cell: Cell) -> str:
    """Return the plain text of a cell: a table as cells between tabulators, a formula as its LaTeX."""
    if cell.category == FORMULA:
        body = formula_body(cell.text)
        return cell.text.strip() if body is None else body
    return table_text(cell.text) if is_table(cell.text) else without_marks(cell.text).strip()


def without_marks(text: str) -> str:
    """Return Markdown without the marks of headings, bold text and coded formulas.

    Code and names such as ``__init__`` stay as they are, and so do single signs, which may be meant literally.
    """
    text = CODED_FORMULA.sub(r"\1", text)
    parts: list[str] = []
    at = 0
    for code in CODE.finditer(text):
        parts += [_without_marks(text[at : code.start()]), code[0]]
        at = code.end()
    return "".join([*parts, _without_marks(text[at:])])


def _without_marks(text: str) -> str:
    return STRONG.sub(lambda found: found[0] if DUNDER.fullmatch(found[0]) else found[2], HEADING.sub("", text))


def unfenced(text: str) -> str:
    """A text without the Markdown fence that the model put around all of it."""
    found = FENCE.fullmatch(text)
    return found[1] if found else text
