"""Pages from pictures and arrays in memory; they are trusted, so they stay in this process."""

import functools
import hashlib
from collections.abc import Iterator
from typing import Any

from dotsctl.client.inputs.pages import IMAGE_NAME, LoadedPage, PageInput
from dotsctl.protocol.errors import PageError
from dotsctl.protocol.model.pixels import require_page_size, upright_rgb
from dotsctl.protocol.parts import ImageHeader, ImageKind
from PIL import Image


def pages_in_memory(source: Any) -> Iterator[PageInput]:
    """The pages of a PIL image or of an array; an array of four dimensions is a stack of pages."""
    if isinstance(source, Image.Image):
        yield PageInput(IMAGE_NAME, None, reader=lambda: _load_image(source))
    elif source.ndim != 4:  # (height, width) or (height, width, channels)
        yield PageInput(IMAGE_NAME, None, reader=lambda: _load_array(source))
    else:  # (pages, height, width, channels)
        for number, array in enumerate(source, start=1):
            yield PageInput(IMAGE_NAME, None, number, len(source), reader=functools.partial(_load_array, array))


def _load_array(array: Any) -> LoadedPage:
    """An array travels like the PIL image that it makes."""
    try:
        image = Image.fromarray(array)
    except (TypeError, ValueError) as error:
        raise PageError(
            f"an array of shape {array.shape} and type {array.dtype} is no page ({error})",
            "give uint8 of shape (height, width), (height, width, 3) or (height, width, 4)",
        ) from None
    return _load_image(image)


def _load_image(image: Image.Image) -> LoadedPage:
    """A picture in memory travels as RGB pixels of shape (height, width, 3), turned as a viewer shows it."""
    require_page_size(*image.size)
    upright, _ = upright_rgb(image)
    (width, height), content = upright.size, upright.tobytes()
    return ImageHeader(ImageKind.RGB, len(content), width, height), content, hashlib.sha256(content).hexdigest()
