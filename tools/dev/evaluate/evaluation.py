"""Reads pages whose content is known and sums up what was read wrongly, by group and by category."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dotsctl.protocol.errors import DotsctlError
from dotsctl.tools.measuring.scores import STRICT, Box, BoxScore, Score, edit_distance, normal, pairs
from dotsctl.tools.pages.truths import Truth
from PIL import Image


class AnsweredCell(Protocol):
    """The fields of a client's ``Cell`` that are used."""

    @property
    def bbox(self) -> tuple[int, int, int, int] | None:
        """The box in pixels of the page."""

    @property
    def category(self) -> str:
        """Kind of element."""

    @property
    def text(self) -> str:
        """Markdown."""


class ReadPage(Protocol):
    """The fields of a client's ``Page`` that are used."""

    @property
    def index(self) -> int:
        """Position of the page among those that were submitted, from 0."""

    @property
    def text(self) -> str:
        """The answer as it is."""

    @property
    def markdown(self) -> str:
        """The answer without boxes."""

    @property
    def plain_text(self) -> str:
        """The answer without boxes and without marks of Markdown or HTML."""

    @property
    def cells(self) -> Sequence[AnsweredCell]:
        """Elements of a layout answer."""

    @property
    def finish_reason(self) -> str | None:
        """The reason why the answer ended."""

    @property
    def tokens(self) -> Mapping[str, int]:
        """The numbers of tokens that the ``image``, the ``prompt`` with it, and the ``completion`` took."""

    @property
    def error(self) -> object | None:
        """The reason why nothing was read."""


Read = Callable[[Iterable[Image.Image | Path]], Iterable[ReadPage]]
"""Reads pages in any order."""


@dataclass(frozen=True)
class EvaluatedPage:
    """One page that was read, for the report."""

    truth: Truth
    answer: str
    """The answer as it is."""
    read: str
    """The answer without boxes."""
    expected: str
    edits: int
    cells: tuple[tuple[str, Box], ...]
    """Categories and boxes that were answered."""
    tokens: Mapping[str, int]
    note: str
    """A note about what was wrong besides the characters; empty: nothing."""


@dataclass
class Evaluation:
    """Scores of all pages."""

    task: str = "text"
    total: Score = field(default_factory=Score)
    groups: dict[str, Score] = field(default_factory=dict)
    boxes: dict[str, BoxScore] = field(default_factory=dict)
    """The scores of boxes by category."""
    all_boxes: BoxScore = field(default_factory=BoxScore)
    matched: Score = field(default_factory=Score)
    """Text of elements whose box overlaps by at least STRICT."""
    answers: int = 0
    """Layout answers that the model gave; a blank page that was never shown to it gives none."""
    valid_json: int = 0
    seconds: float = 0.0
    readings: list[EvaluatedPage] = field(default_factory=list)

    @property
    def json_share(self) -> float | None:
        """Share of the layout answers that are a JSON list as they are; none without such answers."""
        return self.valid_json / self.answers if self.answers else None


def evaluate(read: Read, pages: Iterable[Truth], task: str = "text") -> Evaluation:
    """Send pages through ``read`` and score every answer against the truth.

    Raises:
        DotsctlError: a page was lost, or answered twice.
    """
    evaluation, truths = Evaluation(task), list[Truth]()

    def images() -> Iterator[Image.Image | Path]:
        for page in pages:
            truths.append(page)
            yield page.image

    start, answered = time.monotonic(), set[int]()
    for answer in read(images()):
        answered.add(answer.index)
        _score(evaluation, truths[answer.index], answer)
    evaluation.seconds = time.monotonic() - start
    if len(answered) != len(truths) or evaluation.total.pages != len(truths):
        raise DotsctlError(f"{evaluation.total.pages} answers to {len(truths)} pages: the client lost or doubled some")
    return evaluation


