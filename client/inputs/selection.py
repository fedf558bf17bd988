"""The selection from a document with several pages: chosen pages, resolution, password."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dotsctl.protocol.errors import UsageError

DEFAULT_DPI = 200
MIN_DPI, MAX_DPI = 36, 1200
PASSWORD_VARIABLE = "DOTSCTL_PASSWORD"
PART = re.compile(r"([0-9]{1,9})(-)?([0-9]{1,9})?")


@dataclass(frozen=True, slots=True)
class PageRanges:
    """Chosen pages as the user counts them, from 1."""

    ranges: tuple[tuple[int, int | None], ...]
    """First and last page of each range, ascending; without a last page it goes to the end of the document."""

    @classmethod
    def parse(cls, text: str) -> "PageRanges":
        """Ranges such as ``1-3,7,10-``, in any order. Raises UsageError."""
        found = {_range(part.strip(), text) for part in text.split(",")}
        return cls(tuple(sorted(found, key=lambda each: (each[0], each[1] or math.inf))))

    def choose(self, num_pages: int) -> tuple[Sequence[int], "PageRanges"]:
        """The chosen pages that a document of ``num_pages`` has, ascending, and what was chosen outside of it."""
        inside: set[int] = set()
        outside: list[tuple[int, int | None]] = []
        for first, last in self.ranges:
            inside.update(range(first, min(num_pages if last is None else last, num_pages) + 1))
            if first > num_pages or (last is not None and last > num_pages):
                outside.append((max(first, num_pages + 1), last))
        return sorted(inside), PageRanges(tuple(dict.fromkeys(outside)))

    def __str__(self) -> str:
        return ",".join(_shown(first, last) for first, last in self.ranges)


def _range(part: str, text: str) -> tuple[int, int | None]:
    """Return one range: a number, two with a hyphen, or an open one. Raises UsageError that shows the complete text."""
    found = PART.fullmatch(part)
    if found is None or (found[3] and not found[2]):
        raise UsageError(f"{part!r} in the pages {text!r} is neither a page nor a range", "write them as in 1-3,7,10-")
    first = int(found[1])
    last = int(found[3]) if found[3] else None if found[2] else first
    if first < 1:
        raise UsageError(f"{part!r} in the pages {text!r}: pages are counted from 1")
    if last is not None and last < first:
        raise UsageError(f"{part!r} in the pages {text!r} ends before it begins", f"write {last}-{first}")
    return first, last


def _shown(first: int, last: int | None) -> str:
    return str(first) if first == last else f"{first}-{'' if last is None else last}"


@dataclass(frozen=True, slots=True)
class Selection:
    """The way in which the documents of one call are opened; pictures with one page ignore it."""

    pages: PageRanges | None = None
    """The chosen pages; none: all."""
    dpi: int = DEFAULT_DPI
    """Pixels per inch of a page that has none of its own, as those of a PDF."""
    password: str | None = field(default=None, repr=False)
    hint: str = ""
    """The hint plugin that reads the documents as well, or ``auto``; empty: none does."""

    @classmethod
    def of(
        cls,
        pages: str | None,
        dpi: int,
        password: str | None,
        environment: Mapping[str, str] = os.environ,
        hint: str = "",
    ) -> "Selection":
        """Complete what the caller chose; no password: that of ``DOTSCTL_PASSWORD``. Raises UsageError."""
        if not MIN_DPI <= dpi <= MAX_DPI:
            raise UsageError(f"{dpi} dpi is not between {MIN_DPI} and {MAX_DPI}: scans have 200 to 300")
        ranges = None if pages is None else PageRanges.parse(pages)
        secret = password if password is not None else environment.get(PASSWORD_VARIABLE)
        return cls(ranges, dpi, secret or None, hint)

    def choose(self, num_pages: int) -> tuple[Sequence[int], PageRanges]:
        """Choose pages as :meth:`PageRanges.choose` does, all of them when none were chosen."""
        return (range(1, num_pages + 1), PageRanges(())) if self.pages is None else self.pages.choose(num_pages)
