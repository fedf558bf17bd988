"""A document whose pages a render process opens."""

import itertools
import os
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

from dotsctl.protocol.errors import PageError
from dotsctl.protocol.render.exchange import PAGE, PAGES, TEXT, HintAnswer, RenderAnswer, RenderRequest, path_text
from dotsctl.protocol.render.opening import open_input, unreadable
from dotsctl.protocol.render.process import PendingAnswer, RenderProcess

OWN_FILES = ("/dev/", "/proc/self/")
"""Folders whose files are other ones in another process."""
NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class RenderedPage:
    """The pixels of a page."""

    pixels: bytearray
    """uint8 (height, width, 3), RGB, as viewers show it."""
    size: tuple[int, int]
    """Width and height in pixels."""
    stored: tuple[int, int]
    """Width and height in pixels before the EXIF orientation was applied."""
    orientation: int
    """EXIF orientation, 1 to 8."""
    hint: HintAnswer
    """The document's own hint of the page."""


class RenderDocument:
    """A file, or the bytes of one."""

    def __init__(
        self, process: RenderProcess, origin: Path | bytes, password: str | None = None, hint: str = ""
    ) -> None:
        """Nothing is opened yet; ``hint``: the plugin that makes hints of its pages, see ``RenderRequest.hint``."""
        self._process, self._origin, self._password, self._hint = process, origin, password, hint
        self._number, self.token = next(NUMBERS), uuid.uuid4().hex
        self._ahead: PendingAnswer | None = None
        self._only: tuple[RenderedPage, int] | None = None
        """The page of a document that has no other, and its resolution, until it is requested."""

    def contents(self, dpi: int = 0) -> RenderAnswer:
        """Return what the document holds.

        Args:
            dpi: resolution for the pixels of an only page, which come at once and are kept until :meth:`page`; 0: they
                are not needed yet.

        Raises:
            PageError: the document, or its only page, cannot be read.
        """
        pending = self._request(RenderRequest(PAGES, dpi=dpi, hint=self._hint if dpi else ""))
        answer, pixels = self._process.result(pending)
        if answer.nbytes:
            self._only = self._rendered(answer, pixels, pending), dpi
        return answer

    def has_text(self, page: int) -> bool:
        """Return whether a page, from 1, has characters, drawn or not. Raises PageError."""
        return self._process.result(self._request(RenderRequest(TEXT, page=page)))[0].has_text

    def page(self, page: int, dpi: int = 0, following: int | None = None) -> RenderedPage:
        """Return the pixels of a page, from 1.

        Args:
            page: its number.
            dpi: resolution of a page that has none of its own.
            following: the page that will probably be requested next; it is rendered meanwhile.

        Raises:
            PageError: the page cannot be read, or takes too much time or memory.
            RenderingStoppedError: the owner stopped the rendering.
        """
        only, self._only = self._only, None
        if only is not None and (page, dpi) == (1, only[1]):
            return only[0]
        pending, self._ahead = self._ahead, None
        if pending is None or (pending.request.page, pending.request.dpi) != (page, dpi):
            pending = self._request(RenderRequest(PAGE, page=page, dpi=dpi, hint=self._hint))
        answer, pixels = self._process.result(pending)
        rendered = self._rendered(answer, pixels, pending)
        if following is not None:
            self._ahead = self._request(RenderRequest(PAGE, page=following, dpi=dpi, hint=self._hint))
        return rendered

    def _rendered(self, answer: RenderAnswer, pixels: bytearray, pending: PendingAnswer) -> RenderedPage:
        if pending.hint.problem:
            self._hint = ""  # it would cost a second for each of the other pages, too
        return RenderedPage(pixels, answer.size, answer.stored, answer.orientation, pending.hint)

    def _request(self, request: RenderRequest) -> PendingAnswer:
        """Send a request about this document. Raises PageError."""
        content = b""
        if isinstance(self._origin, Path):
            path = _absolute(self._origin)
            if path.startswith(OWN_FILES):
                content = self._origin = _read(self._origin)
            else:
                request = replace(request, path=path_text(path))
        if isinstance(self._origin, bytes):
            content, request = self._origin, replace(request, content=self._number)
        return self._process.request(replace(request, password=self._password), content)


def _absolute(path: Path) -> str:
    """The path for a process in another folder; of a file in a folder that is gone, one that does not exist either."""
    try:
        return os.path.abspath(path)  # noqa: PTH100 - Path.absolute keeps the dots
    except FileNotFoundError:
        raise PageError("there is no such file", "check the name and the folder you are in") from None


def _read(path: Path) -> bytes:
    with open_input(path) as stream:
        try:
            return stream.read()
        except OSError as error:
            raise unreadable(error) from None