def _score(evaluation: Evaluation, truth: Truth, answer: ReadPage) -> None:
    """Count one page."""
    failed, notes, cells = answer.error is not None, [], list[AnsweredCell]()
    expected = truth.text if evaluation.task == "text" else truth.markdown
    text = "" if failed else answer.plain_text if truth.is_plain else answer.markdown
    if evaluation.task.startswith("layout") and not failed:
        if answer.finish_reason != "blank":
            evaluation.answers += 1
            valid = is_list(answer.text)
            evaluation.valid_json += valid
            notes += [] if valid else ["no JSON"]
        cells = [cell for cell in answer.cells if cell.bbox is not None]
    if evaluation.task == "layout-only":
        expected = text = ""
    named = [(_category(truth, cell.category), _floats(cell.bbox)) for cell in cells]
    if truth.elements is not None and evaluation.task.startswith("layout"):
        _score_boxes(evaluation, truth, cells, named)
    edits = edit_distance(expected, text)
    for score in (evaluation.total, evaluation.groups.setdefault(truth.group, Score())):
        score.add(len(normal(expected)), edits, failed=failed)
    if failed:
        notes.append(f"failed: {answer.error}")
    elif answer.finish_reason in ("length", "loop"):
        notes.append(f"ended by {answer.finish_reason}")
    shown = str(answer.text) if not failed else ""
    evaluation.readings.append(
        EvaluatedPage(truth, shown, text, expected, edits, tuple(named), answer.tokens, ", ".join(notes))
    )


def _score_boxes(
    evaluation: Evaluation, truth: Truth, cells: Sequence[AnsweredCell], named: Sequence[tuple[str, Box]]
) -> None:
    elements = truth.elements or ()
    found = pairs([(element.category, element.box) for element in elements], named)
    categories = {element.category for element in elements} | {category for category, _ in named}
    for category in categories:
        overlaps = [share for i, _, share in found if elements[i].category == category]
        counts = (
            sum(element.category == category for element in elements),
            sum(name == category for name, _ in named),
        )
        for score in (evaluation.all_boxes, evaluation.boxes.setdefault(category, BoxScore())):
            score.add(*counts, overlaps)
    if evaluation.task == "layout":
        for i, j, share in found:
            if share >= STRICT:
                text = elements[i].text
                evaluation.matched.add(len(normal(text)), edit_distance(text, cells[j].text), failed=False)


def _category(truth: Truth, name: str) -> str:
    return "Section-header" if truth.titles_are_headers and name == "Title" else name


def _floats(box: tuple[int, int, int, int] | None) -> Box:
    x0, y0, x1, y1 = box or (0, 0, 0, 0)
    return float(x0), float(y0), float(x1), float(y1)


def is_list(answer: str) -> bool:
    """Return whether a layout answer is a JSON list as it is, without any repair."""
    try:
        return isinstance(json.loads(answer), list)
    except ValueError:
        return False


def record(evaluation: Evaluation, **facts: Any) -> dict[str, Any]:
    """The evaluation as JSON; an infinite error rate is none."""

    def entry(score: Score) -> dict[str, Any]:
        rate = score.error_rate
        return {**asdict(score), "error_rate": rate if rate != float("inf") else None}

    def box_entry(score: BoxScore) -> dict[str, Any]:
        means = {"mean_overlap": score.mean_overlap, "f1_loose": score.f1(strict=False), "f1": score.f1(strict=True)}
        return {**asdict(score), **means}

    found = {
        **facts,
        "task": evaluation.task,
        **entry(evaluation.total),
        "seconds": round(evaluation.seconds, 3),
        "groups": {name: entry(score) for name, score in sorted(evaluation.groups.items())},
    }
    if evaluation.task.startswith("layout"):
        found |= {
            "answers": evaluation.answers,
            "valid_json": evaluation.valid_json,
            "boxes": box_entry(evaluation.all_boxes),
            "categories": {name: box_entry(score) for name, score in sorted(evaluation.boxes.items())},
            "matched_text": entry(evaluation.matched),
        }
    return found
