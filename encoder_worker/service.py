"""The encoder's loop, on the main thread: one request at a time. It has the sockets and an encoder, but no process.

A computation may hold the GIL for seconds; then no other thread answers in time, and the coordinator judges the process
by whether it runs and makes progress. Requests wait in the line of ``preparing.py`` (at most the credits, two).
"""

import logging
import time

import numpy as np
from dotsctl.encoder_worker.checks import checked
from dotsctl.encoder_worker.plugin import (
    BlankPage,
    EncodedPage,
    Encoder,
    EncoderSpec,
    PageImage,
    PreparingEncoder,
    prepared,
)
from dotsctl.encoder_worker.preparing import PreparedRequest, RequestLine
from dotsctl.encoder_worker.sockets import EncoderSockets
from dotsctl.protocol import codec
from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.link import Links
from dotsctl.protocol.messages import Blank, Dropped, Embeddings, Encode, Encoded, RequestFailed
from dotsctl.protocol.parts import ImageHeader, ImageKind, PageOptions, TensorHeader
from dotsctl.protocol.worker.gpu_faults import is_gpu_fault
from dotsctl.protocol.worker.plugin_faults import location_of, raised
from dotsctl.protocol.worker.shell import Control

log = logging.getLogger(__name__)


class EncoderService:
    """Serves until the coordinator sends Stop."""

    def __init__(self, links: Links, control: Control, encoder: Encoder, spec: EncoderSpec, where: str) -> None:
        """Start the threads of the sockets and of the preparation; ``where`` names the plugin in errors."""
        self._encoder, self._spec, self._where = encoder, spec, where
        self._is_preparing = isinstance(encoder, PreparingEncoder)
        self._line = RequestLine(lambda request, buffers: prepared(encoder, page_images(request, buffers)))
        self._sockets = EncoderSockets(links, control, self._line)
        self._line.start()
        self._sockets.start()

    def run(self) -> None:
        """Encode request after request; returns after ``Stop``.

        Raises:
            RuntimeError: macOS ended or refused work on the GPU.
        """
        while (taken := self._line.take()) is not None:
            self._serve(taken)

    def _serve(self, taken: PreparedRequest) -> None:
        """Encode one page and push it; whatever goes wrong with the page is the page's failure alone."""
        request, started = taken.request, time.monotonic() - taken.waited_s
        try:
            self._encode_and_push(taken, started)
        except BlankPage as blank:
            timings = {**blank.timings_ms, "encode_total": (time.monotonic() - started) * 1000}
            self._sockets.send(Blank(request.request_id, request.attempt, (blank.geometry,), timings))
        except PageError as error:
            where = f"{self._where}: " if error.code is ErrorCode.BAD_EMBED else ""
            self._fail(request, error.code, f"{where}{error}")
        except MemoryError:
            text = "not enough memory to encode this page: lower --max-pixels"
            self._fail(request, ErrorCode.OOM, text)
        except (Exception, SystemExit) as error:  # a plugin's own fault: reported to the user, logged, survived
            if is_gpu_fault(error):  # only a new process can use the GPU: the runtime starts one and retries the page
                raise
            log.exception("request %d", request.request_id)
            self._fail(request, ErrorCode.INTERNAL, f"{self._where} {raised(error)}{location_of(error)}")

    def _encode_and_push(self, taken: PreparedRequest, started: float) -> None:
        request = taken.request
        if taken.error is not None:
            raise taken.error
        pages = self._encoder.encode(taken.images)
        embeddings, header = checked(pages, len(request.images), self._spec)  # (num_embeddings, width)
        waited_ms = taken.waited_s * 1000 if self._is_preparing else None
        timings = with_total(summed(pages), (time.monotonic() - started) * 1000, waited_ms)
        message = _embeddings(request, header, pages, timings)
        if self._sockets.push(request.data_endpoint, codec.encode(message, [embeddings.data])):
            self._sockets.send(Encoded(request.request_id, request.attempt, header.nbytes))
        else:
            self._sockets.send(Dropped(request.request_id, request.attempt))

    def _fail(self, request: Encode, code: ErrorCode, text: str) -> None:
        self._sockets.send(RequestFailed(request.request_id, request.attempt, code, text))


def page_images(request: Encode, buffers: list[memoryview]) -> list[PageImage]:
    """The images as the plugin takes them."""
    content = b"".join(buffers)
    images, start = [], 0
    for header in request.images:
        images.append(_page_image(header, content[start : start + header.nbytes], request.options))
        start += header.nbytes
    return images


def _page_image(header: ImageHeader, content: bytes, options: PageOptions) -> PageImage:
    if header.kind is ImageKind.FILE:
        return PageImage(content, None, options.pixel_limit, options.check_blank, options.trims_margins)
    pixels = np.frombuffer(content, np.uint8).reshape(header.height, header.width, 3)
    return PageImage(None, pixels, options.pixel_limit, options.check_blank, options.trims_margins)


def summed(pages: list[EncodedPage]) -> dict[str, float]:
    """Milliseconds by stage, of all images together."""
    total: dict[str, float] = {}
    for page in pages:
        for stage, milliseconds in page.timings_ms.items():
            total[stage] = total.get(stage, 0.0) + milliseconds
    return total


def with_total(stages_ms: dict[str, float], total_ms: float, waited_ms: float | None = None) -> dict[str, float]:
    """The stages and the time of the encoder as measured here; what a plugin does not name was its encoding.

    Args:
        stages_ms: of the plugin.
        total_ms: from the moment when the encoder was free for the page to the end of its encoding.
        waited_ms: the part in which the encoder stood still for the page's preparation; the stages of a preparation
            that went on beside an earlier page are not part of the total. None: the plugin prepares nothing ahead.
    """
    if waited_ms is None:
        rest_ms = total_ms - sum(stages_ms.values())
        return {**stages_ms, "encode": stages_ms.get("encode", max(0.0, rest_ms)), "encode_total": total_ms}
    encode_ms = stages_ms.get("encode", total_ms - waited_ms)
    prepared_ms = {stage: stage_ms for stage, stage_ms in stages_ms.items() if stage != "encode"}
    return {**prepared_ms, "prepare_wait": waited_ms, "encode": encode_ms, "encode_total": total_ms}


def _embeddings(
    request: Encode, header: TensorHeader, pages: list[EncodedPage], timings: dict[str, float]
) -> Embeddings:
    return Embeddings(
        request_id=request.request_id,
        attempt=request.attempt,
        tensor=header,
        rows=tuple(len(page.embeddings) for page in pages),
        geometries=tuple(page.geometry for page in pages),
        options=request.options,
        timings_ms=timings,
    )
