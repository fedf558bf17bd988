"""Reading picture files safely, and the one rule by which any picture becomes RGB.

Shared by the client, for pictures in memory, and by the render process, for files: both must lay transparency on white
and scale 16-bit grey in the same way, or the same page would read differently.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dotsctl.protocol.errors import REINSTALL, ErrorCode, PageError
from dotsctl.protocol.geometry import require_shape
from dotsctl.protocol.parts import MAX_RGB_BYTES
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray  # numpy takes 80 ms, and grey of 8 bits needs none

DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
"""Grey of 10 to 32 bits a pixel, or of floating-point numbers."""
MAX_SAMPLE_VALUE = 281
"""TIFF tag: the value of white (of black where the picture is stored inverted)."""
BAND_ROWS = 256
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that turns a stored image into what a viewer shows, by EXIF orientation; 1 is upright already."""
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")
RASTER_FORMATS = (
    "AVIF", "BLP", "BMP", "CUR", "DCX", "DDS", "DIB", "FITS", "FLI", "FTEX", "GBR", "GIF", "ICNS", "ICO", "IM", "IMT",
    "IPTC", "JPEG", "JPEG2000", "MSP", "PCD", "PCX", "PIXAR", "PNG", "PPM", "PSD", "QOI", "SGI", "SPIDER", "SUN", "TGA",
    "TIFF", "WEBP", "XBM", "XPM", "XVTHUMB",
)  # fmt: skip
"""Formats of Pillow that hold pixels. EPS and WMF are programs for other software, the others have no decoder."""


@contextmanager
def picture_errors() -> Iterator[None]:
    """Turn what Pillow raises about a picture into PageError with the remedy."""
    try:
        with warnings.catch_warnings():
            # Pillow warns at half the size at which it refuses; such a page is large, and allowed. It also warns of
            # damage that does not keep it from reading.
            warnings.simplefilter("ignore")
            yield
    except PageError:
        raise
    except UnidentifiedImageError:
        raise PageError("this is not a picture in a format that Pillow reads", "convert it to PNG or JPEG") from None
    except Image.DecompressionBombError as error:
        raise PageError(f"the picture declares too many pixels ({error})", "scan it at a lower resolution") from None
    except MemoryError:
        raise PageError(
            "not enough memory for the pixels of this picture",
            "scan it at a lower resolution",
            code=ErrorCode.TOO_LARGE,
        ) from None
    except Exception as error:  # decoders raise anything for damaged files
        reason = " ".join(str(error).split()) or type(error).__name__  # libheif ends its messages with a new line
        raise PageError(f"the picture is damaged ({reason})", "scan or export the page again") from None


def open_picture(file: Path | IO[bytes]) -> Image.Image:
    """Open a picture and read its header alone; the caller closes it. Raises PageError with the remedy.

    A HEIC picture is opened by pillow-heif, which turns it upright itself and then reports it as upright.
    """
    with picture_errors():
        try:
            return Image.open(file, formats=RASTER_FORMATS)
        except Exception:  # without its plugin, HEIF is also reported as damaged
            if not _is_heif(file):
                raise
    _register_heif()
    with picture_errors():
        try:
            return Image.open(file, formats=["HEIF"])
        except UnidentifiedImageError:
            raise PageError("the HEIC picture is damaged", "copy it from the camera again") from None


def _is_heif(file: Path | IO[bytes]) -> bool:
    """Return whether the first bytes are those of a HEIF container."""
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
            "HEIC is read with pillow-heif, which is not installed", f"{REINSTALL}, or convert the picture to JPEG"
        ) from None
    pillow_heif.register_heif_opener()


def require_page_size(width_px: int, height_px: int) -> None:
    """Refuse a picture that is no page, before its pixels are decoded. Raises PageError."""
    if not (width_px and height_px):
        raise PageError(f"a page of {width_px}x{height_px} px has no pixels")
    require_shape(width_px, height_px)
    if 3 * width_px * height_px > MAX_RGB_BYTES:
        raise PageError(
            f"a page of {width_px}x{height_px} px is larger than {MAX_RGB_BYTES >> 20} MiB as pixels",
            "scan it at a lower resolution",
            code=ErrorCode.TOO_LARGE,
        )


