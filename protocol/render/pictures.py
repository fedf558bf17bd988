"""Picture files through Pillow: frames, and one of them as upright RGB in strips."""

from collections.abc import Iterator
from typing import IO

from dotsctl.protocol.model.pixels import open_picture, picture_errors, require_page_size, upright_strips
from dotsctl.protocol.render.exchange import RenderAnswer
from PIL import Image


class OpenPicture:
    """A picture file that is open; only the frames of a TIFF are pages, those of a GIF are not."""

    def __init__(self, stream: IO[bytes]) -> None:
        """Read the header.

        Raises:
            PageError: it is no picture, or has too many pixels, or is too long for its width.
        """
        self._stream, self._image = stream, open_picture(stream)
        with picture_errors():
            require_page_size(*self._image.size)
            self.is_tiff = self._image.format == "TIFF"
            self.num_pages = int(getattr(self._image, "n_frames", 1)) if self.is_tiff else 1

    @property
    def is_reusable(self) -> bool:
        """Return whether more than one page can be read of it."""
        return self.num_pages > 1

    def contents(self) -> RenderAnswer:
        """Return what the file holds."""
        return RenderAnswer(num_pages=self.num_pages, is_document=self.is_tiff)

    def render(self, page: int, dpi: int) -> tuple[RenderAnswer, Iterator[bytes]]:
        """A page, from 1: its header, and its rows from top to bottom in strips. Raises PageError."""
        with picture_errors():
            if self.num_pages > 1 or page > 1:
                self._image.seek(page - 1)
            require_page_size(*self._image.size)
            self._image.load()
            stored = self._image.size
            require_page_size(*stored)
            size, orientation, strips = upright_strips(self._image)
        return RenderAnswer(size=size, stored=stored, orientation=orientation), map(_bytes, strips)

    def has_text(self, page: int) -> bool:
        """Pictures have none."""
        return False

    def hint(self, page: int, plugin: object) -> None:
        """Pictures have none."""

    def close(self) -> None:
        """Close the file."""
        self._image.close()
        self._stream.close()


def _bytes(strip: Image.Image) -> bytes:
    return strip.tobytes()
