"""The faults that a layout answer can have, and what they cost. Pure."""

from collections.abc import Sequence
from enum import Enum, StrEnum


class Grade(Enum):
    """The effect of a repair on the page."""

    HARMLESS = 1
    """Everything that the model wrote was read."""
    RECOVERED = 2
    """The text was picked out of broken JSON."""
    LOST = 3
    """A part of a text, or where it stands, is not known; the page is ``partial``."""


class Repair(StrEnum):
    """A problem of an answer, as it is reported."""

    SINGLE_BACKSLASHES = "LaTeX with single backslashes"
    BOX_IN_QUOTES = "coordinates of the box in quotes"
    NOT_CLOSED = "the closing bracket is missing"
    RECOVERED = "broken JSON, whose fields were recovered"
    NO_BOX = "no usable box"
    BOX_OUTSIDE = "its box lies outside of the page"
    NO_TEXT = "its text is not a string"
    MISSING_FONTS = "the page looks blank but has text, whose fonts are missing in the PDF; embed the fonts"
    CUT = "the answer is cut off here"
    LOST = "broken JSON that could not be read"

    @property
    def grade(self) -> Grade:
        """Return the effect of the repair."""
        return GRADES.get(self, Grade.LOST)

    def of_cell(self, number: int) -> str:
        """The problem with its place, the number of a cell from 1."""
        return f"cell {number}: {self}"


GRADES = {
    Repair.SINGLE_BACKSLASHES: Grade.HARMLESS,
    Repair.BOX_IN_QUOTES: Grade.HARMLESS,
    Repair.BOX_OUTSIDE: Grade.HARMLESS,
    Repair.NOT_CLOSED: Grade.HARMLESS,
    Repair.RECOVERED: Grade.RECOVERED,
}


def repairs_in(notes: Sequence[str]) -> set[Repair]:
    """Return the problems that the notes of a page name."""
    return {Repair(note.rpartition(": ")[2]) for note in notes}


def is_text_lost(notes: Sequence[str]) -> bool:
    """Return whether a part of the page is missing."""
    return any(repair.grade is Grade.LOST for repair in repairs_in(notes))
