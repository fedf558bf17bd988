"""The text of a cell as it stands on the page: pieces with the widths that they have in print. Pure."""

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

from dotsctl.client.results.cell import Cell
from dotsctl.client.results.latex import formula_body
from dotsctl.client.results.markdown import FORMULA, PICTURE, without_marks
from dotsctl.client.results.tables import is_table, table_text

SPACE_EM = 0.27
"""The width of a space in proportional type, in em."""
WIDTHS_EM = {
    **dict.fromkeys("iljI|.,:;'!", 0.26),
    **dict.fromkeys('frt()[]-/\\"`*', 0.35),
    **dict.fromkeys("sczJkvxyz", 0.48),
    **dict.fromkeys("wACDGHKNORUVXYBEPS&", 0.69),
    **dict.fromkeys("mMW@%", 0.87),
    **dict.fromkeys("QZTFL", 0.62),
    "\N{EM DASH}": 1.0,
    "\N{HORIZONTAL ELLIPSIS}": 1.0,
}
"""Widths of characters in proportional type, in em; means over serif and sans-serif faces."""
OTHER_EM, CAPITAL_EM = 0.54, 0.68
BREAKS_AFTER = re.compile(r"(?<=[^\W\d_]-)(?=[^\W\d_])|(?<=[\N{EN DASH}\N{EM DASH}])(?=\w)")
"""Places within a word at which a printed line may end."""
COMMAND = re.compile(r"\\[A-Za-z]+|\\.")
INLINE_FORMULA = re.compile(r"\$[^$]{1,2000}\$")


@dataclass(frozen=True, slots=True)
class PrintedPiece:
    """A part of a text that is on one printed line: a word, a part of one, or one sign of a script without spaces."""

    text: str
    width_em: float
    """The width in print, estimated, in em."""
    row: int = 0
    """The row of a table; 0 in other cells."""
    field: int = 0
    """The column of a table; 0 in other cells."""
    is_glued: bool = False
    """Whether there is no space between it and the piece before."""
    is_rtl: bool = False
    is_ltr: bool = False


@dataclass(frozen=True, slots=True)
class Printed:
    """The text of a cell."""

    pieces: tuple[PrintedPiece, ...]
    """The pieces in reading order."""
    is_rtl: bool = False
    """Whether most of its letters run from right to left."""
    is_on_page: bool = True
    """Whether the page shows these characters; false for the LaTeX of a formula."""


def printed(cell: Cell) -> Printed:
    """Return the text of a cell, empty for a picture.

    Marks of Markdown are left out, and a table is the texts of its cells row by row, as in plain text.
    """
    if cell.category == PICTURE:
        return Printed(())
    if cell.category == FORMULA:
        return Printed(_pieces(formula_body(cell.text) or cell.text, 0, 0), is_on_page=False)
    if is_table(cell.text):
        rows = [row.split("\t") for row in table_text(cell.text).split("\n")]
    else:
        rows = [[without_marks(cell.text)]]
    pieces = [
        piece
        for row, fields in enumerate(rows)
        for field, text in enumerate(fields)
        for piece in _pieces(text, row, field)
    ]
    rtl, ltr = (sum(len(each.text) for each in pieces if getattr(each, name)) for name in ("is_rtl", "is_ltr"))
    return Printed(tuple(pieces), is_rtl=rtl > ltr)


def _pieces(text: str, row: int, field: int) -> tuple[PrintedPiece, ...]:
    found = []
    for token in text.split():
        for number, part in enumerate(_parts(token)):
            rtl, ltr = _directions(part)
            found.append(PrintedPiece(part, width_em(part), row, field, number > 0, rtl, ltr))
    return tuple(found)


def _parts(token: str) -> list[str]:
    """Return the parts of a word between which a printed line may end."""
    parts: list[str] = []
    for text in BREAKS_AFTER.split(token):
        was_wide = True
        for place, character in enumerate(text):
            is_wide = _is_wide(character)
            if place == 0 or ((is_wide or was_wide) and not _stays(character)):
                parts.append(character)
            else:
                parts[-1] += character
            was_wide = is_wide
    return parts


@cache
def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


@cache
def _stays(character: str) -> bool:
    """Return whether a character does not begin a line: closing marks and combining signs."""
    return unicodedata.category(character) in ("Pe", "Pf", "Po", "Mn", "Mc", "Me") and character not in "'\"@#&"


def _directions(text: str) -> tuple[bool, bool]:
    """Return whether a text has letters that run from right to left, and from left to right."""
    kinds = {unicodedata.bidirectional(character) for character in text}
    return bool(kinds & {"R", "AL"}), "L" in kinds


def width_em(text: str) -> float:
    """Return the width of a text in proportional type, in em; LaTeX commands count as one character."""
    shown = text
    if INLINE_FORMULA.search(text):
        shown = re.sub(r"[${}^_]", "", COMMAND.sub("x", text))
    return max(sum(map(_width_em, shown)), 0.1)


@cache
def _width_em(character: str) -> float:
    if (known := WIDTHS_EM.get(character)) is not None:
        return known
    if _is_wide(character):
        return 1.0
    kind = unicodedata.category(character)
    if kind.startswith("M") or kind == "Cf":
        return 0.0
    decomposed = unicodedata.normalize("NFD", character)[0]
    if decomposed != character:
        return _width_em(decomposed)
    return CAPITAL_EM if kind == "Lu" else OTHER_EM
