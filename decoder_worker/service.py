"""The decoder's loop, on the main thread: admits pages while there is room and steps the plugin while pages run.

Knows a plugin and a :class:`DecoderSockets`, but no process. Pages wait here in order of arrival; they are at most as
many as the coordinator has credits.
"""

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from dotsctl.decoder_worker.gathering import Gathering
from dotsctl.decoder_worker.plugin import Decoder, EncodedPrompt, Finish, Piece, PrefillingDecoder
from dotsctl.decoder_worker.sockets import Arrived, DecoderSockets
from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.messages import (
    CancelRequest,
    Consumed,
    Decoded,
    Done,
    Embeddings,
    Gather,
    HintRequest,
    RequestFailed,
    Stop,
)
from dotsctl.protocol.page_hint import PageHint
from dotsctl.protocol.worker.gpu_faults import is_gpu_fault
from dotsctl.protocol.worker.plugin_faults import location_of, raised

log = logging.getLogger(__name__)

IDLE_S = 60.0
FLUSH_S = 0.05
FLUSH_TOKENS = 16
MOST_EARLY_HINTS = 32
"""Hints that wait for the embeddings of their pages; those of pages that never come are forgotten."""


@dataclass
class DecodingPage:
    """A page in the plugin's batch."""

    header: Embeddings
    hint: PageHint | None
    arrived_at: float
    admitted_at: float = 0.0
    first_token_at: float | None = None
    text: list[str] = field(default_factory=list)
    """Pieces that were not sent yet."""
    num_tokens: int = 0
    flushed_at: float = 0.0
    announced: bool = False
    """Whether the client has got the page's geometry."""


class DecoderService:
    """Serves until the coordinator requests the end."""

    def __init__(self, sockets: DecoderSockets, decoder: Decoder, where: str, gathering: Gathering) -> None:
        """Prepare; ``where`` names the plugin in errors, ``gathering`` decides when a pass waits for more pages."""
        self._where, self._gathering = where, gathering
        self._sockets, self._decoder = sockets, decoder
        self._prefill = decoder.prefill if isinstance(decoder, PrefillingDecoder) else lambda: False
        self._waiting: deque[tuple[Arrived, float]] = deque()
        self._running: dict[int, DecodingPage] = {}
        self._hints: OrderedDict[tuple[int, int], PageHint] = OrderedDict()
        """Hints that came after their pages were sent, by request and attempt, until these pages are admitted."""
        self._stopped = False

    def run(self) -> None:
        """Decode; returns after ``Stop``."""
        wait_s = IDLE_S
        while not self._stopped:
            self._read_events(wait_s)
            self._admit()
            if self._stopped:
                return
            wait_s = self._advance() if self._running else 0.0 if self._waiting else IDLE_S

    def _advance(self) -> float:
        """Decode one step further, or only prefill while more pages are waited for; the seconds until the next call.

        Raises:
            Exception: as :meth:`_step`.
        """
        now = time.monotonic()
        gather_s = self._gathering.remaining_s(len(self._running), now, is_full=bool(self._waiting))
        if not gather_s:
            self._step(self._decoder.step)
            return 0.0
        is_left = False

        def prefill() -> list[Piece]:
            nonlocal is_left
            is_left = self._prefill()
            return []

        self._step(prefill)
        return 0.0 if is_left else gather_s

    def _step(self, compute: Callable[[], list[Piece]]) -> None:
        """One call of the plugin; memory that runs out costs the running pages this attempt, and no page more.

        Raises:
            Exception: what the plugin raised where several pages run, or through the GPU: a new process tries again.
        """
        started, pages = time.monotonic(), len(self._running)
        is_pass = all(page.first_token_at is not None for page in self._running.values())
        try:
            pieces = checked_pieces(compute(), self._running)
        except MemoryError as error:
            reason = error or "not enough memory"
            text = f"the decoder could not continue with {len(self._running)} pages ({reason}): lower --max-pixels"
            self._fail_running(ErrorCode.OOM, text)
        except (Exception, SystemExit) as error:
            if len(self._running) > 1 or is_gpu_fault(error):
                raise
            log.exception("%s", self._where)
            self._fail_running(ErrorCode.INTERNAL, f"{self._where} {raised(error)}{location_of(error)}")
        else:
            if is_pass and pieces:
                self._gathering.costs.passed(pages, time.monotonic() - started)
            for piece in pieces:
                self._pass_on(piece)

    def _fail_running(self, code: ErrorCode, text: str) -> None:
        for page_id, page in list(self._running.items()):
            self._decoder.cancel(page_id)
            del self._running[page_id]
            self._fail(page.header, code, text)

    def _fail(self, header: Embeddings, code: ErrorCode, text: str) -> None:
        self._sockets.send(RequestFailed(header.request_id, header.attempt, code, text))

    def _read_events(self, timeout_s: float) -> None:
        """Take everything that has come; wait only for the first."""
        event = self._sockets.next_event(timeout_s)
        while event is not None:
            match event:
                case Arrived():
                    self._waiting.append((event, time.monotonic()))
                case CancelRequest():
                    self._cancel(event)
                case HintRequest():
                    self._keep(event)
                case Gather(for_s):
                    self._gathering.permit(for_s, time.monotonic())
                case Stop():
                    self._stopped = True
            event = self._sockets.next_event(0.0)

    def _keep(self, late: HintRequest) -> None:
        """Keep a hint until its page is admitted."""
        if late.request_id not in self._running:
            self._hints[late.request_id, late.attempt] = late.hint
            if len(self._hints) > MOST_EARLY_HINTS:
                self._hints.popitem(last=False)

    def _cancel(self, cancel: CancelRequest) -> None:
        self._hints.pop((cancel.request_id, cancel.attempt), None)
        for entry in list(self._waiting):
            if (entry[0].header.request_id, entry[0].header.attempt) == (cancel.request_id, cancel.attempt):
                self._waiting.remove(entry)
        page = self._running.get(cancel.request_id)
        if page is not None and page.header.attempt == cancel.attempt:
            self._decoder.cancel(cancel.request_id)
            del self._running[cancel.request_id]

    def _admit(self) -> None:
        """Hand waiting pages to the plugin in order of arrival, as long as the first one fits."""
        while self._waiting:
            arrived, at = self._waiting[0]
            header = arrived.header
            key = (header.request_id, header.attempt)
            prompt = _prompt(arrived, self._hints.get(key, header.options.hint))
            if not self._decoder.has_room(prompt):
                return
            self._waiting.popleft()
            self._hints.pop(key, None)
            try:
                self._decoder.admit(prompt)
            except PageError as error:
                self._fail(header, error.code, str(error))
                continue
            except MemoryError:
                self._fail(header, ErrorCode.OOM, "not enough memory to decode this page: lower --max-pixels")
                continue
            except (Exception, SystemExit) as error:
                if is_gpu_fault(error):
                    raise
                log.exception("%s, request %d", self._where, header.request_id)
                self._decoder.cancel(header.request_id)
                self._fail(header, ErrorCode.INTERNAL, f"{self._where} {raised(error)} in admit{location_of(error)}")
                continue
            now = time.monotonic()
            self._running[header.request_id] = DecodingPage(header, prompt.hint, at, admitted_at=now, flushed_at=now)
            self._sockets.send(Consumed(header.request_id, header.attempt))

    def _pass_on(self, piece: Piece) -> None:
        """Collect the text of a page, and send it now and then, and when the page is done."""
        page, now = self._running[piece.page_id], time.monotonic()
        if piece.error:
            del self._running[piece.page_id]
            self._fail(page.header, ErrorCode.INTERNAL, f"{self._where} {piece.error}")
            return
        if piece.num_tokens and page.first_token_at is None:
            page.first_token_at = now
        page.text.append(piece.text)
        page.num_tokens += piece.num_tokens
        if piece.finish is not None:
            self._flush(page, now)
            del self._running[piece.page_id]
            self._sockets.send(_done(page, piece.finish, now))
        elif page.num_tokens >= FLUSH_TOKENS or now - page.flushed_at >= FLUSH_S:
            self._flush(page, now)

    def _flush(self, page: DecodingPage, now: float) -> None:
        text = "".join(page.text)
        geometry = None if page.announced else page.header.geometries[0]
        page.announced = True
        self._sockets.send(Decoded(page.header.request_id, page.header.attempt, text, page.num_tokens, geometry))
        page.text.clear()
        page.num_tokens, page.flushed_at = 0, now


