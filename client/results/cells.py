"""Parses a layout answer of the model into cells with boxes on the page, while it is written or when it is damaged.

The model writes a list of ``{"bbox": [x0, y0, x1, y1], "category": ..., "text": ...}`` in pixels of the resized page.
Long answers are sometimes cut or wrong in one place, so each cell is decoded on its own: a damaged one costs only
itself, and a complete cell is never changed. Pure.

The beginning of a cell is a place that every reader finds again: ``{"bbox":`` cannot stand within a valid JSON string,
for there its quotes would have backslashes. Every decision is taken at one character, by what stands before it alone;
that is why the pieces in which an answer comes do not matter.
"""

import json
import re
from typing import Any

from dotsctl.client.results.cell import KEYS, Cell, cell_of
from dotsctl.client.results.cell_repair import read_damaged
from dotsctl.client.results.latex_escapes import commands_are_doubled, escapes_of
from dotsctl.client.results.repairs import Repair
from dotsctl.protocol.geometry import PageGeometry

__all__ = ["EMPTY_LIST", "Cell", "CellStream", "parse_cells"]

EMPTY_LIST = re.compile(r"\s*+(?:```\w*+\s*+)?\[\s*+\]\s*+(?:```\s*+)?")
"""The model's answer for a page without anything on it."""
BEGUN_LIST = re.compile(r"\s*+(?:```\w*+\s*+)?(?:\[|\{\s*+\")")
"""The beginning of a list of cells, or of a cell."""
SIGN = re.compile(r"""\\.?|["'{}\[\]:]""", re.DOTALL)
"""All that decides where a cell begins and ends; a backslash is taken together with what it stands before."""
FIRST_FIELD = re.compile(r"""(?:\{\s*(["'])\w+\1|(["'])bbox\2)\s*:\Z""")
"""The beginning of an object outside of any cell, or of a cell without its brace."""
NEXT_CELL = re.compile(r'\{\s*"(?:bbox|category|text)"\s*:\Z')
"""The beginning of a cell while another one is not at its end."""
NEXT_IN_PYTHON = re.compile(r"\{\s*'(?:bbox|category|text)'\s*:\Z")
"""The same, after one with the quotes of Python."""
FIELD_OF_CELL = re.compile(r"""["'](?:bbox|category|text)["']\s*:""")
CHARACTERS_BEFORE = 160
"""Characters in which the beginning of a cell is searched, in front of its first colon."""
LONGEST_INTEGER = 18


