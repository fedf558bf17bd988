"""The inputs that the library accepts: one or many, of every kind."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from dotsctl.client.inputs.pages import (
    BYTES_NAME,
    KINDS,
    PageInput,
    is_array,
    is_picture,
    pages_of,
    pages_of_bytes,
)
from dotsctl.client.inputs.selection import Selection
from dotsctl.client.inputs.sources import files_named
from dotsctl.protocol.errors import PageError, UsageError
from dotsctl.protocol.model.file_names import shown

if TYPE_CHECKING:
    from PIL import Image


class BinaryFile(Protocol):
    """A file that is open for reading bytes."""

    def read(self) -> bytes:
        """Return the rest of its content."""


class PixelArray(Protocol):
    """An array of NumPy, uint8 of shape (height, width) or (height, width, 3 or 4), or a stack of such."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


Source: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryFile | Image.Image | PixelArray | PageInput"
)
"""One input: the path of a file or a folder, a glob, the bytes of a picture file or a PDF, an open file, a picture."""
Inputs: TypeAlias = "Source | Iterable[Source]"
"""One input or many."""


def as_sources(inputs: Any) -> Iterable[Any]:
    """Return one input or many as many. Raises UsageError where it is neither."""
    if _is_single(inputs):
        return (inputs,)
    if isinstance(inputs, Iterable):
        return inputs
    raise UsageError(f"{type(inputs).__name__} is not a valid input", f"give {KINDS}, or several of them")


def _is_single(source: object) -> bool:
    kinds = (str, os.PathLike, bytes, bytearray, memoryview, PageInput)
    return isinstance(source, kinds) or hasattr(source, "read") or is_picture(source) or is_array(source)


def pages_of_all(sources: Iterable[Any], selection: Selection) -> Iterator[PageInput]:
    """The pages of all inputs, lazily and in order; what cannot be read is a page with ``error``."""
    for source in sources:
        if isinstance(source, str | os.PathLike):
            for file in files_named(os.fsdecode(source)):
                yield from replace(file, selection=selection).pages()
        elif hasattr(source, "read"):
            yield from _pages_of_open_file(source, selection)
        else:
            yield from pages_of(source, selection)


def _pages_of_open_file(file: Any, selection: Selection) -> Iterator[PageInput]:
    name = getattr(file, "name", None)
    name = shown(name) if isinstance(name, str) else BYTES_NAME
    try:
        content = file.read()
    except (OSError, ValueError) as error:
        yield PageInput(name, None, error=PageError(f"the open file cannot be read: {error}"))
        return
    if isinstance(content, bytes):
        yield from pages_of_bytes(content, name, selection)
    else:
        yield PageInput(name, None, error=PageError("the file is open for text", "open it with mode 'rb'"))
