"""From a page image to the rows that the vision tower takes. Pillow and numpy only.

Source of the pixel pipeline: ``Qwen2VLImageProcessor`` of transformers with ``temporal_patch_size`` 1, which is what
the ``preprocessor_config.json`` of dots.ocr asks for.
"""

import io
import warnings
from dataclasses import dataclass

import numpy as np
from dotsctl.protocol.errors import PageError
from dotsctl.protocol.geometry import PageGeometry, PixelLimits, fit
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

PATCH_PX = 14
MERGE = 2
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
MAX_SOURCE_PIXELS = 500_000_000
"""Above this a picture is taken for a decompression bomb: 1.5 GB as RGB."""


@dataclass(frozen=True)
class Patches:
    """One page as the tower takes it."""

    values: NDArray[np.float32]
    """(num_patches, 588): channel, row, column of each 14x14 patch; the four patches of a 2x2 block follow each
    other."""
    grid: tuple[int, int]
    """Patches from top to bottom and from left to right; both even."""
    geometry: PageGeometry


def decode_image(content: bytes) -> tuple[Image.Image, tuple[int, int], int]:
    """RGB image as a viewer shows it, with the stored size and the EXIF orientation (1 to 8).

    Transparency is laid on white. Raises PageError with the remedy for everything that is no readable picture.
    """
    if not content:
        raise PageError("the file is empty: scan or export the page again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content))
            source = image.size
            if source[0] * source[1] > MAX_SOURCE_PIXELS:
                raise PageError(
                    f"the picture claims {source[0]}x{source[1]} px, more than {MAX_SOURCE_PIXELS:,}: "
                    "a decompression bomb, or a scan to be made at a lower resolution"
                )
            orientation = int(image.getexif().get(ExifTags.Base.Orientation, 1))
            oriented = ImageOps.exif_transpose(image)
    except PageError:
        raise
    except UnidentifiedImageError:
        raise PageError("this is not a picture in a format that Pillow reads: convert it to PNG or JPEG") from None
    except Image.DecompressionBombError as error:
        raise PageError(f"decompression bomb refused: {error}") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise PageError(f"the picture is damaged ({error}): scan or export the page again") from None
    return to_rgb(oriented), source, orientation if 1 <= orientation <= 8 else 1


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB picture; transparency on white, 16-bit grey scaled to 8 bits."""
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I"):
        values = np.asarray(image.convert("I"), np.int64)
        return Image.fromarray((values.clip(0, 65535) >> 8).astype(np.uint8), "L").convert("RGB")
    if image.mode == "F":
        raise PageError("a picture of floating-point pixels has no defined white: convert it to 8 or 16 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def patchify(image: Image.Image, source: tuple[int, int], orientation: int, limits: PixelLimits) -> Patches:
    """Resize an oriented RGB image by the rule of dots.ocr and cut it into patches."""
    geometry = fit(source, orientation, limits)
    if image.size != geometry.resized:
        image = image.resize(geometry.resized, Image.Resampling.BICUBIC)
    pixels = np.asarray(image, np.float32) / np.float32(255)  # (height, width, 3)
    pixels = (pixels - MEAN) / DEVIATION
    rows, columns = pixels.shape[0] // PATCH_PX, pixels.shape[1] // PATCH_PX
    blocks = pixels.reshape(rows // MERGE, MERGE, PATCH_PX, columns // MERGE, MERGE, PATCH_PX, 3)
    blocks = blocks.transpose(0, 3, 1, 4, 6, 2, 5)  # (rows/2, columns/2, 2, 2, 3, 14, 14)
    values = np.ascontiguousarray(blocks).reshape(rows * columns, 3 * PATCH_PX * PATCH_PX)
    return Patches(values, (rows, columns), geometry)


ImageFile.LOAD_TRUNCATED_IMAGES = False
