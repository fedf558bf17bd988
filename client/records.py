"""A page that was read, as the library returns it and as it stands in JSON: :class:`Page`.

The JSON form has ``"schema": "dotsctl/1"``; keys are only ever added to it. Its ``cells`` hold ``bbox``,
``category`` and ``text`` as dots.ocr's own tools write them.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dotsctl.client.cells import EMPTY_LIST, Cell, parse_cells
from dotsctl.client.inputs import PageInput
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.messages import PageResult
from dotsctl.protocol.parts import FinishReason, Geometry

SCHEMA = "dotsctl/1"
OK, PARTIAL, FAILED = "ok", "partial", "failed"
LAYOUT = "layout"
"""Tasks whose name begins so answer with a JSON list of cells."""

__all__ = ["FAILED", "OK", "PARTIAL", "SCHEMA", "Cell", "Failure", "Page"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a page could not be read."""

    code: str
    """One of :class:`dotsctl.protocol.errors.ErrorCode`, as ``E_BAD_IMAGE``."""
    message: str
    """What happened and what to do about it."""


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
    """``ok``; ``partial``: the text is cut or was damaged; ``failed``: see ``error``."""
    text: str = ""
    """The model's answer as it is."""
    cells: tuple[Cell, ...] = ()
    """Elements with boxes, in reading order; empty unless the task asks for the layout."""
    width: int | None = None
    """Pixels of the page as viewers show it, EXIF orientation applied; none for a failed page, as the next three."""
    height: int | None = None
    input_width: int | None = None
    """Pixels that the encoder saw."""
    input_height: int | None = None
    finish_reason: str | None = None
    """``stop``, ``length`` or ``loop``; none for a failed page."""
    tokens: dict[str, int] = field(default_factory=lambda: {"image": 0, "prompt": 0, "completion": 0})
    timings_ms: dict[str, float] = field(default_factory=dict)
    """Milliseconds by stage."""
    model: str = ""
    fingerprint: str = ""
    """sha256 of the model."""
    encoder: str = ""
    decoder: str = ""
    task: str = ""
    attempt: int = 0
    """How often the page was tried, worker restarts included; 0 for a failed page."""
    repaired: tuple[str, ...] = ()
    """What was wrong with a layout answer, in words."""
    error: Failure | None = None
    index: int = 0
    """Place among all pages of the call, from 0, in the order of the inputs."""
    chosen: Sequence[int] | None = field(default=None, repr=False)
    """The pages of its source that were asked for, ascending; none: all."""

    @property
    def wanted(self) -> Sequence[int]:
        """The pages of its source that are read, ascending."""
        return range(1, self.num_pages + 1) if self.chosen is None else self.chosen

    @property
    def turn(self) -> int:
        """Place among the pages of its source that are read, from 0."""
        return bisect.bisect_left(self.wanted, self.page)

    @property
    def markdown(self) -> str:
        """The page as Markdown: cells joined by blank lines, or the text when the task gives no cells."""
        if not self.task.startswith(LAYOUT):
            return self.text
        if self.cells or EMPTY_LIST.fullmatch(self.text):
            return "\n\n".join(filter(None, (cell.markdown for cell in self.cells)))
        return self.text  # no list of cells: what the model wrote is better than nothing

    @property
    def plain_text(self) -> str:
        """The words alone: texts of the cells joined by blank lines, or the text."""
        if self.cells:
            return "\n\n".join(filter(None, (cell.text.strip() for cell in self.cells)))
        return self.markdown

    @classmethod
    def from_result(cls, page: PageInput, result: PageResult, *, model: str, fingerprint: str, task: str) -> "Page":
        """The page that a runtime has read."""
        geometry = page_geometry(result.geometries[0])
        cells, repaired = parse_cells(result.text, geometry) if task.startswith(LAYOUT) else ((), ())
        cut = result.finish_reason is not FinishReason.STOP
        return cls(
            source=page.source,
            path=page.path,
            page=page.page,
            num_pages=page.num_pages,
            chosen=page.chosen,
            status=PARTIAL if cut or repaired else OK,
            text=result.text,
            cells=cells,
            width=geometry.oriented[0],
            height=geometry.oriented[1],
            input_width=geometry.resized[0],
            input_height=geometry.resized[1],
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
        )

    @classmethod
    def from_failure(
        cls, page: PageInput, code: str, message: str, *, model: str, fingerprint: str, task: str
    ) -> "Page":
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
            error=Failure(str(code), message),
        )

    def record(self) -> dict[str, Any]:
        """The page as JSON, schema ``dotsctl/1``."""
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
            "cells": [
                {"bbox": cell.bbox and list(cell.bbox), "category": cell.category, "text": cell.text}
                for cell in self.cells
            ],
            "md": self.markdown,
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
            "error": self.error and {"code": self.error.code, "message": self.error.message},
        }


def _tokens(result: PageResult) -> dict[str, int]:
    return {"image": result.image_tokens, "prompt": result.prompt_tokens, "completion": result.completion_tokens}


def page_geometry(geometry: Geometry) -> PageGeometry:
    """The geometry of a message as the one that maps boxes."""
    return PageGeometry(
        source=geometry.source,
        orientation=geometry.orientation,
        resized=geometry.resized,
        scale=geometry.scale,
        offset=geometry.offset,
    )
