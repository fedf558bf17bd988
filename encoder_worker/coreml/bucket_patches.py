"""Places a page on the grid of patches that was chosen for it among the page sizes of a build."""

from dotsctl.encoder_worker.image import Patches, patchify, resize_window
from dotsctl.encoder_worker.opening import OpenedPage
from dotsctl.protocol.geometry import CELL_PX, PixelLimits
from dotsctl.protocol.model.buckets import Placement, place
from PIL import Image


def patches_in_bucket(page: OpenedPage, buckets: tuple[int, ...]) -> Patches:
    """Return the patches of a page in one of these page sizes. Raises PageError."""
    return prepare(page.image, place(page.source, page.orientation, page.limits, buckets, page.window))


def prepare(image: Image.Image, placement: Placement) -> Patches:
    """Return the patches of an upright RGB image at its placement, white where it does not reach."""
    canvas = Image.new("RGB", placement.geometry.resized, "white")
    canvas.paste(resize_window(image, placement.content, placement.window), (0, 0))
    exactly = PixelLimits(CELL_PX**2, max(CELL_PX**2, canvas.width * canvas.height))
    patches = patchify(canvas, canvas.size, 1, exactly)
    return Patches(patches.values, placement.grid, placement.geometry)
