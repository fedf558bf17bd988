"""The effects of a scanner on a page: a slight turn, uneven paper, blur, grain and JPEG. Truth moves with the page."""

import io
import math
import random

import numpy as np
from dotsctl.tools.pages.elements import GeneratedPage
from PIL import Image, ImageFilter

LARGEST_TURN_DEG = 1.0


def scanned(rng: random.Random, page: GeneratedPage, strength: float = 1.0) -> GeneratedPage:
    """The page as a scan.

    Args:
        rng: what decides.
        page: as printed, dark on white.
        strength: 0 leaves everything as it is, 1 is a light scan; turn, blur, grain and unevenness grow with it.
    """
    if strength <= 0:
        return page
    if rng.random() < 0.5:
        page = _turned(page, rng.uniform(-LARGEST_TURN_DEG, LARGEST_TURN_DEG) * min(1.0, strength))
    image = page.image
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.7) * strength))
    if rng.random() < 0.7:
        image = _uneven(rng, image, strength)
    if rng.random() < 0.5:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=max(5, round(100 - rng.uniform(10, 50) * strength)))
        image = Image.open(buffer).convert("RGB")
    return page.moved(lambda x, y: (x, y), image)


def scanned_now_and_then(rng: random.Random, page: GeneratedPage, share: float) -> GeneratedPage:
    """Return the page as a light scan with a chance of ``share``, else as it is."""
    return scanned(rng, page, rng.uniform(0.3, 1.0) * (rng.random() < share))


def _turned(page: GeneratedPage, degrees: float) -> GeneratedPage:
    """The page turned about its middle, counter-clockwise, on its own paper."""
    image = page.image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=page.image.getpixel((0, 0)))
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    middle_x, middle_y = page.image.width / 2, page.image.height / 2

    def move(x: float, y: float) -> tuple[float, float]:
        dx, dy = x - middle_x, y - middle_y
        return middle_x + cos * dx + sin * dy, middle_y - sin * dx + cos * dy

    return page.moved(move, image)


def _uneven(rng: random.Random, image: Image.Image, strength: float) -> Image.Image:
    """Paper of a tint, darker here and there, with grain."""
    noise = np.random.default_rng(rng.getrandbits(64))
    coarse = noise.uniform(1 - 0.15 * strength, 1.0, (4, 3)).astype(np.float32)  # a few spots over the page
    light = np.asarray(Image.fromarray(coarse).resize(image.size, Image.Resampling.BICUBIC))  # (height, width)
    tint = noise.uniform(1 - 0.06 * strength, 1.0, 3).astype(np.float32)
    pixels = np.asarray(image, np.float32) * light[:, :, None] * tint  # (height, width, 3)
    grain = noise.normal(0, rng.uniform(0, 6) * strength, pixels.shape[:2]).astype(np.float32)
    return Image.fromarray(np.clip(pixels + grain[:, :, None], 0, 255).astype(np.uint8))