def checked_pieces(pieces: Any, running: Collection[int]) -> list[Piece]:
    """Return what ``step`` returned.

    Raises:
        TypeError: it is no list of pieces of the pages that run.
    """
    if not isinstance(pieces, list | tuple) or not all(isinstance(piece, Piece) for piece in pieces):
        raise TypeError(f"step returned {pieces!r:.60}, not a list of Piece")
    for piece in pieces:
        finish = piece.finish
        if piece.page_id not in running:
            raise TypeError(f"step returned a piece of page {piece.page_id!r:.40}, which does not run")
        if not (isinstance(piece.text, str) and isinstance(piece.error, str) and type(piece.num_tokens) is int):
            raise TypeError(f"step returned text {piece.text!r:.40} and num_tokens {piece.num_tokens!r:.40}")
        if finish is not None and not (isinstance(finish, Finish) and isinstance(finish.text, str)):
            raise TypeError(f"step returned finish {finish!r:.60}, not a Finish with a text")
    return list(pieces)


def _prompt(arrived: Arrived, hint: PageHint | None) -> EncodedPrompt:
    options = arrived.header.options
    return EncodedPrompt(
        page_id=arrived.header.request_id,
        embeddings=arrived.values,
        task=options.task,
        prompt=options.prompt,
        max_tokens=options.max_tokens,
        hint=hint,
        rows=arrived.header.rows,
        geometry=arrived.header.geometries[0],
        box=options.box,
        source=options.source,
    )


def _done(page: DecodingPage, finish: Finish, now: float) -> Done:
    timings = {
        **page.header.timings_ms,
        "wait": (page.admitted_at - page.arrived_at) * 1000,
        "first_token": ((page.first_token_at or now) - page.admitted_at) * 1000,
        "decode": (now - page.admitted_at) * 1000,
    }
    return Done(
        request_id=page.header.request_id,
        attempt=page.header.attempt,
        text=finish.text,
        finish_reason=finish.reason,
        geometries=page.header.geometries,
        image_tokens=page.header.tensor.shape[0],
        prompt_tokens=finish.prompt_tokens,
        completion_tokens=finish.completion_tokens,
        timings_ms=timings,
        hint=page.hint.origin if page.hint else "",
    )
