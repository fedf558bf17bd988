"""The encoder's loop: one page at a time, on one thread. It has the links and an encoder, but no process.

A prediction may hold the GIL for seconds, so nothing here answers in time; the coordinator judges the process by
whether it runs and makes progress. Pages wait in the socket and in ``_pending`` (at most the credits, two).
"""

import logging
import time
from collections import deque

import numpy as np
from dotsctl.encoder_worker.checks import checked
from dotsctl.encoder_worker.plugin import BlankPage, EncodedPage, Encoder, EncoderSpec, PageImage
from dotsctl.protocol import codec
from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.link import Link, Links
from dotsctl.protocol.messages import Blank, CancelRequest, Dropped, Embeddings, Encode, Encoded, RequestFailed, Stop
from dotsctl.protocol.parts import ImageHeader, ImageKind, PageOptions, TensorHeader
from dotsctl.protocol.worker.gpu_faults import is_refused
from dotsctl.protocol.worker.plugin_faults import location_of, raised
from dotsctl.protocol.worker.shell import Control

log = logging.getLogger(__name__)

IDLE_S = 60.0
PUSH_TIMEOUT_S = 60.0
"""Longest wait for a decoder to take a page; by then the coordinator has long cancelled a page of a dead one."""


class EncoderService:
    """Serves until the coordinator sends Stop."""

    def __init__(self, links: Links, control: Control, encoder: Encoder, spec: EncoderSpec, where: str) -> None:
        """Prepare; ``where`` names the plugin in errors."""
        self._where = where
        self._links, self._control, self._encoder, self._spec = links, control, encoder, spec
        self._pending: deque[tuple[Encode, list[memoryview]]] = deque()
        self._push: Link | None = None
        self._push_endpoint = ""
        self._current: Encode | None = None
        self._cancelled = False
        """Whether the page in work was cancelled meanwhile."""
        self._stopped = False

    def run(self) -> None:
        """Encode page after page; returns after ``Stop``.

        Raises:
            RuntimeError: the GPU takes no more work from this process.
        """
        while not self._stopped:
            self._links.wait(0.0 if self._pending else IDLE_S, [self._control.link])
            self._read_control()
            if self._pending and not self._stopped:
                self._serve(*self._pending.popleft())

    def _read_control(self) -> None:
        while received := self._control.receive():
            match received.message:
                case Encode():
                    self._pending.append((received.message, received.buffers))
                case CancelRequest(request_id, attempt):
                    self._cancel(request_id, attempt)
                case Stop():
                    self._stopped = True
                case other:
                    log.warning("%s is not for an encoder", type(other).__name__)

    def _cancel(self, request_id: int, attempt: int) -> None:
        waiting = [entry for entry in self._pending if (entry[0].request_id, entry[0].attempt) == (request_id, attempt)]
        for entry in waiting:
            self._pending.remove(entry)
            self._control.send(Dropped(request_id, attempt))
        if self._current and (self._current.request_id, self._current.attempt) == (request_id, attempt):
            self._cancelled = True

    def _serve(self, request: Encode, buffers: list[memoryview]) -> None:
        """Encode one page and push it; whatever goes wrong with the page is the page's failure alone."""
        self._current, self._cancelled = request, False
        started = time.monotonic()
        try:
            self._encode_and_push(request, buffers)
        except BlankPage as blank:
            timings = {**blank.timings_ms, "encode_total": (time.monotonic() - started) * 1000}
            self._control.send(Blank(request.request_id, request.attempt, (blank.geometry,), timings))
        except PageError as error:
            where = f"{self._where}: " if error.code is ErrorCode.BAD_EMBED else ""
            self._fail(request, error.code, f"{where}{error}")
        except MemoryError:
            text = "not enough memory to encode this page: lower --max-pixels"
            self._fail(request, ErrorCode.OOM, text)
        except (Exception, SystemExit) as error:  # a plugin's own fault: reported to the user, logged, survived
            if is_refused(error):  # only a new process can use the GPU: the runtime starts one and retries the page
                raise
            log.exception("request %d", request.request_id)
            self._fail(request, ErrorCode.INTERNAL, f"{self._where} {raised(error)}{location_of(error)}")
        finally:
            self._current = None

    def _encode_and_push(self, request: Encode, buffers: list[memoryview]) -> None:
        started = time.monotonic()
        pages = self._encoder.encode(page_images(request, buffers))
        embeddings, header = checked(pages, len(request.images), self._spec)  # (num_embeddings, width)
        timings = with_total(summed(pages), (time.monotonic() - started) * 1000)
        message = _embeddings(request, header, pages, timings)
        if self._send(request, codec.encode(message, [embeddings.data])):
            self._control.send(Encoded(request.request_id, request.attempt, header.nbytes))
        else:
            self._control.send(Dropped(request.request_id, request.attempt))

    def _send(self, request: Encode, frames: list[codec.Buffer]) -> bool:
        """Hand the page to the data plane; false when it was cancelled before the decoder could take it."""
        push = self._link_to(request.data_endpoint)
        deadline = time.monotonic() + PUSH_TIMEOUT_S
        while True:
            self._read_control()
            if self._cancelled or self._stopped:
                return False
            if push.send(frames):
                return True
            if time.monotonic() > deadline:
                raise PageError(f"the decoder accepted no page for {PUSH_TIMEOUT_S:.0f} s", code=ErrorCode.STALL)
            self._links.wait(1.0, [self._control.link], writable=[push])

    def _link_to(self, endpoint: str) -> Link:
        """Return the socket to the present decoder; pages queued for a dead one are dropped with the old socket."""
        if self._push is None or self._push_endpoint != endpoint:
            if self._push is not None:
                self._links.drop(self._push)
            self._push, self._push_endpoint = self._links.push(endpoint), endpoint
        return self._push

    def _fail(self, request: Encode, code: ErrorCode, text: str) -> None:
        self._control.send(RequestFailed(request.request_id, request.attempt, code, text))


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


def with_total(stages_ms: dict[str, float], total_ms: float) -> dict[str, float]:
    """The stages and their sum as measured here; what a plugin does not name was its encoding."""
    rest_ms = max(0.0, total_ms - sum(stages_ms.values()))
    return {**stages_ms, "encode": stages_ms.get("encode", rest_ms), "encode_total": total_ms}


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
