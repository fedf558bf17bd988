"""The pixels of a page that was read: loaded again when something is cut out of it or drawn on it, and then forgotten.

A page of a PDF is rendered again, at the same resolution. Only one page is held at a time, however many are in flight.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from dotsctl.client.cell import Cell
from dotsctl.client.inputs import LoadedPage
from dotsctl.client.markdown import PICTURE
from dotsctl.client.part_file import PartFiles
from dotsctl.client.records import Page
from dotsctl.client.selection import PageRanges
from dotsctl.client.sources import Document
from dotsctl.protocol.errors import OutputError, PageError
from dotsctl.protocol.parts import ImageKind
from dotsctl.protocol.pixels import open_picture, picture_errors, to_rgb
from PIL import Image, ImageOps


class Images(StrEnum):
    """What becomes of the pictures on a page."""

    FILES = "files"
    """A PNG file each, beside the document."""
    EMBED = "embed"
    """Within the document, as base64."""
    NONE = "none"


@dataclass(frozen=True)
class PagePixels:
    """Loads the pages of documents again."""

    documents: Sequence[Document]

    def load(self, page: Page) -> Image.Image:
        """The page as viewers show it, RGB.

        Raises:
            OutputError: the input cannot be read any more, or is another one by now.
        """
        place = f"{page.source}:{page.page}"
        try:
            image = _decoded(self._loaded(page))
        except PageError as error:
            raise OutputError(f"{place} was read, but cannot be read again for its pixels: {error}") from None
        if image.size != (page.width, page.height):
            size = f"{image.width}x{image.height} px instead of {page.width}x{page.height}"
            raise OutputError(f"{place} has changed while it was read, it has {size}: run the command again")
        return image

    def _loaded(self, page: Page) -> LoadedPage:
        document = next(document for document in self.documents if document.name == page.source)
        ranges = PageRanges(((page.page, page.page),))
        for one in replace(document, selection=replace(document.selection, pages=ranges)).pages():
            return one.load()
        raise PageError("the document has no such page any more")


def _decoded(loaded: LoadedPage) -> Image.Image:
    """The pixels of a loaded page, turned upright, of shape (height, width, 3)."""
    header, content, _ = loaded
    if header.kind is ImageKind.RGB:
        return Image.frombytes("RGB", (header.width, header.height), bytes(content))
    with open_picture(io.BytesIO(content)) as image, picture_errors():
        image.load()
        return to_rgb(ImageOps.exif_transpose(image))


def places_of_pictures(page: Page) -> list[int]:
    """The places among the cells that have a picture with an area."""
    return [place for place, cell in enumerate(page.cells) if cell.category == PICTURE and _has_area(cell)]


def _has_area(cell: Cell) -> bool:
    return cell.bbox is not None and cell.bbox[0] < cell.bbox[2] and cell.bbox[1] < cell.bbox[3]


def png(image: Image.Image, *, compress_level: int = 6) -> bytes:
    """A picture as the bytes of a PNG file; the level, 0 to 9, trades time for size."""
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=compress_level)
    return stream.getvalue()


def inline(content: bytes, kind: str) -> str:
    """The bytes of a picture file as an address that holds them."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


class Cutter:
    """Cuts the pictures out of the pages of one output."""

    def __init__(self, pixels: PagePixels, images: Images, target: Path | None = None) -> None:
        """``target`` is the document that links to the files, which lie in a folder of its name; none: no files."""
        self._pixels = pixels
        self._images = images if target or images is not Images.FILES else Images.NONE
        self._target = target or Path()
        self._files = PartFiles()
        self._numbers = {document.name: number for number, document in enumerate(pixels.documents, start=1)}

    def cut(self, page: Page) -> dict[int, str]:
        """Where the picture of each cell is, by its place; files get their names with :meth:`commit`.

        Raises:
            OutputError: the page cannot be loaded again, or a file cannot be written.
        """
        places = [] if self._images is Images.NONE else places_of_pictures(page)
        if not places:
            return {}
        image = self._pixels.load(page)
        crops = {place: png(image.crop(page.cells[place].bbox)) for place in places}
        if self._images is Images.EMBED:
            return {place: inline(crop, "png") for place, crop in crops.items()}
        return {place: self._store(page, number, crops[place]) for number, place in enumerate(places, start=1)}

    def _store(self, page: Page, number: int, crop: bytes) -> str:
        """Write a picture; returns its path below the folder of the document."""
        folder = self._target.stem if self._target.suffix else f"{self._target.name}_files"
        document = f"{self._numbers[page.source]:04}-" if len(self._numbers) > 1 else ""
        name = f"{folder}/images/{document}page-{page.page:04}-{number:02}.png"
        self._files.add(self._target.parent / name, crop)
        return name

    def commit(self) -> None:
        """Give the files their names; to be called in front of the document that links to them."""
        self._files.commit()

    def discard(self) -> None:
        """Take the files away that have no names yet."""
        self._files.discard()
