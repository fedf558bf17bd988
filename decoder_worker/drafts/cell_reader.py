"""Follows a layout answer field by field while it is written, whatever its tokens are. Pure.

An answer is a list of ``{"bbox": [x0, y0, x1, y1], "category": ..., "text": ...}``. What stands between two fields is a
*frame*. Frames are learnt from the answer, so that one with other spaces, or without texts, is followed as well.
"""

import re
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple


class Field(IntEnum):
    """The kinds of fields of a cell."""

    SIDE_0 = 0
    SIDE_1 = 1
    SIDE_2 = 2
    SIDE_3 = 3
    CATEGORY = 4
    TEXT = 5


class Frame(NamedTuple):
    """The text between two fields."""

    text: str
    leads_to: Field


NEXT_CELL = Frame('"}, {"bbox": [', Field.SIDE_0)
SIDES = (Field.SIDE_0, Field.SIDE_1, Field.SIDE_2, Field.SIDE_3)
PICTURE = "Picture"
"""The category of cells without text."""
BOX_BEGINS = re.compile(r'"bbox"\s*:\s*\[\s*\Z')
FIELD_BEGINS = re.compile(r'"(category|text)"\s*:\s*"\Z')
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
LONGEST_FRAME = 200
"""Characters after which a frame is no longer one."""


@dataclass
class ReadCell:
    """The fields of a cell as far as they were written."""

    sides: list[int] = field(default_factory=list)
    category: str = ""
    text: str = ""
    """The text without JSON's backslashes."""


@dataclass
class CellReader:
    """Reads one answer, a piece at a time."""

    has_text: bool = True
    """Whether cells are expected to have texts."""
    cells: list[ReadCell] = field(default_factory=list)
    """All cells that have begun."""
    at: Field | None = None
    """The field that is being written; none: a frame is."""
    last: Field | None = None
    """The field before the frame that is being written; none: there was none yet."""
    written: str = ""
    """The part that is there of the frame, side or category that is being written."""
    _escape: str = ""
    _frames: dict[tuple[Field | None, str], Frame] = field(default_factory=dict)

    def push(self, character: str) -> None:
        """Take the next character of the answer."""
        if self.at is None:
            self._push_frame(character)
        elif self.at is Field.TEXT:
            self._push_text(character)
        elif self.at is Field.CATEGORY:
            if character == '"':
                self._end(character)
            else:
                self.cells[-1].category += character
                self.written += character
        elif character.isdecimal():
            self.written += character
        else:
            self.cells[-1].sides.append(int(self.written[:9]))
            self._end("")
            self._push_frame(character)

    @property
    def cell(self) -> ReadCell | None:
        """The cell that has begun last; none: none has."""
        return self.cells[-1] if self.cells else None

    def frame(self, after: Field | None, category: str = "") -> Frame:
        """Return what is expected behind a field; ``category`` is that of its cell."""
        if after is Field.CATEGORY:
            found = self._frames.get((after, category)) or self._frames.get((after, ""))
            if found is not None and (category, found.leads_to) != (PICTURE, Field.TEXT):
                return found
            has_text = self.has_text and category != PICTURE
            return Frame('", "text": "', Field.TEXT) if has_text else NEXT_CELL
        if (learnt := self._frames.get((after, ""))) is not None:
            return learnt
        if after is None:
            return Frame('[{"bbox": [', Field.SIDE_0)
        if after is Field.SIDE_3:
            return Frame('], "category": "', Field.CATEGORY)
        return NEXT_CELL if after is Field.TEXT else Frame(", ", Field(after + 1))

    def _push_frame(self, character: str) -> None:
        if character.isdecimal():
            if BOX_BEGINS.search(self.written):
                self.cells.append(ReadCell())
                self._begin(Field.SIDE_0, character)
                return
            if self.last in SIDES[:3] and self.written.strip() == ",":
                self._begin(Field(self.last + 1), character)
                return
        self.written = (self.written + character)[-LONGEST_FRAME:]
        if character == '"' and self.cells and (found := FIELD_BEGINS.search(self.written)):
            self._begin(Field.TEXT if found[1] == "text" else Field.CATEGORY, "")

    def _begin(self, to: Field, written: str) -> None:
        """Begin a field, and learn the frame before it."""
        frame = Frame(self.written, to)
        self._frames[self.last, ""] = frame
        if self.last is Field.CATEGORY:
            self._frames[self.last, self.cells[-2 if to is Field.SIDE_0 else -1].category] = frame
        self.at, self.written = to, written

    def _end(self, frame: str) -> None:
        self.at, self.last, self.written, self._escape = None, self.at, frame, ""

    def _push_text(self, character: str) -> None:
        cell = self.cells[-1]
        if self._escape:
            self._escape += character
            if self._escape[1] == "u" and len(self._escape) < 6:
                return
            cell.text += _unescaped(self._escape)
            self._escape = ""
        elif character == "\\":
            self._escape = character
        elif character == '"':
            self._end(character)
        else:
            cell.text += character


def _unescaped(escape: str) -> str:
    """Return the character that a JSON escape stands for; of one that is none, the character behind the backslash."""
    if escape[1] == "u":
        try:
            return chr(int(escape[2:], 16))
        except ValueError:
            return ""
    return ESCAPES.get(escape[1], escape[1])
