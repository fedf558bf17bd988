"""The result of ``dotsctl compare``: rows, medians, and both as text and JSON. Pure."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from dotsctl.client.results.page import Page
from dotsctl.tools.measuring.distance import Distance
from dotsctl.tools.measuring.scores import edit_distance, normal

SCHEMA = "dotsctl-compare/1"
REFERENCE = "(reference)"
COLUMNS = ("encoder", "ms", "grid", "cosine", "min cosine", "error", "other text")
"""Cosines are over tokens: the median, and the smallest."""


@dataclass(frozen=True)
class Version:
    """One page by one encoder."""

    encoder: str
    page: Page
    """The text that was read from its embeddings, or why nothing was."""
    grid: tuple[int, int] | None = None
    """Patches from top to bottom and from left to right; none: the encoder failed."""
    total_ms: float | None = None
    """The time from the bytes of the page to its embeddings."""
    distance: Distance | None = None
    """The distance to the reference's embeddings, on the same pixels."""
    note: str = ""

    def record(self) -> dict[str, Any]:
        """Return the fields of the JSON output."""
        page = self.page.record()
        kept = ("status", "width", "height", "input_width", "input_height", "finish_reason", "tokens", "error")
        distance = asdict(self.distance) if self.distance else dict.fromkeys(Distance.__dataclass_fields__)
        return {
            "encoder": self.encoder,
            "ms": self.total_ms,
            "timing_ms": page["timing_ms"],
            "grid": self.grid,
            **distance,
            "note": self.note,
            **{key: page[key] for key in kept},
            "md": page["md"],
            "raw": page["raw"],
        }


@dataclass(frozen=True)
class PageRow:
    """One page by all encoders; the last one is the reference."""

    versions: Sequence[Version]

    @property
    def reference(self) -> Version:
        """The last one."""
        return self.versions[-1]

    def error_rate(self, version: Version) -> float | None:
        """Edits from the reference's text to that of a version, per character of it; none: there are not two texts.

        Infinite where the reference has no text and the other has one.
        """
        if version.page.error is not None or self.reference.page.error is not None:
            return None
        expected, found = self.reference.page.markdown, version.page.markdown
        edits, characters = edit_distance(expected, found), len(normal(expected))
        return edits / characters if characters else math.inf if edits else 0.0

    def cells(self, version: Version) -> tuple[str, ...]:
        """Return a version as text, in the order of ``COLUMNS``."""
        distance, failure, is_reference = version.distance, version.page.error, version is self.reference
        numbers = (distance.cosine_median, distance.cosine_min, distance.relative_error) if distance else (None,) * 3
        return (
            f"{version.encoder} {REFERENCE}" if is_reference else version.encoder,
            shown_ms(version.total_ms),
            f"{version.grid[0]}x{version.grid[1]}" if version.grid else "",
            *_shown_distance(*numbers),
            f"failed: {failure.message}" if failure else "" if is_reference else shown_rate(self.error_rate(version)),
        )

    def record(self) -> dict[str, Any]:
        """Return the fields of the JSON output."""
        versions = []
        for version in self.versions:
            rate = None if version is self.reference else self.error_rate(version)
            finite = None if rate is None or math.isinf(rate) else rate
            versions.append({**version.record(), "error_rate": finite})
        page = self.reference.page
        return {"path": page.source, "page": page.page, "num_pages": page.num_pages, "encoders": versions}


@dataclass(frozen=True)
class Medians:
    """The medians over pages, for one encoder; none: no page has such a number."""

    encoder: str
    ms: float | None
    cosine_median: float | None = None
    cosine_min: float | None = None
    relative_error: float | None = None
    error_rate: float | None = None
    same_texts: int = 0
    texts: int = 0
    failed: int = 0

    def cells(self) -> tuple[str, ...]:
        """Return the medians as text, in the order of ``COLUMNS``."""
        same = f"{self.same_texts} of {self.texts} the same" if self.texts else ""
        failed = f"{self.failed} failed" if self.failed else ""
        return (
            self.encoder,
            shown_ms(self.ms),
            "",
            *_shown_distance(self.cosine_median, self.cosine_min, self.relative_error),
            ", ".join(filter(None, [shown_rate(self.error_rate), same, failed])),
        )


@dataclass
class EncoderComparison:
    """All rows."""

    about: dict[str, Any]
    """The facts about the comparison: model, decoder and task."""
    rows: list[PageRow] = field(default_factory=list)

    def medians(self) -> list[Medians]:
        """A line for each encoder, in order."""
        columns = zip(*(row.versions for row in self.rows), strict=True)
        return [self._medians(list(column)) for column in columns]

    def _medians(self, column: list[Version]) -> Medians:
        times = _median([each.total_ms for each in column if each.total_ms is not None])
        failed = sum(each.page.error is not None for each in column)
        if all(each is row.reference for each, row in zip(column, self.rows, strict=True)):
            return Medians(column[0].encoder, times, failed=failed)
        distances = [each.distance for each in column if each.distance]
        found = [row.error_rate(each) for each, row in zip(column, self.rows, strict=True)]
        rates = [rate for rate in found if rate is not None]
        return Medians(
            column[0].encoder,
            times,
            _median([each.cosine_median for each in distances]),
            _median([each.cosine_min for each in distances]),
            _median([each.relative_error for each in distances]),
            _median([rate for rate in rates if math.isfinite(rate)]),
            sum(rate == 0 for rate in rates),
            len(rates),
            failed,
        )

    def record(self) -> dict[str, Any]:
        """Return the fields of the JSON output."""
        return {
            "schema": SCHEMA,
            **self.about,
            "medians": [asdict(each) for each in self.medians()],
            "pages": [row.record() for row in self.rows],
        }

    def table(self) -> str:
        """Return the table as text: a line for each page and encoder, and the medians."""
        head = ("page", *COLUMNS)
        lines: list[tuple[str, ...]] = [head]
        for row in self.rows:
            lines += _lines(row)
        lines += [("", *line) for line in self._median_lines()]
        widths = [max(len(line[column]) for line in lines if len(line) > column) for column in range(len(head))]
        text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)) for line in lines]
        return "\n".join(line.rstrip() for line in text)

    def _median_lines(self) -> Iterator[tuple[str, ...]]:
        yield (f"medians over {len(self.rows)} page{'s' * (len(self.rows) != 1)}:",)
        for each in self.medians():
            yield each.cells()


def _lines(row: PageRow) -> Iterator[tuple[str, ...]]:
    place = f"{row.reference.page.source}:{row.reference.page.page}"
    for version in row.versions:
        yield (place, *row.cells(version))
        if version.note:
            yield ("", f"  {version.note}")
        place = ""


def shown_ms(value: float | None) -> str:
    """Milliseconds, if there are any."""
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _shown_distance(cosine: float | None, smallest: float | None, error: float | None) -> tuple[str, ...]:
    """Return the distance with enough digits to distinguish float16 from float32."""
    cosines = ("" if value is None else f"{value:.7f}" for value in (cosine, smallest))
    return (*cosines, "" if error is None else f"{error:.1e}")


def shown_rate(value: float | None) -> str:
    """A share of characters; all of them and more where there should be none."""
    return "" if value is None else "all" if math.isinf(value) else f"{value:.2%}"


def _median(values: list[float]) -> float | None:
    return median(values) if values else None
