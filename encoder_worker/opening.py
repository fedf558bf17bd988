"""What comes before patches, for every encoder: the picture of a page, and how many pixels it may have."""

from pathlib import Path

from dotsctl.encoder_worker.image import DEVIATION, MEAN, MERGE, decode_image
from dotsctl.encoder_worker.margins import find_window
from dotsctl.encoder_worker.plugin import PageImage
from dotsctl.protocol.checkpoint import read_json
from dotsctl.protocol.errors import PageError, UsageError
from dotsctl.protocol.geometry import PATCH_PX, PixelLimits, Window
from PIL import Image


def open_page(page: PageImage) -> tuple[Image.Image, tuple[int, int], int]:
    """Upright RGB image, its stored (width, height), its EXIF orientation. Raises PageError."""
    if page.pixels is not None:
        image = Image.fromarray(page.pixels)  # (height, width, 3) uint8
        return image, image.size, 1
    if page.content is None:
        raise PageError("the page has neither a file nor pixels")
    return decode_image(page.content)


def window_of(page: PageImage, image: Image.Image) -> Window | None:
    """The part of an upright page that is encoded: inside its white margins where they are to be trimmed; none: all."""
    return find_window(image) if page.trim_margins else None


def read_limits(model: Path) -> PixelLimits:
    """Pixel limits from preprocessor_config.json.

    Raises:
        UsageError: the file asks for another preparation of pages than that of dots.ocr.
        MissingError: the file is missing.
    """
    content = read_json(model, "preprocessor_config.json")
    ours = {
        "image_mean": list(MEAN),
        "image_std": list(DEVIATION),
        "patch_size": PATCH_PX,
        "merge_size": MERGE,
        "temporal_patch_size": 1,
    }
    for key, value in ours.items():
        if content.get(key, value) != value:
            raise UsageError(f"preprocessor_config.json: {key} is {content[key]}, pages are prepared with {value} only")
    standard = PixelLimits()
    try:
        return PixelLimits(
            int(content.get("min_pixels", standard.min_pixels)), int(content.get("max_pixels", standard.max_pixels))
        )
    except (TypeError, ValueError) as error:
        raise UsageError(f"preprocessor_config.json: {error}") from None
