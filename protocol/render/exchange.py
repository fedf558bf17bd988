"""The messages between a process and its render process: a length, a header in msgpack, then bytes as they are."""

import dataclasses
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgpack
from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.page_hint import PageHint
from dotsctl.protocol.parts import MAX_RGB_BYTES
from dotsctl.protocol.typed_values import WrongValueError, from_plain

LENGTH = struct.Struct("<I")
MAX_HEADER_BYTES = 1 << 16
MAX_HINT_ANSWER_BYTES = 1 << 20
"""A hint with the most text in the most blocks takes half of that."""
ROOM_BYTES = 4 * MAX_RGB_BYTES
"""The memory of the render process for one page; the largest one, in the 4 bytes a pixel of a decoder, is a third."""
HELD = -1
PAGES, PAGE, TEXT, HINT = "pages", "page", "text", "hint"
T = TypeVar("T")


@dataclass(frozen=True)
class RenderRequest:
    """One question about a document."""

    asked: str
    """``pages`` (how many there are; with ``dpi`` also the pixels where there is one), ``page`` (the pixels of one),
    ``text`` (whether one has text) or ``hint`` (the hint of the page whose pixels are the content)."""
    path: str = ""
    """Absolute path of the file, see :func:`path_text`; empty: the document is ``content``."""
    content: int = 0
    """Number of the content, where there is no path."""
    content_bytes: int = HELD
    """Bytes of the content, which follow this header; ``HELD``: there is none, or the process has it already."""
    password: str | None = None
    page: int = 1
    """The number of the page, from 1."""
    dpi: int = 0
    """Resolution for a page that has none of its own."""
    hint: str = ""
    """Name of the hint plugin that reads the page as well; ``auto``: the first one that can; empty: none does."""
    size: tuple[int, int] = (0, 0)
    """Width and height in pixels of the page that is the content."""


@dataclass(frozen=True)
class HintAnswer:
    """The hint of a page; it follows the pixels, so that it never delays them."""

    hint: PageHint | None = None
    """The hint; none: the source has no text of the page, or it failed."""
    problem: str = ""
    """The reason why the source failed, and the remedy; empty: it did not."""


@dataclass(frozen=True)
class RenderAnswer:
    """The answer to one request; with it that the process is ready, which has no request."""

    code: str = ""
    """The reason why the page cannot be read, a value of ErrorCode; empty: it can be read."""
    problem: str = ""
    remedy: str = ""
    num_pages: int = 0
    is_document: bool = False
    """Whether pages can be chosen: a PDF or a TIFF."""
    is_pdf: bool = False
    has_text: bool = False
    size: tuple[int, int] = (0, 0)
    """Width and height in pixels of the page as viewers show it; 3 * width * height bytes follow this header."""
    stored: tuple[int, int] = (0, 0)
    """Width and height in pixels before the EXIF orientation is applied."""
    orientation: int = 1
    """EXIF orientation, 1 to 8."""
    hint_follows: bool = False
    """Whether a :class:`HintAnswer` follows the pixels."""
    is_last: bool = False
    """Whether the process ends now, because it is short of memory."""

    @property
    def nbytes(self) -> int:
        """Bytes that follow the header."""
        return 3 * self.size[0] * self.size[1]

    def __post_init__(self) -> None:
        if min(self.size) < 0 or self.nbytes > MAX_RGB_BYTES or not 1 <= self.orientation <= 8:
            raise ValueError(f"a page of {self.size} px with orientation {self.orientation}")
        if self.code:
            ErrorCode(self.code)

    @classmethod
    def of_error(cls, error: PageError, *, is_last: bool = False) -> "RenderAnswer":
        """The answer for a page that cannot be read."""
        return cls(code=error.code, problem=error.problem, remedy=error.remedy, is_last=is_last)

    def raise_error(self) -> None:
        """Raise the PageError that the answer reports, if any."""
        if self.code:
            raise PageError(self.problem, self.remedy, code=ErrorCode(self.code))


def path_text(path: str) -> str:
    """A path as it travels: its bytes, read as UTF-8, for the two processes may name files in different encodings."""
    return os.fsencode(path).decode(errors="surrogateescape")


def path_of(text: str) -> Path:
    """Inverse of :func:`path_text`."""
    return Path(os.fsdecode(text.encode(errors="surrogateescape")))


def packed(message: RenderRequest | RenderAnswer | HintAnswer) -> bytes:
    """Length and header of a message."""
    header: bytes = msgpack.packb(_fields(message), unicode_errors="surrogateescape", default=_fields)
    return LENGTH.pack(len(header)) + header


def _fields(value: Any) -> dict[str, Any]:
    return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}


def unpacked(kind: type[T], header: bytes) -> T:
    """Inverse of :func:`packed`, without the length. Raises WrongValueError."""
    try:
        content: Any = msgpack.unpackb(header, unicode_errors="surrogateescape", strict_map_key=True)
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise WrongValueError(f"not msgpack ({type(error).__name__})") from None
    return from_plain(kind, content)
