"""A page that was read, as the library returns it and as it is stored in JSON: :class:`Page`.

The JSON form has ``"schema": "dotsctl/1"``; keys are only ever added to it. Its ``cells`` hold ``bbox``,
``category`` and ``text`` as dots.ocr's own tools write them.

``timing_ms`` (:attr:`Page.timings_ms`) has the stages of a page in their order, each in milliseconds:

- ``queue``: in the runtime, before the encoder gets the page. The second wait of pages that are
  encoded ahead is not part of it.
- ``open``, ``resize``: the picture's bytes to pixels, those to patches; beside the computation of the page before.
- ``prepare_wait``: the part of these two for which the encoder stood still, as the page before was done already.
- ``encode``: the vision tower.
- ``encode_total``: the encoder's time for the page: a little more than ``prepare_wait`` and ``encode`` together.
- ``wait``: with the decoder, before there was room in its batch.
- ``first_token``: from there to the first token, which is the prefill of the prompt and the embeddings.
- ``decode``: from the same moment to the last token; ``first_token`` is part of it, and so is the work for other pages
  of the batch.
- ``total``: from the runtime's acceptance of the page to its result. It holds what stands above except its parts
  (``open``, ``resize``, ``prepare_wait``, ``encode``, ``first_token``), the way between the processes, and attempts
  that a worker's death ended.

A blank page ends with ``encode_total`` and ``total``; one that failed has none; one that was read twice has those of
the time whose text it has. ``encode`` is all that a plugin does not name otherwise.
"""

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.results.answers import has_cells, has_list, read_answer
from dotsctl.client.results.cell import Cell
from dotsctl.client.results.cells import BEGUN_LIST, EMPTY_LIST
from dotsctl.client.results.markdown import to_markdown, to_plain, unfenced, without_marks
from dotsctl.client.results.repairs import Repair, is_text_lost
from dotsctl.protocol.errors import PageError
from dotsctl.protocol.messages import PageResult
from dotsctl.protocol.model.tasks import AnswerKind, answer_kind
from dotsctl.protocol.parts import FinishReason, Quality

SCHEMA = "dotsctl/1"
OK, PARTIAL, FAILED, BLANK = "ok", "partial", "failed", "blank"