def upright_rgb(image: Image.Image) -> tuple[Image.Image, int]:
    """Return the picture in RGB as a viewer shows it, and the EXIF orientation (1 to 8) that it was stored with.

    Raises:
        PageError: its pixels have no such form, or cannot be decoded.
    """
    with picture_errors():
        image.load()
        size, orientation, strips = upright_strips(image)
        upright, top = Image.new("RGB", size), 0
        for strip in strips:
            upright.paste(strip, (0, top))
            top += strip.height
        return upright, orientation


def upright_strips(image: Image.Image) -> tuple[tuple[int, int], int, Iterator[Image.Image]]:
    """Return the size of a decoded picture as a viewer shows it, its EXIF orientation, and its RGB rows in strips.

    Strips follow each other from top to bottom. A complete copy of the picture would take up to 360 MB.

    Raises:
        PageError: its pixels have no such form.
    """
    orientation, to_rgb = _orientation(image), _converter(image)
    is_turned, is_reversed = orientation > 4, orientation in (3, 4, 7, 8)
    width, height = image.size
    length = width if is_turned else height

    def strips() -> Iterator[Image.Image]:
        starts = range(0, length, BAND_ROWS)
        for start in reversed(starts) if is_reversed else starts:
            end = min(start + BAND_ROWS, length)
            strip = to_rgb(image.crop((start, 0, end, height) if is_turned else (0, start, width, end)))
            yield strip.transpose(UPRIGHT[orientation]) if orientation > 1 else strip

    return ((height, width) if is_turned else (width, height)), orientation, strips()


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; a picture without one, or with a damaged one, is upright."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF, of which Pillow raises anything, is none
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _converter(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Return what makes RGB of strips of a picture: transparency on white, grey of other depths scaled to 8 bits.

    White is what the file declares (``MaxSampleValue``); else the largest number of the fewest bits, at least eight,
    that all values fit into, and for floating-point pixels 1 where none is larger.

    Raises:
        PageError: its pixels have no such form.
    """
    if image.mode in DEEP_MODES:
        tags = getattr(image, "tag_v2", {})
        white, is_inverted = _white_of(image, tags), tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
        return lambda strip: _scaled_grey(strip, white, is_inverted)
    if image.has_transparency_data:
        return _on_white
    if image.mode == "RGB":
        return lambda strip: strip
    try:
        image.crop((0, 0, 1, 1)).convert("RGB")
    except ValueError as error:
        raise PageError(
            f"colours of kind {image.mode} cannot be read ({error})", "convert the picture to RGB"
        ) from None
    return lambda strip: strip.convert("RGB")


def _samples(strip: Image.Image) -> "NDArray[Any]":
    """(rows, columns) numbers of a grey picture; what is no number is white."""
    import numpy as np

    values = np.asarray(strip)
    return np.nan_to_num(values, nan=np.inf, posinf=np.inf, neginf=0.0) if strip.mode == "F" else values


def _scaled_grey(strip: Image.Image, white: float, is_inverted: bool) -> Image.Image:
    """A strip of 8 bits a channel from one of more bits, or of floating-point numbers."""
    import numpy as np

    levels = np.clip(_samples(strip) * (255.0 / white), 0, 255).round().astype(np.uint8)  # (rows, columns)
    return Image.fromarray(255 - levels if is_inverted else levels).convert("RGB")


def _white_of(image: Image.Image, tags: Mapping[int, Any]) -> float:
    """The value of white."""
    import numpy as np

    declared = tags.get(MAX_SAMPLE_VALUE)
    declared = declared[0] if isinstance(declared, tuple) and declared else declared
    width, height = image.size
    strips = (image.crop((0, top, width, min(top + BAND_ROWS, height))) for top in range(0, height, BAND_ROWS))
    peaks = [samples[np.isfinite(samples)].max(initial=0) for samples in map(_samples, strips)]
    largest = float(max(peaks, default=0))
    if isinstance(declared, (int, float)) and declared >= max(largest, 1):
        return float(declared)
    if image.mode == "F" and largest <= 1:
        return 1.0
    return float(2 ** max(8, math.ceil(math.log2(largest + 1))) - 1)


def _on_white(strip: Image.Image) -> Image.Image:
    rgba = strip.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba).convert("RGB")
