"""The writers of one output of any format; text is written as soon as it is the turn of its page.

So a document of any number of pages costs the memory of those that wait; JSON alone, being one value, is held until the
end.
"""

from pathlib import Path

from dotsctl.client.files.part_file import PartFile
from dotsctl.client.files.written import WrittenFile
from dotsctl.client.formats.format import FileFormat, Note, PageSources, Writer
from dotsctl.client.formats.pictures import Cutter, PagePixels
from dotsctl.client.formats.stream import Lost, Stream
from dotsctl.client.formats.style import Style
from dotsctl.client.results.page import Page


class TextWriter(Writer):
    """One file with the text of one or more documents, and the pictures that it links to."""

    def __init__(self, path: Path, pixels: PagePixels, style: Style, lost: Lost | None = None) -> None:
        """``pixels`` are those of the documents; ``lost`` as in :class:`Stream`."""
        self._cutter = Cutter(pixels, style.images, path)
        self._file = PartFile(path)
        self._stream = Stream(pixels.names, style, PageSources(self._cutter.cut, pixels.load), lost)

    def add(self, page: Page) -> None:
        """Write every page whose turn it is."""
        self._write(self._stream.add(page))

    def seal(self) -> list[WrittenFile]:
        """See :meth:`Writer.seal`."""
        self._write(self._stream.rest())
        document = self._file.seal()
        return [*self._cutter.seal(), *([document] if document is not None else [])]

    def commit(self) -> None:
        """The pictures come first, so that no link of the document leads nowhere."""
        self._cutter.commit()
        self._file.commit()

    def _write(self, text: str) -> None:
        if text:
            self._file.write(text.encode())

    def discard(self) -> None:
        """Take the parts away."""
        self._cutter.discard()
        self._file.discard()


def make_writer(
    path: Path, pixels: PagePixels, style: Style, lost: Lost | None = None, note: Note = lambda _source, _text: None
) -> Writer:
    """Return the writer of a format; a format that is no text takes the pages of one document."""
    chosen = style.format
    if isinstance(chosen, FileFormat):
        return chosen.writer(path, pixels, note)
    return TextWriter(path, pixels, style, lost)
