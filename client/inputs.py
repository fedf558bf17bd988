"""From what a user names to pages: files, bytes, pictures and arrays for the library; ``sources.py`` walks folders.

Nothing here holds more than one page. A header is read when a page is listed, its bytes when it is sent, so a
folder or a PDF of any size costs the memory of the pages in flight. Input that cannot be read is a page with ``error``.
"""

import functools
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from dotsctl.client import pdf
from dotsctl.client.selection import Selection
from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.geometry import MAX_ASPECT
from dotsctl.protocol.parts import MAX_FILE_BYTES, MAX_RGB_BYTES, ImageHeader, ImageKind
from dotsctl.protocol.pixels import open_picture, picture_errors, stored_size, to_rgb
from PIL import Image, ImageOps

Buffer = bytes | memoryview
LoadedPage = tuple[ImageHeader, Buffer, str]
"""Header, bytes, and the bytes' sha256 in hexadecimal."""
BYTES_NAME = "<bytes>"
IMAGE_NAME = "<image>"
ALL = Selection()


@dataclass(frozen=True)
class PageInput:
    """One page that can be sent, or the reason why it cannot."""

    source: str
    """Name to show: the path as given, ``-``, ``<bytes>`` or ``<image>``."""
    path: Path | None
    page: int = 1
    """Page of its source, from 1."""
    num_pages: int = 1
    """Of its source, whether they are all read or not."""
    chosen: Sequence[int] | None = field(default=None, repr=False)
    """The pages of its source that are read, ascending; none: all."""
    error: PageError | None = None
    """Why this page cannot be read, with the remedy."""
    reader: Callable[[], LoadedPage] | None = field(default=None, repr=False, compare=False)

    def load(self) -> LoadedPage:
        """Read the page's bytes now; called once, just before the page is sent. Raises PageError."""
        if self.error is not None:
            raise self.error
        if self.reader is None:
            raise PageError(f"page {self.page} of {self.source} was made without a way to read it")
        return self.reader()


def pages_of(source: Any, selection: Selection = ALL) -> Iterator[PageInput]:
    """The pages of one input of the library, lazily; what cannot be read is a page with ``error``.

    Args:
        source: a path, the bytes of a picture file or of a PDF, a PIL image, an array of shape (height, width),
            (height, width, 3) or (height, width, 4), or a :class:`PageInput`.
        selection: which pages of a PDF or TIFF, and how they are rendered.
    """
    if isinstance(source, PageInput):
        yield source
    elif isinstance(source, (str, os.PathLike)):
        yield from pages_of_file(Path(source), shown(source), selection)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        yield from pages_of_bytes(bytes(source), BYTES_NAME, selection)
    elif isinstance(source, Image.Image):
        yield PageInput(IMAGE_NAME, None, reader=lambda: _load_image(_upright(source)))
    elif hasattr(source, "__array_interface__"):
        yield PageInput(IMAGE_NAME, None, reader=lambda: _load_array(source))
    else:
        kinds = "a path, the bytes of a picture file or a PDF, a PIL image or an array"
        yield PageInput(f"<{type(source).__name__}>", None, error=PageError(f"{type(source).__name__} is not {kinds}"))


def shown(path: str | os.PathLike[str]) -> str:
    """A path as text that any terminal and any JSON file takes; bytes that are no UTF-8 are written as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def pages_of_file(path: Path, name: str, selection: Selection = ALL) -> Iterator[PageInput]:
    """The pages of a picture file or a PDF; ``name`` is shown to the user."""
    return _pages(path, PageInput(name, path), selection)


def pages_of_bytes(content: bytes, name: str, selection: Selection = ALL) -> Iterator[PageInput]:
    """The pages of a picture file or a PDF that was read already."""
    return _pages(content, PageInput(name, None), selection)


@dataclass(frozen=True)
class _Contents:
    """What a file holds, by its header."""

    num_pages: int
    load: Callable[[int], LoadedPage]
    """Read a page, by its number from 1."""
    is_document: bool = False
    """Whether its pages can be chosen; a picture is read whatever was chosen of documents."""


def _pages(origin: Path | bytes, page: PageInput, selection: Selection) -> Iterator[PageInput]:
    """The chosen pages, each made of ``page``; what was chosen outside of a document is one page with ``error``."""
    try:
        contents = _examine(origin, selection)
    except PageError as error:
        yield replace(page, error=error)
        return
    chosen, outside = (selection if contents.is_document else ALL).choose(contents.num_pages)
    page = replace(page, num_pages=contents.num_pages, chosen=chosen)
    if outside.ranges:
        beyond = outside.ranges[0][0]
        page = replace(page, chosen=[*chosen, beyond])
    for number in chosen:
        yield replace(page, page=number, reader=functools.partial(contents.load, number))
    if outside.ranges:
        has = f"has {contents.num_pages} page{'s' * (contents.num_pages > 1)}"
        reason = PageError(f"pages {outside} were asked for, and the document {has}: choose among these")
        yield replace(page, page=beyond, error=reason)


def _opened(origin: Path | bytes) -> IO[bytes]:
    """Open a file for reading; raises PageError for what stands in the way."""
    if isinstance(origin, bytes):
        return io.BytesIO(origin)
    try:
        return origin.open("rb")
    except FileNotFoundError:
        raise PageError("there is no such file: check the name and the folder you are in") from None
    except IsADirectoryError:
        raise PageError("this is a folder: name the pictures in it; the command line takes folders") from None
    except PermissionError:
        raise PageError("you may not read this file: change its permissions, as with chmod u+r") from None
    except (OSError, ValueError) as error:
        raise PageError(f"the file cannot be opened: {_reason(error)}") from None


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _examine(origin: Path | bytes, selection: Selection) -> _Contents:
    """What a file holds; only the pages of a PDF and the frames of a TIFF are pages, those of a GIF are not.

    Raises PageError for everything that the header tells: no picture, too many pixels, too long a side, a password.
    """
    with _opened(origin) as stream:
        try:
            start = stream.read(pdf.SIGNATURE_WITHIN_BYTES)
            stream.seek(0)
        except OSError as error:
            raise PageError(f"the file cannot be read: {_reason(error)}") from None
        if not start.startswith(pdf.SIGNATURE):
            try:
                return _examine_picture(stream, origin)
            except PageError:
                if pdf.SIGNATURE not in start:
                    _explain(start)
                    raise
                stream.seek(0)
        count = pdf.count_pages(stream, selection.password)
    return _Contents(count, lambda page: _load_pdf_page(origin, page, selection), is_document=True)


def _examine_picture(stream: IO[bytes], origin: Path | bytes) -> _Contents:
    """A page alone in its file travels as the file's bytes, one among others as pixels."""
    with open_picture(stream) as image, picture_errors():
        _check_shape(*image.size)
        is_tiff = image.format == "TIFF"
        count = int(getattr(image, "n_frames", 1)) if is_tiff else 1
    load = (lambda _: _load_file(origin)) if count == 1 else functools.partial(_load_frame, origin)
    return _Contents(count, load, is_document=is_tiff)


