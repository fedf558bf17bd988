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
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")
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
        reason = " ".join(str(error).split())  # libheif ends its messages with a new line
        raise PageError(f"the picture is damaged ({reason}): scan or export the page again") from None


def open_picture(file: Path | IO[bytes]) -> Image.Image:
    """Open a picture and read its header alone; the caller closes it. Raises PageError with the remedy.

    A HEIC picture is opened by pillow-heif, which turns it upright itself and then says that it is upright.
    """
    with picture_errors():
        try:
            return Image.open(file)
        except DAMAGED:
            if not _is_heif(file):
                raise
    _register_heif()
    with picture_errors():
        try:
            return Image.open(file, formats=["HEIF"])
        except UnidentifiedImageError:
            raise PageError("the HEIC picture is damaged: copy it from the camera again") from None


def _is_heif(file: Path | IO[bytes]) -> bool:
    """Whether the first bytes are those of a HEIF container."""
    if isinstance(file, Path):
        with file.open("rb") as stream:
            return _is_heif(stream)
    file.seek(0)
    start = file.read(12)
    file.seek(0)
    return start[4:8] == b"ftyp" and start[8:12] in HEIF_BRANDS


def _register_heif() -> None:
    """Teach Pillow to read HEIF, when the first one is met: the library has 26 MB.

    Raises PageError, and not MissingError, for this picture alone fails: the others are read.
    """
    try:
        import pillow_heif
    except ImportError:
        raise PageError(
            "HEIC is read with pillow-heif, which is not installed: pip install 'dotsctl[pdf]', or convert it to JPEG"
        ) from None
    pillow_heif.register_heif_opener()


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
