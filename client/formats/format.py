"""The interface of an output format. Each format is a file in this folder and a line in ``registry.py``."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from dotsctl.client.files.written import WrittenFile
from dotsctl.client.results.page import Page

if TYPE_CHECKING:
    from dotsctl.client.formats.pictures import PagePixels
    from PIL import Image


class Images(StrEnum):
    """The way in which pictures on a page are written."""

    FILES = "files"
    """A PNG file each, next to the document."""
    EMBED = "embed"
    """A picture within the document, as base64."""
    NONE = "none"


class Format(ABC):
    """A format of results."""

    ending: str
    """The ending of its files, without the dot."""
    links_pictures = False
    """Whether pictures of a page can be linked or embedded."""
    needs_cells = False
    """Whether a page without cells has nothing to show in it."""


@dataclass(frozen=True)
class PageSources:
    """The sources of the pictures of a page, used when its turn has come."""

    links: Callable[[Page], Mapping[int, str]] = field(default=lambda _: {})
    """The links to the pictures of a page, by their place among the cells."""
    pixels: "Callable[[Page], Image.Image | None]" = field(default=lambda _: None)
    """The page itself."""


class TextBody(ABC):
    """The text of one output, made page by page, in order."""

    def __init__(self, names: Sequence[str], sources: PageSources, *, header_footer: bool) -> None:
        """Begin an output.

        Args:
            names: of the inputs, in their order.
            sources: of pictures.
            header_footer: whether text has the headers and footers of pages.
        """
        self.names, self.sources, self.header_footer = names, sources, header_footer

    @abstractmethod
    def page(self, page: Page) -> str:
        """The text that the next page adds; failed pages come as well."""

    def end(self) -> str:
        """The text behind the last page."""
        return ""


class TextFormat(Format):
    """A format that is one text, for a terminal as well."""

    body: type[TextBody]


class Writer(ABC):
    """One output on its way to the disk: takes pages in any order, and is there completely or not at all."""

    @abstractmethod
    def add(self, page: Page) -> None:
        """Take a page, failed ones included.

        Raises:
            PageError: the page cannot be read again for its pixels.
            OutputError: it cannot be written.
        """

    @abstractmethod
    def seal(self) -> list[WrittenFile]:
        """Write the remaining pages, and flush all files to the disk, without their names yet. Raises OutputError."""

    @abstractmethod
    def commit(self) -> None:
        """Give all files their names; to be called after :meth:`seal`. Raises OutputError."""

    @abstractmethod
    def discard(self) -> None:
        """Remove everything that was written."""


Note = Callable[[str, str], None]
"""Takes the name of an input, and a sentence about its output that the user should know."""


class FileFormat(Format):
    """A format that is no text: one file of other bytes, or several."""

    content: str
    """The kind of content, as "pictures"."""

    @abstractmethod
    def writer(self, path: Path, pixels: "PagePixels", note: Note) -> Writer:
        """Return the object that writes one document to ``path``."""
