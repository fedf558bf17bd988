"""The distance between the embeddings of a page by two encoders."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from dotsctl.encoder_worker.coreml.golden import judge
from dotsctl.encoder_worker.opening import open_page
from dotsctl.encoder_worker.plugin import PageImage
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.tools.measuring.encoding import as_float32
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Distance:
    """The distance between two arrays of embeddings of the same pixels."""

    cosine_median: float
    """The median over tokens."""
    cosine_min: float
    relative_error: float
    """Frobenius norm of the difference over that of the reference."""

    @classmethod
    def between(cls, ours: NDArray[Any], reference: NDArray[Any]) -> "Distance":
        """Return the distance of two (num_embeddings, width); bfloat16 is held as uint16."""
        a, b = as_float32(ours), as_float32(reference)
        cosines, _ = judge(a, b)
        length = np.linalg.norm(b.astype(np.float64))
        error = np.linalg.norm(a.astype(np.float64) - b.astype(np.float64))
        return cls(float(np.median(cosines)), float(cosines.min()), float(error / max(float(length), 1e-300)))


def as_seen(page: PageImage, geometry: PageGeometry) -> PageImage:
    """Return the pixels of a page as an encoder with this geometry sees them: resized, and placed on white.

    An encoder with free shapes takes them as they are, because their sides are multiples of a cell.

    Raises:
        PageError: the page is no readable picture.
    """
    image, _, _ = open_page(page)
    sides = zip(geometry.oriented, geometry.scale, strict=True)
    width, height = (max(1, round(side * scale)) for side, scale in sides)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", geometry.resized, "white")
    canvas.paste(image, (round(geometry.offset[0]), round(geometry.offset[1])))
    return PageImage(None, np.asarray(canvas), None)  # (height, width, 3) uint8
