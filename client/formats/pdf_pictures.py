"""Pictures in a PDF: JPEG and plain PNG with the bytes that they have, all others as pixels without loss."""

import io
import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dotsctl.client.formats.pdf_text import PicturePage
from dotsctl.protocol.model.files import open_regular
from pikepdf import Array, Dictionary, Name, Pdf, Stream, String
from PIL import Image, UnidentifiedImageError

PNG = b"\x89PNG\r\n\x1a\n"
INDEXED = 3
COLOURS = {0: ("/DeviceGray", 1), 2: ("/DeviceRGB", 3), INDEXED: ("/Indexed", 1)}
"""Colour space and channels of the colour types of PNG that PDF takes as they are."""
UPRIGHT = (1, 0, 0, 1, 0, 0)
ORIENTATIONS = {
    1: UPRIGHT,
    2: (-1, 0, 0, 1, 1, 0),
    3: (-1, 0, 0, -1, 1, 1),
    4: (1, 0, 0, -1, 0, 1),
    5: (0, -1, -1, 0, 1, 1),
    6: (0, -1, 1, 0, 0, 1),
    7: (0, 1, 1, 0, 0, 0),
    8: (0, 1, -1, 0, 1, 0),
}
"""The place of the unit square that a picture fills, by its EXIF orientation, on a page that is 1 wide and high."""
EXIF_ORIENTATION = 0x0112
LEAST_DPI, MOST_DPI = 20, 5000

Matrix = tuple[float, float, float, float, float, float]


class _Png(NamedTuple):
    width: int
    height: int
    depth: int
    colour: int
    data: bytes
    palette: bytes


class Picture(NamedTuple):
    """A picture as an object of a PDF."""

    stream: Stream
    matrix: Matrix
    """Fills a page of 1 by 1 with it, upright."""
    dpi: float | None
    """The resolution that the file states; none: it states none that makes sense."""


def picture_of(pdf: Pdf, page: PicturePage) -> Picture:
    """Return a picture: the original file's bytes where PDF can hold them, else the pixels.

    Raises:
        OSError, ValueError, SyntaxError: it cannot be read.
    """
    content = _content(page.original) if page.original is not None else b""
    dpi: float | None = None
    with suppress(UnidentifiedImageError), Image.open(io.BytesIO(content)) as image:
        dpi = _dpi(image)
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
        if page.is_kept and image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB", "CMYK"):
            return Picture(_jpeg(pdf, content, image), ORIENTATIONS.get(orientation, UPRIGHT), dpi)
        if page.is_kept and orientation == 1 and (png := plain_png(content)) is not None:
            return Picture(_png(pdf, png), UPRIGHT, dpi)
    png = plain_png(_content(page.pixels))
    if png is None:
        raise ValueError("the pixels of the page are no plain PNG")
    return Picture(_png(pdf, png), UPRIGHT, dpi)


def _content(path: Path) -> bytes:
    with open_regular(path) as stream:
        return stream.read()


def _dpi(image: Image.Image) -> float | None:
    """Return the resolution that a picture states, where it is the same in both directions and possible."""
    across, down = (float(each) for each in image.info.get("dpi", (0, 0)))
    return across if LEAST_DPI <= across <= MOST_DPI and abs(across - down) < 1 else None


def _jpeg(pdf: Pdf, content: bytes, image: Image.Image) -> Stream:
    space = {"L": "/DeviceGray", "RGB": "/DeviceRGB", "CMYK": "/DeviceCMYK"}[image.mode]
    head = _head(image.width, image.height, space, 8) | {"/Filter": Name.DCTDecode}
    if image.mode == "CMYK" and "adobe" in image.info:  # Adobe writes CMYK inverted
        head["/Decode"] = Array([1, 0] * 4)
    return pdf.make_indirect(Stream(pdf, content, Dictionary(head)))


def plain_png(content: bytes) -> _Png | None:
    """Return a PNG of at most 8 bits, without transparency and not interlaced; none: it is another picture."""
    if not content.startswith(PNG):
        return None
    at, data, head, palette = len(PNG), [], None, b""
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        kind, chunk = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        if kind == b"IHDR" and len(chunk) == 13:
            head = struct.unpack(">IIBBBBB", chunk)
        elif kind == b"PLTE":
            palette = chunk
        elif kind == b"IDAT":
            data.append(chunk)
        elif kind in (b"tRNS", b"acTL"):
            return None
        at += 12 + length
    if head is None or head[3] not in COLOURS or bool(palette) != (head[3] == INDEXED) or head[2] > 8 or head[6]:
        return None
    return _Png(head[0], head[1], head[2], head[3], b"".join(data), palette)


def _png(pdf: Pdf, png: _Png) -> Stream:
    space, channels = COLOURS[png.colour]
    parameters = Dictionary(Predictor=15, Colors=channels, BitsPerComponent=png.depth, Columns=png.width)
    head = _head(png.width, png.height, space, png.depth)
    head |= {"/Filter": Name.FlateDecode, "/DecodeParms": parameters}
    if png.palette:
        last = len(png.palette) // 3 - 1
        head["/ColorSpace"] = Array([Name.Indexed, Name.DeviceRGB, last, String(png.palette)])
    return pdf.make_indirect(Stream(pdf, png.data, Dictionary(head)))


def _head(width: int, height: int, space: str, depth: int) -> dict[str, object]:
    return {
        "/Type": Name.XObject,
        "/Subtype": Name.Image,
        "/Width": width,
        "/Height": height,
        "/ColorSpace": Name(space),
        "/BitsPerComponent": depth,
    }
