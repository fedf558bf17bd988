"""The render process: answers one request after the other until its owner closes the pipe.

It holds one document open. Whatever a decoder raises is the answer to one request; whatever a decoder does otherwise,
its owner ends the process and starts another one.
"""

import io
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING

from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.render.exchange import (
    HELD,
    HINT,
    LENGTH,
    PAGES,
    TEXT,
    RenderAnswer,
    RenderRequest,
    packed,
    path_of,
    unpacked,
)
from dotsctl.protocol.render.hinting import Hints
from dotsctl.protocol.render.memory import AddressSpace
from dotsctl.protocol.render.opening import SIGNATURE, SIGNATURE_WITHIN_BYTES, open_input, unreadable

if TYPE_CHECKING:
    from dotsctl.protocol.render.pdf import OpenPdf
    from dotsctl.protocol.render.pictures import OpenPicture

Pixels = Iterator[bytes | memoryview]


def main() -> None:
    """Serve the owner, which holds the other ends of standard input and output."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    space = AddressSpace()
    requests: SimpleQueue[tuple[RenderRequest, bytes]] = SimpleQueue()
    threading.Thread(target=_receive, args=(requests, space), daemon=True).start()
    _send(answers, RenderAnswer())
    renderer = Renderer(space)
    while True:
        answer, pixels = renderer.answer(*requests.get())
        _send(answers, answer, pixels)
        if answer.is_last:
            os._exit(0)


def _receive(requests: "SimpleQueue[tuple[RenderRequest, bytes]]", space: AddressSpace) -> None:
    """Read requests in a thread of its own, which notices the end of the owner in the middle of a page, too."""
    try:
        while len(length := sys.stdin.buffer.read(LENGTH.size)) == LENGTH.size:
            request = unpacked(RenderRequest, sys.stdin.buffer.read(*LENGTH.unpack(length)))
            nbytes = max(0, request.content_bytes)
            if request.content_bytes != HELD:
                space.allow_content(nbytes)
            requests.put((request, sys.stdin.buffer.read(nbytes)))
    finally:
        os._exit(0)


def _send(answers: IO[bytes], answer: RenderAnswer, pixels: Iterable[bytes | memoryview] = ()) -> None:
    try:
        answers.write(packed(answer))
        for strip in pixels:
            answers.write(strip)
            answers.flush()  # the hint that may follow takes time
        answers.flush()
    except BrokenPipeError:  # the owner has ended
        os._exit(0)


class Renderer:
    """Answers requests; holds the document of the last one and the content that the owner sent last."""

    def __init__(self, space: AddressSpace) -> None:
        self._space, self._hints = space, Hints(space)
        self._content, self._content_number = b"", 0
        self._open: OpenPdf | OpenPicture | None = None
        self._key: tuple[object, ...] = ()
        """The open document: a file by what the system reports of it, so that one that replaced it is opened anew."""

    def answer(self, request: RenderRequest, content: bytes) -> tuple[RenderAnswer, Pixels]:
        """The answer to a request, with the pixels that follow it."""
        try:
            if request.content_bytes != HELD:
                self._close()
                self._content, self._content_number = content, request.content
            return self._answered(request)
        except PageError as error:
            return self._refused(error)
        except MemoryError:
            text = "not enough memory for this page"
            return self._refused(PageError(text, "scan it at a lower resolution", code=ErrorCode.TOO_LARGE))
        except Exception as error:  # decoders raise anything for damaged files
            reason = " ".join(str(error).split())
            text = f"the page cannot be opened ({type(error).__name__}: {reason})"
            return self._refused(PageError(text, "convert it to PNG or JPEG"))

    def _refused(self, error: PageError) -> tuple[RenderAnswer, Pixels]:
        self._close()
        return RenderAnswer.of_error(error, is_last=self._space.is_short()), iter(())

    def _answered(self, request: RenderRequest) -> tuple[RenderAnswer, Pixels]:
        if request.asked == HINT:
            assert request.content == self._content_number, "the owner sends each content in time"
            found = self._hints.of_pixels(request.hint, self._content, request.size)
            return RenderAnswer(hint_follows=True), iter((packed(found),))
        document = self._document(request)
        if request.asked == TEXT:
            return RenderAnswer(has_text=document.has_text(request.page)), iter(())
        contents = document.contents()
        if request.asked == PAGES and (contents.num_pages > 1 or not request.dpi):
            return contents, iter(())
        header, pixels = document.render(request.page, request.dpi)
        header = replace(header, num_pages=contents.num_pages, is_document=contents.is_document, is_pdf=contents.is_pdf)
        if request.hint and contents.is_pdf:
            return replace(header, hint_follows=True), self._with_hint(pixels, document, request)
        return header, pixels if document.is_reusable else self._then_close(pixels)

    def _with_hint(self, pixels: Pixels, document: "OpenPdf | OpenPicture", request: RenderRequest) -> Pixels:
        yield from pixels
        yield packed(self._hints.of_document(request.hint, document, request.page))

    def _then_close(self, pixels: Pixels) -> Pixels:
        yield from pixels
        self._close()

    def _close(self) -> None:
        document, self._open, self._key = self._open, None, ()
        if document is not None:
            document.close()

    def _document(self, request: RenderRequest) -> "OpenPdf | OpenPicture":
        """The document of a request, which may be open."""
        key: tuple[object, ...] = (request.content, request.password)
        assert request.path or request.content == self._content_number, "the owner sends each content in time"
        path = path_of(request.path) if request.path else None
        if path is not None:
            try:
                key = (*_stamp(path.stat()), request.password)
            except (OSError, ValueError):
                key = ()
        if self._open is None or not key or key != self._key:
            self._close()
            stream = open_input(path) if path is not None else io.BytesIO(self._content)
            key = (*_stamp(os.fstat(stream.fileno())), request.password) if path is not None else key
            try:
                self._open = self._opened(stream, request.password)
            except BaseException:
                stream.close()
                raise
            self._key = key
        return self._open

    def _opened(self, stream: IO[bytes], password: str | None) -> "OpenPdf | OpenPicture":
        """Open a document in the format that its first bytes show. Raises PageError."""
        try:
            start = stream.read(SIGNATURE_WITHIN_BYTES)
            stream.seek(0)
        except OSError as error:
            raise unreadable(error) from None
        if not start.startswith(SIGNATURE):
            with self._space.importing():
                from dotsctl.protocol.render.pictures import OpenPicture
            try:
                return OpenPicture(stream)
            except PageError:
                if SIGNATURE not in start:
                    _explain(start)
                    raise
                stream.seek(0)
        with self._space.importing():
            from dotsctl.protocol.render.pdf import OpenPdf, library

            library()
        return OpenPdf(stream, password)


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    """The values that differ between two files, and between a file and itself before a change."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _explain(start: bytes) -> None:
    """Raise PageError with a better remedy than Pillow's where the first bytes show what the file is."""
    if not start:
        raise PageError("the file is empty", "scan or export the page again")
    if start.isascii() and all(byte >= 0x20 or byte in b"\t\n\r\f" for byte in start):
        raise PageError("this file holds text and no picture", "name the scan itself, as PNG, JPEG, TIFF or PDF")
