"""What kind of answer each task has: cells as JSON, lines with corners, or text. Pure."""

from typing import Protocol

from dotsctl.client.cells import CUT, LOST, REPAIRED, Cell, CellStream
from dotsctl.client.scene import SceneStream
from dotsctl.protocol.geometry import PageGeometry

TEXT = "text"
LAYOUT = "layout"
"""Tasks whose name begins so answer with a JSON list of cells."""
WEB = "web"
SCENE = "scene"
SVG = "svg"


class AnswerStream(Protocol):
    """Reads one answer in pieces."""

    def push(self, text: str) -> list[Cell]:
        """Take the next piece; returns the cells that it completes, in reading order."""

    def finish(self) -> tuple[list[Cell], tuple[str, ...]]:
        """The answer is at its end: the last cells, and all that was wrong, in words."""


def has_list(task: str) -> bool:
    """Whether the answer is a JSON list of cells."""
    return task.startswith(LAYOUT) or task == WEB


def has_cells(task: str) -> bool:
    """Whether the answer tells where on the page things are."""
    return has_list(task) or task == SCENE


def cell_stream(task: str, geometry: PageGeometry) -> AnswerStream:
    """What reads the answer of a task that has cells."""
    return SceneStream(geometry) if task == SCENE else CellStream(geometry)


def read_answer(task: str, answer: str, geometry: PageGeometry) -> tuple[tuple[Cell, ...], tuple[str, ...]]:
    """The cells of an answer, none where the task has none, and what had to be repaired, in words."""
    if not has_cells(task):
        return (), ()
    stream = cell_stream(task, geometry)
    cells = stream.push(answer)
    rest, repairs = stream.finish()
    return (*cells, *rest), repairs


def is_damaged(task: str, answer: str, geometry: PageGeometry) -> bool:
    """Whether cells of an answer are lost or cut, or their fields had to be picked out of broken JSON.

    A list that is not closed, or a backslash too many, costs nothing and is no damage.
    """
    _, repairs = read_answer(task, answer, geometry)
    return any(repair.endswith((CUT, LOST, REPAIRED)) for repair in repairs)