class CellStream:
    """Reads one answer in pieces: gives each cell as soon as it is complete."""

    def __init__(self, geometry: PageGeometry, is_doubled: bool | None = None) -> None:
        """Begin with the first cell.

        Args:
            geometry: maps boxes to the page.
            is_doubled: whether the answer's LaTeX has two backslashes, where more of it is known than comes here; see
                ``latex_escapes``. None: the cells before decide for those that do not show it.
        """
        self._geometry, self._is_doubled = geometry, is_doubled
        self._text = ""
        """The text that was not made into cells yet."""
        self._at = 0
        """The place up to which the text was scanned."""
        self._start: int | None = None
        """The place where the cell that is being read begins; none: outside of any."""
        self._quote = ""
        """The quote of the string that is being read; empty: outside of any."""
        self._depth = 0
        self._is_damaged = False
        """Whether the cell did not decode at its end; then it lasts until the next one."""
        self._has_list = False
        self._is_closed = False
        self._number = 0
        self._cells: list[Cell] = []
        self._repairs: list[str] = []

    def push(self, text: str) -> list[Cell]:
        """Take the next piece of the answer; returns the cells that it completes, in reading order."""
        self._text += text
        while sign := SIGN.search(self._text, self._at):
            if sign[0] == "\\":  # what it stands before has not come yet
                self._at = sign.start()
                return self._taken()
            self._at = sign.end()
            self._check_sign(sign[0], sign.start())
        self._at = len(self._text)
        return self._taken()

    def finish(self) -> tuple[list[Cell], tuple[str, ...]]:
        """End the answer: return the last cell, repaired where it is cut, and all that was wrong, as text."""
        if self._start is not None:
            self._give_damaged(self._text[self._start :], is_last=True)
            self._start = None
        elif self._number and self._has_list and not self._is_closed:
            self._repairs.append(Repair.NOT_CLOSED)
        self._text, self._at = "", 0
        return self._taken(), tuple(self._repairs)

    def _taken(self) -> list[Cell]:
        cells, self._cells = self._cells, []
        return cells

    def _check_sign(self, sign: str, at: int) -> None:
        """Follow the structure by one sign."""
        if sign == ":" and (start := self._beginning(at)) is not None:
            self._begin(start)
        elif self._start is None:
            self._has_list = self._has_list or (sign == "[" and not self._number)
            self._is_closed = self._is_closed or sign == "]"
        elif self._is_damaged:
            return
        elif self._quote:
            self._quote = "" if sign == self._quote else self._quote
        elif sign == '"' or sign == "'" == self._style():
            self._quote = sign
        elif sign in ("{", "["):
            self._depth += 1
        elif sign in ("}", "]"):
            self._depth -= 1
            if self._depth == 0:
                self._end(at + 1)

    def _style(self) -> str:
        """The quotes of the cell that is being read; those of Python where the model does not write JSON."""
        return next(sign for sign in self._text[self._start :] if sign in "\"'")

    def _beginning(self, colon: int) -> int | None:
        """Return where the object begins whose first field has its colon here, when it begins a cell."""
        before = self._text[max(0, colon - CHARACTERS_BEFORE) : colon + 1]
        found = (FIRST_FIELD if self._start is None else NEXT_CELL).search(before)
        if not found and self._start is not None and self._style() == "'" and self._quote != '"':
            found = NEXT_IN_PYTHON.search(before)  # in a text in double quotes it may stand as it is
        return colon + 1 - len(before) + found.start() if found else None

    def _begin(self, start: int) -> None:
        """A cell begins; one that is not at its end is damaged."""
        if self._start is not None:
            self._give_damaged(self._text[self._start : start], is_last=False)
        self._at -= start
        self._text = self._text[start:]
        self._start, self._quote, self._depth = 0, "", 1
        self._is_damaged = self._is_closed = False

    def _end(self, end: int) -> None:
        """The cell seems to be at its end: give it, or wait for the next one when it does not decode."""
        text = self._text[self._start : end]
        content, repair = _decoded(text, self._is_doubled)
        if content is None and self._style() == "'" and text.endswith("}"):
            content, repair = read_damaged(text, escapes_of(text, self._is_doubled), is_last=False), Repair.RECOVERED
        if content is None:
            self._is_damaged = True
            return
        self._note_escapes(text)
        self._give(content, repair)
        self._text, self._at, self._start = self._text[end:], 0, None

    def _give_damaged(self, text: str, *, is_last: bool) -> None:
        content = read_damaged(text, escapes_of(text, self._is_doubled), is_last=is_last)
        self._note_escapes(text)
        is_cut = is_last and not self._is_damaged
        if not (content.get("text") or content.get("bbox")):
            if FIELD_OF_CELL.search(text):  # otherwise it is what stands around the cells
                self._number += 1
                self._repairs.append((Repair.CUT if is_cut else Repair.LOST).of_cell(self._number))
            return
        self._give(content, Repair.CUT if is_cut else Repair.RECOVERED)

    def _note_escapes(self, cell: str) -> None:
        if self._is_doubled is None:
            self._is_doubled = commands_are_doubled(cell)

    def _give(self, content: dict[str, Any], repair: Repair | None) -> None:
        """Add a cell, and record what was repaired; an object without any field of a cell is none."""
        if not any(key in content for key in KEYS):
            return
        self._number += 1
        cell, problems = cell_of(content, self._geometry)
        if repair == Repair.CUT and cell.bbox is None:
            problems = [problem for problem in problems if problem != Repair.NO_BOX]
        self._repairs += [each.of_cell(self._number) for each in ([repair, *problems] if repair else problems)]
        self._cells.append(cell)


def parse_cells(answer: str, geometry: PageGeometry) -> tuple[tuple[Cell, ...], tuple[str, ...]]:
    """Return the cells of a layout answer, and what had to be repaired, as text.

    Args:
        answer: what the model wrote.
        geometry: how the page was resized; its boxes are mapped back with it.
    """
    stream = CellStream(geometry, commands_are_doubled(answer))
    cells = stream.push(answer)
    rest, repairs = stream.finish()
    return (*cells, *rest), repairs


def _integer(digits: str) -> int | float:
    """Python refuses integers of thousands of digits, and would lose the cell with them."""
    return int(digits) if len(digits) <= LONGEST_INTEGER else float(digits)


DECODER = json.JSONDecoder(strict=False, parse_int=_integer)
"""Takes line breaks within texts, which the model writes as they are."""


def _decoded(text: str, is_doubled: bool | None) -> tuple[dict[str, Any] | None, Repair | None]:
    """Return the object that is a complete cell, and the repair that it needed; none when it is damaged."""
    braced = text if text.startswith("{") else "{" + text
    sound = escapes_of(braced, is_doubled)(braced)
    try:
        content = DECODER.decode(sound)
    except (ValueError, RecursionError):
        return None, None  # its fields are read one by one
    repair = Repair.SINGLE_BACKSLASHES if sound != braced else None
    return content, repair if text is braced else Repair.RECOVERED
