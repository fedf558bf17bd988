"""Pages that are one scanned image at its own resolution: decoding it takes two thirds of what drawing the page takes.

The pixels are those that PDFium draws. Whatever might change them (masks, layers, clipping, transparency, a position or
a size that is not that of the page) leaves the page to PDFium.
"""

import ctypes
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

CHANGING = re.compile(rb"/(?:SMask|Mask|Matte|OC|Default|TR|Group|ExtGState|ObjStm)")
"""Beginnings of names of what may change the pixels of an image. In object streams they could not be seen."""
IMAGE_OBJECT = 3  # FPDF_PAGEOBJ_IMAGE, of fpdf_edit.h as the following numbers
COLOURS = (1, 2)  # FPDF_COLORSPACE_DEVICEGRAY and FPDF_COLORSPACE_DEVICERGB
FORMATS = {1: (1, (0, 0, 0)), 2: (3, (2, 1, 0)), 3: (4, (2, 1, 0))}
"""Bytes of a pixel, and where its red, green and blue are, in the bitmaps that images become: FPDFBitmap_Gray, _BGR and
_BGRx."""
TOLERANCE_PT = 1e-3
TOLERANCE_PX = 0.02
STRIP_BYTES = 1 << 20
"""The size of the rows that are converted at once: with as much as the pipe holds, the owner wakes up seldom."""


def may_hold_scans(content: bytes) -> bool:
    """Return whether nothing in a document changes the pixels of its images in ways that :func:`scan_of` cannot see."""
    return CHANGING.search(content) is None


def scan_of(raw: ModuleType, page: Any, scale: float) -> tuple[tuple[int, int], Iterator[memoryview]] | None:
    """The size (width, height) of the image that a page consists of, and its rows, RGB; none: the page is to be drawn.

    Args:
        raw: the functions of PDFium.
        page: an open page of a document for which :func:`may_hold_scans` is true.
        scale: pixels per point.
    """
    if raw.FPDFPage_CountObjects(page) != 1 or raw.FPDFPage_GetAnnotCount(page) or raw.FPDFPage_GetRotation(page):
        return None
    only = raw.FPDFPage_GetObject(page, 0)
    if raw.FPDFPageObj_GetType(only) != IMAGE_OBJECT or not _fills(raw, page, only, scale):
        return None
    if raw.FPDFPage_HasTransparency(page) or raw.FPDFPageObj_HasTransparency(only):
        return None
    if raw.FPDFPageObj_CountMarks(only) or raw.FPDFClipPath_CountPaths(raw.FPDFPageObj_GetClipPath(only)) > 0:
        return None
    bitmap = raw.FPDFImageObj_GetBitmap(only)
    if not bitmap:
        return None
    if (layout := FORMATS.get(raw.FPDFBitmap_GetFormat(bitmap))) is None:
        raw.FPDFBitmap_Destroy(bitmap)
        return None
    size = (raw.FPDFBitmap_GetWidth(bitmap), raw.FPDFBitmap_GetHeight(bitmap))
    return size, _strips(raw, bitmap, size, *layout)


def _fills(raw: ModuleType, page: Any, image: Any, scale: float) -> bool:
    """Return whether an image lies exactly on its page, upright, one pixel of it on one pixel of the drawing."""
    facts, matrix, box = raw.FPDF_IMAGEOBJ_METADATA(), raw.FS_MATRIX(), raw.FS_RECTF()
    if not (
        raw.FPDFImageObj_GetImageMetadata(image, page, facts)
        and raw.FPDFPageObj_GetMatrix(image, matrix)
        and raw.FPDF_GetPageBoundingBox(page, box)
    ):
        return False
    expected = (box.right - box.left, 0, 0, box.top - box.bottom, box.left, box.bottom)
    found = (matrix.a, matrix.b, matrix.c, matrix.d, matrix.e, matrix.f)
    pixels = ((facts.width, box.right - box.left), (facts.height, box.top - box.bottom))
    return (
        facts.colorspace in COLOURS
        and max(abs(one - other) for one, other in zip(found, expected, strict=True)) <= TOLERANCE_PT
        and all(0 <= count - length_pt * scale <= TOLERANCE_PX for count, length_pt in pixels)
    )


def _strips(
    raw: ModuleType, bitmap: Any, size: tuple[int, int], pixel_bytes: int, order: tuple[int, int, int]
) -> Iterator[memoryview]:
    """The rows of a bitmap as RGB, and then the end of the bitmap.

    NumPy copies a colour at a time, which takes 1.1 ms a megapixel, and Pillow 2.2 ms.
    """
    import numpy as np

    width, height = size
    stride = raw.FPDFBitmap_GetStride(bitmap)
    address = ctypes.cast(raw.FPDFBitmap_GetBuffer(bitmap), ctypes.c_void_p).value or 0
    content = (ctypes.c_ubyte * (stride * height)).from_address(address)
    stored = np.ndarray((height, width, pixel_bytes), np.uint8, content, strides=(stride, pixel_bytes, 1))
    try:
        step = max(1, STRIP_BYTES // (3 * width))
        for top in range(0, height, step):
            rows = stored[top : top + step]  # uint8 (rows, width, pixel_bytes)
            strip = np.empty((len(rows), width, 3), np.uint8)
            for colour, place in enumerate(order):
                strip[..., colour] = rows[..., place]
            yield strip.reshape(-1).data
    finally:
        raw.FPDFBitmap_Destroy(bitmap)
