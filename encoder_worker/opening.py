"""What comes before patches, for every encoder: the picture of a page, and how many pixels it may have."""

from dotsctl.encoder_worker.image import decode_image
from dotsctl.encoder_worker.plugin import PageImage
from dotsctl.protocol.errors import PageError
from dotsctl.protocol.geometry import PixelLimits
from PIL import Image


def open_page(page: PageImage) -> tuple[Image.Image, tuple[int, int], int]:
    """Upright RGB image, its stored (width, height), its EXIF orientation. Raises PageError."""
    if page.pixels is not None:
        image = Image.fromarray(page.pixels)  # (height, width, 3) uint8
        return image, image.size, 1
    if page.content is None:
        raise PageError("the page has neither a file nor pixels")
    return decode_image(page.content)


def lowered(limits: PixelLimits, max_pixels: int | None) -> PixelLimits:
    """The model's limits with the user's limit, which can only lower the upper one."""
    if max_pixels is None or max_pixels >= limits.max_pixels:
        return limits
    return PixelLimits(min(limits.min_pixels, max_pixels), max_pixels)
