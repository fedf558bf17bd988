"""One page that can be sent, and from one input to its pages: a file, bytes, a picture, an array.

``accepted.py`` takes one or many inputs and ``sources.py`` walks folders. ``loading.py`` lets a render process open
files, and ``in_memory.py`` takes pictures that are open; both are imported when there is one.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dotsctl.client.inputs.downloads import DOWNLOADS
from dotsctl.client.inputs.selection import Selection
from dotsctl.protocol.errors import PageError, RenderingStoppedError
from dotsctl.protocol.model.file_names import shown
from dotsctl.protocol.parts import ImageHeader
from dotsctl.protocol.render.finishing import finishing
from dotsctl.protocol.render.opening import DEFAULT_TIMEOUT_S

if TYPE_CHECKING:
    from dotsctl.protocol.render.exchange import HintAnswer

Buffer = bytes | bytearray
LoadedPage = tuple[ImageHeader, Buffer, str]
"""Header, bytes, and a digest in hexadecimal that no other page has."""
BYTES_NAME = "<bytes>"
IMAGE_NAME = "<image>"
ALL = Selection()
_timeout_s = DEFAULT_TIMEOUT_S
_IS_READ_AT_ONCE = ContextVar("_IS_READ_AT_ONCE", default=False)
KINDS = "a path, the bytes of a picture file or a PDF, an open file, a PIL image or an array"


@dataclass(frozen=True)
class PageInput:
    """One page that can be sent, or the reason why it cannot."""

    source: str
    """Name to show: the path as given, ``-``, ``<bytes>`` or ``<image>``."""
    path: Path | None
    page: int = 1
    """Page of its source, from 1."""
    num_pages: int = 1
    """The pages of its source, whether they are all read or not."""
    chosen: Sequence[int] | None = field(default=None, repr=False)
    """The pages of its source that are read, ascending; none: all."""
    error: PageError | None = None
    """The reason why this page cannot be read, with the remedy."""
    reader: Callable[[], LoadedPage] | None = field(default=None, repr=False, compare=False)
    content: bytes | None = field(default=None, repr=False, compare=False)
    """The bytes of the file, where it has no path; none: a picture in memory."""
    text_finder: Callable[[], bool] | None = field(default=None, repr=False, compare=False)
    """Returns whether the document has text on the page; none: it is of a kind that has none."""
    hint_finder: "Callable[[], HintAnswer | None] | None" = field(default=None, repr=False, compare=False)
    """Returns the document's own hint of the page once, after the page was loaded; none: it is of a kind without."""

    def load(self) -> LoadedPage:
        """Read the page's bytes now; called once, just before the page is sent. Raises PageError."""
        if self.error is not None:
            raise self.error
        if self.reader is None:
            raise PageError(f"page {self.page} of {self.source} was made without a way to read it")
        with one_page_alone():
            return self.reader()

    def hint(self) -> "HintAnswer | None":
        """Return the document's own hint of the page; none: it has none, or the page was not loaded since the last."""
        return None if self.hint_finder is None else self.hint_finder()

    def has_text(self) -> bool:
        """Return whether the document has text on this page, which is of interest where nothing is drawn on it."""
        if self.text_finder is None:
            return False
        try:
            with one_page_alone(), finishing():
                return self.text_finder()
        except PageError:  # the file has gone, or changed: nothing is known of it
            return False


@contextmanager
def one_page_alone() -> Iterator[None]:
    """Turn whatever a decoder raises into the failure of one page: the others are read."""
    try:
        yield
    except (PageError, RenderingStoppedError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise PageError(
            f"the page cannot be opened ({type(error).__name__}: {reason})", "convert it to PNG or JPEG"
        ) from error


def limit_rendering(timeout_s: float) -> None:
    """Set the longest time for which a page may be rendered, for the render process that is started next."""
    global _timeout_s
    _timeout_s = timeout_s


def render_timeout_s() -> float:
    """The longest time for which a page may be rendered, in seconds."""
    return _timeout_s


@contextmanager
def read_at_once() -> Iterator[None]:
    """Render the only page of a document when it is listed: who lists it here sends it next. It saves a round trip."""
    token = _IS_READ_AT_ONCE.set(True)
    try:
        yield
    finally:
        _IS_READ_AT_ONCE.reset(token)


def is_read_at_once() -> bool:
    """Return whether this is within :func:`read_at_once`."""
    return _IS_READ_AT_ONCE.get()


def close_renderer() -> None:
    """End the render process, if there is one; the next file that is opened starts another one."""
    DOWNLOADS.resume()
    if (loading := sys.modules.get("dotsctl.client.inputs.loading")) is not None:
        loading.RENDERER.close()
    if (side := sys.modules.get("dotsctl.client.inputs.side_hints")) is not None:
        side.SIDE.close()


def stop_renderer() -> None:
    """End downloading and rendering of pages that are to be sent; they count as not read. For a signal handler."""
    DOWNLOADS.stop()
    if (loading := sys.modules.get("dotsctl.client.inputs.loading")) is not None:
        loading.RENDERER.stop()
    if (side := sys.modules.get("dotsctl.client.inputs.side_hints")) is not None:
        side.SIDE.stop()


def pages_of(source: Any, selection: Selection = ALL) -> Iterator[PageInput]:
    """The pages of one input of the library, lazily; what cannot be read is a page with ``error``.

    Args:
        source: a path, the bytes of a picture file or of a PDF, a PIL image, an array of shape (height, width),
            (height, width, 3) or (height, width, 4), a stack (pages, height, width, 3), or a :class:`PageInput`.
        selection: which pages of a PDF or TIFF, and how they are rendered.
    """
    if isinstance(source, PageInput):
        yield source
    elif isinstance(source, (str, os.PathLike)):
        yield from pages_of_file(Path(source), shown(source), selection)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        yield from pages_of_bytes(bytes(source), BYTES_NAME, selection)
    elif is_picture(source) or is_array(source):
        from dotsctl.client.inputs.in_memory import pages_in_memory

        yield from pages_in_memory(source)
    else:
        name = type(source).__name__
        yield PageInput(f"<{name}>", None, error=PageError(f"{name} is not {KINDS}"))


def is_picture(source: object) -> bool:
    """Return whether it is a PIL image; Pillow is not imported for it, as then there can be none."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(source, pillow.Image)


def is_array(source: object) -> bool:
    """Return whether it is an array of NumPy or of a library that shows its arrays in the same way."""
    return hasattr(type(source), "__array_interface__")


def pages_of_file(path: Path, name: str, selection: Selection = ALL) -> Iterator[PageInput]:
    """The pages of a picture file or a PDF; ``name`` is shown to the user."""
    from dotsctl.client.inputs.loading import pages_in

    return pages_in(path, PageInput(name, path), selection)


def pages_of_bytes(content: bytes, name: str, selection: Selection = ALL) -> Iterator[PageInput]:
    """The pages of a picture file or a PDF that was read already."""
    from dotsctl.client.inputs.loading import pages_in

    return pages_in(content, PageInput(name, None, content=content), selection)
