"""The pixels of a page that was read: loaded again when something is cut out of it or drawn on it, and then forgotten.

A page of a PDF is rendered again, at the same resolution. Only one page is held at a time, however many are in flight.
"""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dotsctl.client.files.part_file import PartFiles
from dotsctl.client.files.written import WrittenFile
from dotsctl.client.formats.format import Images
from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.inputs.selection import PageRanges
from dotsctl.client.inputs.sources import InputFile
from dotsctl.client.results.cell import Cell
from dotsctl.client.results.markdown import PICTURE
from dotsctl.client.results.page import Page
from dotsctl.protocol.errors import PageError
from dotsctl.protocol.render.finishing import finishing
from PIL import Image


class PagePixels:
    """Loads the pages of documents again."""

    def __init__(
        self,
        names: Sequence[str],
        find: Callable[[Page], PageInput | None],
        passwords: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare, without loading anything yet.

        Args:
            names: of the documents, in their order.
            find: where a page came from; none: it no longer exists.
            passwords: by the name of the document.
        """
        self.names, self._find, self._passwords = names, find, passwords or {}

    @classmethod
    def of_files(cls, documents: Sequence[InputFile]) -> "PagePixels":
        """The pages of files, which are opened again."""
        by_name = {document.name: document for document in documents}

        def find(page: Page) -> PageInput | None:
            document, ranges = by_name[page.source], PageRanges(((page.page, page.page),))
            return next(replace(document, selection=replace(document.selection, pages=ranges, hint="")).pages(), None)

        passwords = {document.name: document.selection.password or "" for document in documents}
        return cls(list(by_name), find, passwords)

    def password(self, name: str) -> str:
        """Return the password of a document; empty: none."""
        return self._passwords.get(name, "")

    def original(self, page: Page) -> Path | bytes | None:
        """Return the file that a page came from, or the bytes of one; none: it was a picture in memory."""
        found = self._find(page)
        return None if found is None else found.path or found.content

    def has_text(self, page: Page) -> bool:
        """Return whether the document has text on a page before any is added."""
        found = self._find(page)
        return found is not None and found.has_text()

    def load(self, page: Page) -> Image.Image:
        """The page as viewers show it, RGB.

        Raises:
            PageError: the input cannot be read any more, or is another one by now.
        """
        try:
            with finishing():
                if (found := self._find(page)) is None:
                    raise PageError("the document no longer has this page")
                header, content, _ = found.load()
        except PageError as error:
            problem = f"page {page.page} was read, but its pixels cannot be loaded again ({error.problem})"
            raise PageError(problem, error.remedy) from None
        image = Image.frombuffer("RGB", (header.width, header.height), content)
        if image.size != (page.width, page.height):
            size = f"{image.width}x{image.height} px instead of {page.width}x{page.height}"
            raise PageError(f"page {page.page} changed while it was read: it now has {size}", "run the command again")
        return image


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
        self._numbers = {name: number for number, name in enumerate(pixels.names, start=1)}

    def cut(self, page: Page) -> dict[int, str]:
        """Cut the pictures of cells and return their links by place; files get their names with :meth:`commit`.

        Raises:
            PageError: the page cannot be loaded again.
            OutputError: a file cannot be written.
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

    def seal(self) -> list[WrittenFile]:
        """Flush the files to the disk, without their names yet. Raises OutputError."""
        return self._files.seal()

    def commit(self) -> None:
        """Give the files their names; to be called in front of the document that links to them."""
        self._files.commit()

    def discard(self) -> None:
        """Remove the files that have no names yet."""
        self._files.discard()
