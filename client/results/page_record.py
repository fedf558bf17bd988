"""Restores a page from its record, as it is stored in JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dotsctl.client.inputs.pages import BYTES_NAME, IMAGE_NAME
from dotsctl.client.results.cell import Cell
from dotsctl.client.results.page import SCHEMA, Failure, Page
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.typed_values import from_plain

WITHOUT_PATH = ("-", BYTES_NAME, IMAGE_NAME)
"""Sources that are no files."""


@dataclass(frozen=True)
class PageRecord:
    """The keys of a record that are not derived from others; see :meth:`Page.record`."""

    schema: str
    path: str
    page: int
    num_pages: int
    status: str
    cells: tuple[Cell, ...]
    raw: str
    repaired: tuple[str, ...]
    tokens: dict[str, int]
    timing_ms: dict[str, float]
    model: dict[str, str]
    encoder: str
    decoder: str
    task: str
    attempt: int
    width: int | None = None
    height: int | None = None
    input_width: int | None = None
    input_height: int | None = None
    quality: str | None = None
    resolution_loss: float | None = None
    finish_reason: str | None = None
    reread: str = ""
    warning: str = ""
    hint: str = ""
    error: Failure | None = None

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"the schema is {self.schema[:40]!r}, not {SCHEMA!r}")
        if not {"name", "digest"} <= self.model.keys():
            raise ValueError("model has no name and digest")


def read_record(record: Mapping[str, Any]) -> Page:
    """See :meth:`Page.from_record`. Raises UsageError."""
    try:
        content = dict(record)
        if isinstance(cells := content.get("cells"), list):
            content["cells"] = [{"polygon": None, **cell} if isinstance(cell, dict) else cell for cell in cells]
        stored = from_plain(PageRecord, content, ignore_unknown=True)
    except (TypeError, ValueError) as error:
        raise UsageError(f"not a page record: {error}", "give an object of 'dotsctl ocr -f json'") from None
    same = ({each.name for each in fields(PageRecord)} & {each.name for each in fields(Page)}) - {"path", "model"}
    return Page(
        **{name: getattr(stored, name) for name in same},
        source=stored.path,
        path=None if stored.path in WITHOUT_PATH else Path(stored.path),
        text=stored.raw,
        timings_ms=stored.timing_ms,
        model=stored.model["name"],
        fingerprint=stored.model["digest"],
    )
