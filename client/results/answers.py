"""The kind of answer of each task: cells as JSON, lines with corners, or text. Pure."""

from typing import Protocol

from dotsctl.client.results.cells import Cell, CellStream
from dotsctl.client.results.repairs import Repair, repairs_in
from dotsctl.client.results.scene import SceneStream
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.model.tasks import AnswerKind, answer_kind


class AnswerStream(Protocol):
    """Reads one answer in pieces."""

    def push(self, text: str) -> list[Cell]:
        """Take the next piece; returns the cells that it completes, in reading order."""

    def finish(self) -> tuple[list[Cell], tuple[str, ...]]:
        """End the answer: return the last cells, and all that was wrong, as text."""


def has_list(task: str) -> bool:
    """Return whether the answer is a JSON list of cells."""
    return answer_kind(task) is AnswerKind.CELLS


def has_cells(task: str) -> bool:
    """Return whether the answer gives the positions of things on the page."""
    return answer_kind(task) in (AnswerKind.CELLS, AnswerKind.LINES)


def cell_stream(task: str, geometry: PageGeometry) -> AnswerStream:
    """Return the parser for the answer of a task that has cells."""
    return CellStream(geometry) if has_list(task) else SceneStream(geometry)


def read_answer(task: str, answer: str, geometry: PageGeometry) -> tuple[tuple[Cell, ...], tuple[str, ...]]:
    """Return the cells of an answer, none where the task has none, and what had to be repaired, as text."""
    if not has_cells(task):
        return (), ()
    stream = cell_stream(task, geometry)
    cells = stream.push(answer)
    rest, repairs = stream.finish()
    return (*cells, *rest), repairs


def is_damaged(task: str, answer: str, geometry: PageGeometry) -> bool:
    """Return whether cells of an answer are lost or cut, or their fields had to be picked out of broken JSON.

    A list that is not closed, or a backslash too many, costs nothing and is no damage.
    """
    _, repairs = read_answer(task, answer, geometry)
    return bool(repairs_in(repairs) & {Repair.CUT, Repair.LOST, Repair.RECOVERED})
