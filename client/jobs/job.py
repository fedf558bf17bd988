"""One call's pages on their way through a runtime: keeps the window full and reports the outcome of each page."""

import contextlib
import functools
import hashlib
import uuid
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dotsctl.client.connection.session import Session
from dotsctl.client.connection.waiting import Waiting
from dotsctl.client.inputs.hints import HintChoice
from dotsctl.client.inputs.pages import LoadedPage, PageInput, read_at_once
from dotsctl.client.jobs.default_quality import QualityChoice
from dotsctl.client.jobs.page_hints import PageHints
from dotsctl.client.jobs.reread import options_to_reread, reason_to_reread
from dotsctl.client.results.page import Failure
from dotsctl.protocol.errors import DotsctlError, ErrorCode, PageError, RenderingStoppedError
from dotsctl.protocol.messages import Busy, HintPage, PageFailed, PageResult, PageTokens, Restarted, Submit
from dotsctl.protocol.page_hint import PageHint
from dotsctl.protocol.parts import MAX_NAME_BYTES, FinishReason, PageOptions, Quality

ProgressEvent = PageTokens | Restarted
"""Text as it is decoded, and the event that earlier text of a page is void."""
RETRY_BUSY_S = 0.2
SILENCE_S = 60.0
"""The interval between two checks; the session detects a runtime that is silent altogether."""


@dataclass(frozen=True)
class PageAnswer:
    """The end of a page that was read."""

    result: PageResult
    reread: str = ""
    """The reason why the page was read a second time, ``loop``, ``length`` or ``damaged``; empty: it was not."""
    quality: Quality = Quality.FULL
    """Resolution of the reading that ``result`` comes from."""


JobEvent = ProgressEvent | PageAnswer | Failure
"""The events that a job reports of a page; the last two are the end of it."""
IndexedEvent = tuple[int, PageInput, JobEvent]
"""The page's index in its job, from 0, the page (the first image of a prompt with several), and its event."""


@dataclass
class _InFlight:
    """A request that is not answered."""

    images: Sequence[PageInput]
    """Nearly always one page."""
    options: PageOptions
    choice: QualityChoice | None = None
    """Chooses the quality when the page is sent; none: it is chosen."""
    first: PageAnswer | None = None
    """The answer that was cut, repeated itself or was damaged, while the page is read once more."""


