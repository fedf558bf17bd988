"""Converts a page to patches, for every encoder: opens it, limits its pixels, and detects blank pages."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dotsctl.encoder_worker.blank import is_blank
from dotsctl.encoder_worker.image import DEVIATION, MEAN, MERGE, Patches, patchify
from dotsctl.encoder_worker.margins import find_window
from dotsctl.encoder_worker.plugin import BlankPage, PageImage
from dotsctl.protocol.errors import PageError, UsageError
from dotsctl.protocol.geometry import PATCH_PX, PixelLimits, Window, fit
from dotsctl.protocol.model.checkpoint import read_json
from dotsctl.protocol.render.document import RenderDocument
from dotsctl.protocol.render.opening import DEFAULT_TIMEOUT_S
from dotsctl.protocol.render.process import RenderProcess
from PIL import Image

_timeout_s = DEFAULT_TIMEOUT_S
RENDERER = RenderProcess(lambda: _timeout_s)
"""Decodes the files of other clients, of which nothing is decoded in this process; started by the first one."""


def limit_rendering(timeout_s: float) -> None:
    """Set the longest time of a page in the render process that is started next, in seconds."""
    global _timeout_s
    _timeout_s = timeout_s


def open_page(page: PageImage) -> tuple[Image.Image, tuple[int, int], int]:
    """Upright RGB image, its stored (width, height), its EXIF orientation. Raises PageError."""
    if page.pixels is not None:
        image = Image.fromarray(page.pixels)  # (height, width, 3) uint8
        return image, image.size, 1
    if page.content is None:
        raise PageError("the page has neither a file nor pixels")
    rendered = RenderDocument(RENDERER, page.content).page(1)
    return Image.frombuffer("RGB", rendered.size, rendered.pixels), rendered.stored, rendered.orientation


def window_of(page: PageImage, image: Image.Image) -> Window | None:
    """The part of an upright page that is encoded: inside its white margins where they are to be trimmed; none: all."""
    return find_window(image) if page.trim_margins else None


@dataclass(frozen=True)
class OpenedPage:
    """A page on which something is."""

    image: Image.Image
    """Upright RGB."""
    source: tuple[int, int]
    """Width and height as stored, in pixels."""
    orientation: int
    limits: PixelLimits
    window: Window | None
    """The part that is encoded; none: all of it."""

    def patches(self) -> Patches:
        """Return the patches of the page at the size of the resize rule."""
        return patchify(self.image, self.source, self.orientation, self.limits, self.window)


def prepare_page(
    page: PageImage, limits: PixelLimits, to_patches: Callable[[OpenedPage], Patches] = OpenedPage.patches
) -> tuple[Patches, dict[str, float]]:
    """Return the patches of a page, and the milliseconds of the stages ``open`` and ``resize``.

    Args:
        page: the page.
        limits: of the model.
        to_patches: resizes the page and cuts it into patches.

    Raises:
        PageError: the page is no readable picture, or cannot be resized.
        BlankPage: nothing is on the page, and the client requested this check.
    """
    start = time.perf_counter()
    image, source, orientation = open_page(page)
    opened = time.perf_counter()
    limits, open_ms = limits.lowered(page.max_pixels), (opened - start) * 1e3
    if page.check_blank and is_blank(image):
        raise BlankPage(fit(source, orientation, limits), {"open": open_ms})
    patches = to_patches(OpenedPage(image, source, orientation, limits, window_of(page, image)))
    return patches, {"open": open_ms, "resize": (time.perf_counter() - opened) * 1e3}


def read_limits(model: Path) -> PixelLimits:
    """Read the pixel limits from preprocessor_config.json.

    Raises:
        UsageError: the file requires another preparation of pages than that of dots.ocr.
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