def _explain(start: bytes) -> None:
    """Raise PageError with a better remedy than Pillow's where the first bytes tell what the file is."""
    if not start:
        raise PageError("the file is empty: scan or export the page again")
    if start.isascii() and all(byte >= 0x20 or byte in b"\t\n\r\f" for byte in start):
        raise PageError("this file holds text and no picture: name the scan itself, as PNG, JPEG, TIFF or PDF")


def _check_shape(width_px: int, height_px: int) -> None:
    if max(width_px, height_px) > MAX_ASPECT * min(width_px, height_px):
        raise PageError(
            f"a page of {width_px}x{height_px} px is more than {MAX_ASPECT} times as long as it is wide: "
            "cut it into pages"
        )


def _load_file(origin: Path | bytes) -> LoadedPage:
    """A picture with one frame travels as the bytes of its file."""
    try:
        with _opened(origin) as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise PageError(f"the file cannot be read: {_reason(error)}") from None
    if len(content) > MAX_FILE_BYTES:
        raise PageError(
            f"the file is larger than {MAX_FILE_BYTES >> 20} MiB: save it compressed, as PNG or JPEG",
            ErrorCode.TOO_LARGE,
        )
    with open_picture(io.BytesIO(content)) as image:
        width, height = stored_size(image)
    return ImageHeader(ImageKind.FILE, len(content), width, height), content, hashlib.sha256(content).hexdigest()


def _load_frame(origin: Path | bytes, page: int) -> LoadedPage:
    """A frame among others travels as pixels, turned as its EXIF orientation says."""
    with _opened(origin) as stream, open_picture(stream) as image:
        with picture_errors():
            image.seek(page - 1)
            image.load()
        return _load_image(_upright(image))


def _load_pdf_page(origin: Path | bytes, page: int, selection: Selection) -> LoadedPage:
    """A page of a PDF is rendered now, and travels as pixels."""
    with _opened(origin) as stream:
        content, width, height = pdf.render_page(stream, page, selection.dpi, selection.password)
    _check_shape(width, height)
    return ImageHeader(ImageKind.RGB, len(content), width, height), content, hashlib.sha256(content).hexdigest()


def _upright(image: Image.Image) -> Image.Image:
    """The picture as a viewer shows it: pixels travel without their EXIF orientation."""
    with picture_errors():
        return ImageOps.exif_transpose(image)


def _load_array(array: Any) -> LoadedPage:
    """An array travels like the PIL image that it makes."""
    try:
        image = Image.fromarray(array)
    except (TypeError, ValueError) as error:
        raise PageError(
            f"an array of shape {array.shape} and type {array.dtype} is no page ({error}): "
            "give uint8 of shape (height, width), (height, width, 3) or (height, width, 4)"
        ) from None
    return _load_image(image)


def _load_image(image: Image.Image) -> LoadedPage:
    """A picture in memory travels as RGB pixels of shape (height, width, 3)."""
    width, height = image.size
    if not (width and height):
        raise PageError(f"a page of {width}x{height} px has no pixels")
    _check_shape(width, height)
    if 3 * width * height > MAX_RGB_BYTES:
        raise PageError(
            f"a page of {width}x{height} px is larger than {MAX_RGB_BYTES >> 20} MiB as pixels: "
            "scan it at a lower resolution",
            ErrorCode.TOO_LARGE,
        )
    with picture_errors():
        content = to_rgb(image).tobytes()
    return ImageHeader(ImageKind.RGB, len(content), width, height), content, hashlib.sha256(content).hexdigest()