__all__ = ["BLANK", "FAILED", "OK", "PARTIAL", "SCHEMA", "Cell", "Failure", "Page"]


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why a page could not be read."""

    code: str
    """One of :class:`dotsctl.protocol.errors.ErrorCode`, as ``E_BAD_IMAGE``."""
    problem: str
    """The problem. For a failure in the runtime, whose messages are one text, it includes the remedy."""
    remedy: str = ""
    """The remedy; empty where there is none, or where ``problem`` includes it."""

    @classmethod
    def of(cls, error: PageError) -> "Failure":
        """Return the failure of a page that raised this error."""
        return cls(error.code, error.problem, error.remedy)

    @property
    def message(self) -> str:
        """Problem and remedy in one text."""
        return str(PageError(self.problem, self.remedy))


@dataclass(frozen=True)
class Page:
    """One page: what was read from it, or why it was not."""

    source: str
    """Name of the input: the path as given, ``-``, ``<bytes>`` or ``<image>``."""
    path: Path | None
    page: int
    """Page of its source, from 1."""
    num_pages: int
    status: str
    """``ok``; ``blank``: there is nothing on it; ``partial``: a part of its text is missing; ``failed``: see
    ``error``."""
    text: str = ""
    """The model's answer as it is."""
    cells: tuple[Cell, ...] = ()
    """Elements with boxes, in reading order; empty unless the answers to the task have boxes."""
    width: int | None = None
    """Pixels of the page as viewers show it, EXIF orientation applied; none for a failed page, as the next five."""
    height: int | None = None
    input_width: int | None = None
    """Pixels that the encoder saw."""
    input_height: int | None = None
    quality: str | None = None
    """Resolution at which the page was read: ``full``, ``balanced`` or ``fast``."""
    resolution_loss: float | None = None
    """Share of the resolution of that quality that the encoder's page sizes cost, in the axis that lost more; 0 to 1.
    The greatest one where a prompt has several images."""
    finish_reason: str | None = None
    """``stop``, ``length``, ``loop`` or ``blank``; none for a failed page."""
    tokens: dict[str, int] = field(default_factory=lambda: {"image": 0, "prompt": 0, "completion": 0})
    timings_ms: dict[str, float] = field(default_factory=dict)
    """Milliseconds by stage, which are explained at the top of this file."""
    model: str = ""
    fingerprint: str = ""
    """sha256 of the model."""
    encoder: str = ""
    decoder: str = ""
    task: str = ""
    attempt: int = 0
    """The number of attempts to read the page, worker restarts included; 0 for a failed page."""
    repaired: tuple[str, ...] = ()
    """The faults of a layout answer, as phrases."""
    reread: str = ""
    """The reason why it was read a second time, ``loop``, ``length`` or ``damaged``; empty: it was read once."""
    warning: str = ""
    """The doubt about the model that the readiness page raised; empty: none."""
    hint: str = ""
    """The source of the text that drafts came from: a hint plugin, or ``user``; empty: there was none."""
    error: Failure | None = None
    index: int = 0
    """The place among all pages of the call, from 0, in the order of the inputs."""
    chosen: Sequence[int] | None = field(default=None, repr=False)
    """The pages of its source that were requested, ascending; none: all."""

    @property
    def requested(self) -> Sequence[int]:
        """The pages of its source that are read, ascending."""
        return range(1, self.num_pages + 1) if self.chosen is None else self.chosen

    @property
    def turn(self) -> int:
        """The place among the pages of its source that are read, from 0."""
        return bisect.bisect_left(self.requested, self.page)

    @property
    def markdown(self) -> str:
        """The page as Markdown: cells joined by blank lines, or the text when the task gives no cells."""
        return self.to_markdown()

    @property
    def plain_text(self) -> str:
        """The plain text: without the marks of Markdown, tables as cells between tabulators."""
        return self.to_plain_text()

    def to_markdown(self, *, header_footer: bool = True, pictures: Mapping[int, str] | None = None) -> str:
        """The page as Markdown; an answer without the cells that it should have is given as it is.

        Args:
            header_footer: whether the page's header and footer are part of it.
            pictures: where pictures are, as a path with ``/`` or a ``data:`` address, by their place among the cells.
        """
        if self._is_cells:
            return to_markdown(self.cells, header_footer=header_footer, pictures=pictures)
        if self._is_cut_before_cells:
            return f"<!-- page {self.page}: the answer was cut off before the first element -->"
        return unfenced(self.text) if answer_kind(self.task) is AnswerKind.CODE else self.text

    def to_plain_text(self, *, header_footer: bool = True) -> str:
        """The plain text; an answer that is no page of text, as one to a question, is returned as it is."""
        if self._is_cells:
            return to_plain(self.cells, header_footer=header_footer)
        if self._is_cut_before_cells:
            return ""
        is_page = answer_kind(self.task) is AnswerKind.MARKDOWN
        return without_marks(self.text) if is_page else self.to_markdown()

    @property
    def _is_cut_before_cells(self) -> bool:
        """Return whether the answer is the beginning of a list, which is nothing to read."""
        return has_list(self.task) and BEGUN_LIST.match(self.text) is not None

    @property
    def _is_cells(self) -> bool:
        """Return whether the answer was read as cells, be it none."""
        is_empty = has_list(self.task) and EMPTY_LIST.fullmatch(self.text) is not None
        return has_cells(self.task) and (bool(self.cells) or is_empty)

    @classmethod
    def from_result(
        cls,
        page: PageInput,
        result: PageResult,
        *,
        model: str,
        fingerprint: str,
        task: str,
        reread: str = "",
        quality: Quality = Quality.FULL,
    ) -> "Page":
        """The page that a runtime has read."""
        geometry = result.geometries[0]
        cells, repaired = read_answer(task, result.text, geometry)
        if result.finish_reason is FinishReason.BLANK and page.has_text():
            repaired = (*repaired, Repair.MISSING_FONTS)
        return cls(
            source=page.source,
            path=page.path,
            page=page.page,
            num_pages=page.num_pages,
            chosen=page.chosen,
            status=_status(result.finish_reason, repaired),
            text=result.text,
            cells=cells,
            width=geometry.oriented[0],
            height=geometry.oriented[1],
            input_width=geometry.resized[0],
            input_height=geometry.resized[1],
            quality=str(quality),
            resolution_loss=max(each.resolution_loss for each in result.geometries),
            finish_reason=str(result.finish_reason),
            tokens=_tokens(result),
            timings_ms=dict(result.timings_ms),
            model=model,
            fingerprint=fingerprint,
            encoder=result.encoder,
            decoder=result.decoder,
            task=task,
            attempt=result.attempt,
            repaired=repaired,
            reread=reread,
            warning=result.warning,
            hint=result.hint,
        )

    @classmethod
    def from_failure(cls, page: PageInput, failure: Failure, *, model: str, fingerprint: str, task: str) -> "Page":
        """The page that could not be read."""
        return cls(
            source=page.source,
            path=page.path,
            page=page.page,
            num_pages=page.num_pages,
            chosen=page.chosen,
            status=FAILED,
            model=model,
            fingerprint=fingerprint,
            task=task,
            error=failure,
        )

    def record(self, *, header_footer: bool = True) -> dict[str, Any]:
        """The page as JSON, schema ``dotsctl/1``; ``header_footer`` decides whether its ``md`` has them."""
        return {
            "schema": SCHEMA,
            "path": self.source,
            "page": self.page,
            "num_pages": self.num_pages,
            "status": self.status,
            "width": self.width,
            "height": self.height,
            "input_width": self.input_width,
            "input_height": self.input_height,
            "quality": self.quality,
            "resolution_loss": self.resolution_loss,
            "cells": [cell.record() for cell in self.cells],
            "md": self.to_markdown(header_footer=header_footer),
            "raw": self.text,
            "repaired": list(self.repaired),
            "finish_reason": self.finish_reason,
            "tokens": dict(self.tokens),
            "timing_ms": dict(self.timings_ms),
            "model": {"name": self.model, "digest": self.fingerprint},
            "encoder": self.encoder,
            "decoder": self.decoder,
            "task": self.task,
            "attempt": self.attempt,
            "reread": self.reread,
            "warning": self.warning,
            "hint": self.hint,
            "error": self.error and asdict(self.error),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Page":
        """The page whose :meth:`record` this is, as it is stored in JSON; keys of a later version are left out.

        Raises:
            UsageError: it is no record of a page.
        """
        from dotsctl.client.results.page_record import read_record

        return read_record(record)

    def _repr_markdown_(self) -> str:
        """Return the Markdown that a notebook shows."""
        return self.markdown if self.error is None else f"*{self.source}:{self.page} failed: {self.error.message}*"


def _status(reason: FinishReason, repaired: Sequence[str]) -> str:
    """Return the status line of a page that was read."""
    if is_text_lost(repaired):
        return PARTIAL
    if reason is FinishReason.BLANK:
        return BLANK
    return OK if reason is FinishReason.STOP else PARTIAL


def _tokens(result: PageResult) -> dict[str, int]:
    return {"image": result.image_tokens, "prompt": result.prompt_tokens, "completion": result.completion_tokens}
