"""The render process's answers without the process."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from dotsctl.decoder_worker.plugins.fake import fake_text
from dotsctl.protocol.render.child import Renderer
from dotsctl.protocol.render.exchange import PAGE, RenderAnswer, RenderRequest
from dotsctl.protocol.render.process import PendingAnswer
from PIL import Image


class UnlimitedSpace:
    """Stands for the limit of the process's memory."""

    @contextlib.contextmanager
    def importing(self) -> Iterator[None]:
        yield

    def is_short(self) -> bool:
        return False


class RendererHere:
    """Stands for a render process: opens documents in this process."""

    def __init__(self) -> None:
        self._renderer = Renderer(UnlimitedSpace())  # type: ignore[arg-type]

    def request(self, request: RenderRequest, content: bytes = b"") -> PendingAnswer:
        found, pixels = self._renderer.answer(replace(request, content_bytes=len(content)), content)
        return PendingAnswer(request, answer=found, pixels=bytearray().join(map(bytes, pixels)))

    def result(self, pending: PendingAnswer) -> tuple[RenderAnswer, bytearray]:
        assert pending.answer is not None and pending.pixels is not None
        pending.answer.raise_error()
        return pending.answer, pending.pixels


def answer(content: bytes, page: int = 1, **asked: object) -> tuple[RenderAnswer, bytes]:
    """The answer to one request about a document, and the pixels; raises PageError."""
    here = RendererHere()
    found, pixels = here.result(here.request(RenderRequest(PAGE, content=1, page=page, **asked), content))  # type: ignore[arg-type]
    return found, bytes(pixels)


def decode_image(content: bytes) -> tuple[Image.Image, tuple[int, int], int]:
    """The page of a picture file as viewers show it, its stored (width, height), its EXIF orientation."""
    found, pixels = answer(content)
    return Image.frombytes("RGB", found.size, pixels), found.stored, found.orientation


def text_of_files(*contents: bytes, **options: int) -> str:
    """The text that the fake plugins read from picture files, which travel as pixels."""
    return fake_text(*(decode_image(content)[0].tobytes() for content in contents), **options)