class Job:
    """The pages of one call: keeps the window full and yields the events. An asynchronous iterator, to be closed."""

    def __init__(
        self,
        session: Session,
        waiting: Waiting,
        options: PageOptions,
        requests: Iterable[Sequence[PageInput]],
        *,
        window: int,
        stream: bool,
        reread: bool = False,
        choice: QualityChoice | None = None,
        hints: PageHints | None = None,
    ) -> None:
        """Open a job.

        Args:
            session: that of the client.
            waiting: the client's way of waiting.
            options: those of every page.
            requests: each is a page, or the images of one prompt; the next one is taken when there is room.
            window: most pages in flight.
            stream: whether tokens are sent as they are decoded.
            reread: whether a page whose text repeats itself, is cut or damaged is read a second time; at full quality
                where it was read at less, else a little smaller.
            choice: chooses the quality of each page; none: that of ``options``.
            hints: looks up the hint of each page; none: there is none.
        """
        self._session, self._waiting, self._options = session, waiting, options
        self._requests = enumerate(requests)
        self._window, self._stream, self._reread = window, stream, reread
        self._choice, self._hints = choice, hints or PageHints(HintChoice())
        self._is_exhausted = False
        self._in_flight: dict[int, _InFlight] = {}
        self._busy: list[int] = []
        """Pages that the runtime did not take because another client fills its memory."""
        self._again: deque[int] = deque()
        """Pages that are to be read a second time, when there is room."""
        self._job_id = str(uuid.uuid4())
        self._inbox = session.open_job(self._job_id)

    def __aiter__(self) -> "Job":
        return self

    async def __anext__(self) -> IndexedEvent:
        """Submit what there is room for and wait for events, until every request has come to its end."""
        try:
            while True:
                if failed := await self._fill():
                    return failed
                if self._is_exhausted and not self._in_flight:
                    raise StopAsyncIteration
                if event := await self._next_event():
                    return event
        finally:
            self._session.window.withdraw(self._job_id)  # the next call may be a long time away

    async def _fill(self) -> IndexedEvent | None:
        """Submit pages as long as there is room; a page that cannot be read is an event."""
        while self._again or (not self._is_exhausted and len(self._in_flight) < self._window):
            if not self._session.window.take(self._job_id, self._inbox.poke):
                return None
            index = self._again.popleft() if self._again else await self._open_next()
            failure = None if index is None else await self._submit(index)
            if index is None or failure or index not in self._in_flight:
                self._session.window.release(self._job_id)
            if index is not None and failure:
                return self._event(index, self._given_up(index, failure))
        return None

    async def _open_next(self) -> int | None:
        """Take the next request; none when there is none any more."""
        try:
            index, images = await self._waiting.call(self._next_request)
        except RenderingStoppedError:
            images = None
        if images is None:
            self._is_exhausted = True
            return None
        options = replace(self._options, source=_stem(images[0].source))
        self._in_flight[index] = _InFlight(images, options, self._choice)
        return index

    def _next_request(self) -> tuple[int, Sequence[PageInput] | None]:
        with read_at_once():
            return next(self._requests, (-1, None))

    def _load(self, index: int, request: _InFlight) -> tuple[list[LoadedPage], PageHint | None]:
        """The images of a request and its hint. Raises PageError."""
        loaded = [image.load() for image in request.images]
        return loaded, self._hints.hint_of(index, request.images, loaded, request.options)

    async def _submit(self, index: int) -> Failure | None:
        """Send a request; answers why when an image cannot be read. Without a page to be rendered it is forgotten."""
        request = self._in_flight[index]
        try:
            loaded, hint = await self._waiting.call(lambda: self._load(index, request))
            self._hints.report()
            headers = tuple(header for header, _, _ in loaded)
            request.options = replace(request.options, hint=hint)
            if request.choice is not None:
                request.options = replace(request.options, quality=request.choice.choose(headers, request.options))
                request.choice = None
            encoder = self._session.encoder_index
            submit = Submit(self._job_id, index, _digest(loaded), headers, request.options, self._stream, encoder)
        except RenderingStoppedError:  # the page is not read, and no further one is needed
            self._is_exhausted = True
            if request.first is not None:
                return Failure(ErrorCode.CANCELLED, "the second reading was cancelled")
            del self._in_flight[index]
            return None
        except PageError as error:
            return Failure.of(error)
        except ValueError as error:
            return Failure(ErrorCode.TOO_LARGE, str(error), "ask about fewer or smaller images")
        self._session.send(submit, tuple(content for _, content, _ in loaded))
        if hint is None:
            give = functools.partial(self._give, index)
            self._hints.read_aside(index, request.images, loaded, request.options, give)
        return None

    def _give(self, index: int, hint: PageHint) -> None:
        """Send the hint of a page that was sent before; in another thread."""
        with contextlib.suppress(DotsctlError):  # the end of the runtime, which the call itself reports
            self._session.send(HintPage(self._job_id, index, hint))

    async def _next_event(self) -> IndexedEvent | None:
        """Handle one message, or try one refused page again; none when that is no event of a page that we wait for."""
        timeout_s = RETRY_BUSY_S if self._busy else SILENCE_S
        message = await self._session.message(self._inbox, self._waiting, timeout_s)
        if message is None and self._busy:
            index = self._busy.pop(0)
            failure = await self._submit(index)
            if failure or index not in self._in_flight:
                self._session.window.release(self._job_id)
            return self._event(index, self._given_up(index, failure)) if failure else None
        if message is None or message.page_index not in self._in_flight:
            return None
        index = message.page_index
        match message:
            case PageTokens() | Restarted():
                return self._event(index, message)
            case PageResult():
                return self._event(index, self._judge(message))
            case PageFailed():
                return self._event(index, self._given_up(index, Failure(message.code, message.message)))
            case Busy():
                self._busy.append(index)
        return None

    def _event(self, index: int, event: JobEvent) -> IndexedEvent:
        """Return the event of a page; after the last of them it is dropped."""
        ended = isinstance(event, PageAnswer | Failure)
        request = self._in_flight.pop(index) if ended else self._in_flight[index]
        if ended:
            self._hints.forget(index)
        elif isinstance(event, PageTokens):
            self._hints.begun(index)
        return index, request.images[0], event

    def _judge(self, result: PageResult) -> JobEvent:
        """Return the page's answer; or, where that is damaged or truncated, the event that the page is read again."""
        request = self._in_flight[result.page_index]
        if request.first is not None:
            if result.finish_reason is not FinishReason.STOP:
                return request.first
            return PageAnswer(result, request.first.reread, request.options.quality)
        reason = reason_to_reread(request.options, result) if self._reread else ""
        if not reason:
            return PageAnswer(result, quality=request.options.quality)
        request.first = PageAnswer(result, reason, request.options.quality)
        request.options = options_to_reread(request.options, result)
        self._again.append(result.page_index)
        limit = request.options.max_pixels
        size = f"at {request.options.quality} quality" + (f", at most {limit} pixels" if limit else "")
        text = f"the answer is not complete ({reason}): the page is read again {size}"
        return Restarted(self._job_id, result.page_index, result.request_id, result.attempt, text)

    def _given_up(self, index: int, failure: Failure) -> JobEvent:
        """Return why a page failed; or its first answer, where only the second reading failed."""
        return self._in_flight[index].first or failure

    def close(self) -> None:
        """Cancel what is not answered."""
        self._hints.close()
        self._hints.report()
        self._session.close_job(self._job_id, cancel=bool(self._in_flight))


def _stem(source: str) -> str:
    """The name of a source without folder and ending, as it travels; empty where that is too long for a name."""
    stem = Path(source).stem.encode(errors="replace")
    return stem.decode() if len(stem) <= MAX_NAME_BYTES else ""


def _digest(loaded: Sequence[LoadedPage]) -> str:
    """Return the digest of the images of a request, hexadecimal."""
    digests = [digest for _, _, digest in loaded]
    return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()


async def new_text(events: AsyncIterable[IndexedEvent]) -> AsyncGenerator[str, None]:
    """Yield the text of one page as it comes; a new attempt is silent until it has more than was given already.

    Raises:
        PageError: the page cannot be read.
    """
    attempt_text, given = "", 0
    async for _, page, event in events:
        if isinstance(event, Failure):
            raise PageError(f"{page.source}: {event.problem}", event.remedy, code=ErrorCode(event.code))
        if isinstance(event, Restarted):
            attempt_text = ""
            continue
        attempt_text = attempt_text + event.text if isinstance(event, PageTokens) else event.result.text
        if len(attempt_text) > given:
            yield attempt_text[given:]
            given = len(attempt_text)
