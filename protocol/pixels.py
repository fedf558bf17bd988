"""Reading picture files safely, and the one rule by which any picture becomes RGB.

Shared by the client, which sends frames and images as pixels, and by the encoder, which decodes files: both must
lay transparency on white and scale 16-bit grey in the same way, or the same page would read differently.
"""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from dotsctl.protocol.errors import PageError
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
DAMAGED = (OSError, SyntaxError, ValueError, TypeError, EOFError, struct.error)
"""What Pillow raises for damaged files."""


@contextmanager
def picture_errors() -> Iterator[None]:
    """Turn what Pillow raises about a picture into PageError with the remedy."""
    try:
        with warnings.catch_warnings():
            # Pillow warns at half the size at which it refuses; such a page is large, and allowed. It also warns of
            # damage that does not keep it from reading.
            warnings.simplefilter("ignore")
            yield
    except UnidentifiedImageError:
        raise PageError("this is not a picture in a format that Pillow reads: convert it to PNG or JPEG") from None
    except Image.DecompressionBombError as error:
        raise PageError(
            f"the picture claims more pixels than are believed ({error}): scan it at a lower resolution"
        ) from None
    except DAMAGED as error:
        raise PageError(f"the picture is damaged ({error}): scan or export the page again") from None


def open_picture(file: Path | IO[bytes]) -> Image.Image:
    """Open a picture and read its header alone; the caller closes it. Raises PageError with the remedy."""
    with picture_errors():
        return Image.open(file)


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB picture; transparency on white, 16-bit grey scaled to 8 bits. Raises PageError for what has no such form."""
    if image.mode in SIXTEEN_BIT_MODES:
        values = np.asarray(image.convert("I"), np.int64)  # (height, width)
        return Image.fromarray((values.clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise PageError("a picture of floating-point pixels has no defined white: convert it to 8 or 16 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise PageError(f"colours of kind {image.mode} cannot be read ({error}): convert the picture to RGB") from None


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height in pixels before the EXIF orientation is applied.

    Pillow swaps the size of a turned TIFF as soon as it is opened, and of no other format.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(image.tag_v2[ExifTags.Base.ImageWidth]), int(image.tag_v2[ExifTags.Base.ImageLength])
    return image.size
