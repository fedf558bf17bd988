"""Pages that were read for an output that is not complete yet: a hidden file next to it, so that no page is read twice.

A document is written when its last page is there, and a page may take minutes. So every page is noted at once; the run
after one that was killed resumes with these pages. The file is removed when its output is complete.
"""

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotsctl.client.files.line_file import append_lines, read_lines
from dotsctl.client.files.part_file import output_error
from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.results.cell import Cell
from dotsctl.client.results.page import Page
from dotsctl.protocol.errors import OutputError

Kept = Mapping[tuple[str, int], "StoredPage"]


@dataclass(frozen=True)
class StoredPage:
    """The content of the file for one page: all that :class:`Page` has, except what its input provides."""

    key: str
    """Digest of everything that the page depends on."""
    page: int
    status: str
    text: str
    cells: tuple[Cell, ...]
    width: int | None
    height: int | None
    input_width: int | None
    input_height: int | None
    quality: str | None
    resolution_loss: float | None
    finish_reason: str | None
    tokens: dict[str, int]
    timings_ms: dict[str, float]
    model: str
    fingerprint: str
    encoder: str
    decoder: str
    task: str
    attempt: int
    repaired: tuple[str, ...]
    reread: str
    warning: str = ""
    hint: str = ""

    @classmethod
    def of(cls, key: str, page: Page) -> "StoredPage":
        """A page that was read."""
        fields = {name: getattr(page, name) for name in cls.__dataclass_fields__ if name != "key"}
        return cls(key=key, **fields)

    def restored(self, origin: PageInput) -> Page:
        """The page, as when it was read from its input."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "key"}
        return Page(source=origin.source, path=origin.path, num_pages=origin.num_pages, chosen=origin.chosen, **fields)


class PageStore:
    """The pages of one output."""

    def __init__(self, folder: Path, output: str) -> None:
        """``output`` is its name in the folder; nothing is touched before the first page."""
        self.path = folder / f".dotsctl-{hashlib.sha256(output.encode()).hexdigest()[:16]}.pages"
        """The hidden file."""
        self._kept: Kept | None = None

    def find(self, key: str, page: PageInput) -> Page | None:
        """The page as an earlier run has read it in the same way; none: it is to be read. Raises OutputError."""
        if self._kept is None:
            self._kept = {(stored.key, stored.page): stored for stored in read_lines(self.path, StoredPage)}
        stored = self._kept.get((key, page.page))
        return stored.restored(page) if stored is not None else None

    def add(self, key: str, page: Page) -> None:
        """Note a page that was read, on the disk before this returns; once. Raises OutputError."""
        if self._kept is not None and (key, page.page) in self._kept:
            return
        is_new = not self.path.exists()
        try:
            append_lines(self.path, [StoredPage.of(key, page)])
        except OutputError:
            if is_new:  # it holds no complete line
                with contextlib.suppress(OSError):
                    self.path.unlink(missing_ok=True)
            raise

    def remove(self) -> None:
        """Remove the pages: the output is complete, or is to be made anew. Raises OutputError."""
        self._kept = {}
        try:
            self.path.unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise output_error(self.path, error) from None
