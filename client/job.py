"""One call's pages on their way through a runtime: the window is kept full, and what becomes of each page is told."""

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dotsctl.client.inputs import LoadedPage, PageInput
from dotsctl.client.records import Failure
from dotsctl.client.session import Session
from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.messages import Busy, CancelJob, PageFailed, PageResult, PageTokens, Restarted, Submit
from dotsctl.protocol.parts import MIN_PIXELS, FinishReason, PageOptions

Input = Any
"""A path, bytes of a picture file or a PDF, a PIL image, an array, or a :class:`PageInput`."""
Event = PageTokens | Restarted
"""What ``on_event`` gets: text as it is decoded, and the news that earlier text of a page is void."""
RETRY_BUSY_S = 0.2
SILENCE_S = 60.0
"""Between two looks; whether the runtime is silent altogether is the session's business."""

REREAD_SHARE = 0.9
"""Pixels of the second try: a model that loops on a page mostly does not at a slightly different size."""


@dataclass(frozen=True)
class Answer:
    """The end of a page that was read."""

    result: PageResult
    reread: str = ""
    """Why the page was read a second time, ``loop`` or ``length``; empty: it was not."""


News = Event | Answer | Failure
"""What a job tells of a page; the last two are the end of it."""


@dataclass
class _InFlight:
    """A request that is not answered."""

    images: Sequence[PageInput]
    """Nearly always one page."""
    options: PageOptions
    first: PageResult | None = None
    """The answer that was cut or repeated itself, while the page is read once more."""


class Job:
    """The pages of one call: keeps the window full and hands the news out."""

    def __init__(
        self, session: Session, options: PageOptions, window: int, *, stream: bool, reread: bool = False
    ) -> None:
        """Open a job.

        Args:
            session: of the client.
            options: what is asked of every page.
            window: most pages in flight.
            stream: whether tokens are wanted as they are decoded.
            reread: whether a page whose text repeats itself or is cut is read a second time, a little smaller.
        """
        self._session, self._options, self._window, self._stream = session, options, window, stream
        self._reread = reread
        self._job_id = str(uuid.uuid4())
        self._in_flight: dict[int, _InFlight] = {}
        self._busy: list[int] = []
        """Pages that the runtime did not take because another job of ours filled the window."""
        session.open_job(self._job_id)

    def run(self, requests: Iterable[Sequence[PageInput]]) -> Iterator[tuple[int, PageInput, News]]:
        """Submit and collect until every request has come to its end; a request is a page, or images of one prompt."""
        numbered = enumerate(requests)
        exhausted = False
        while not exhausted or self._in_flight:
            while not exhausted and len(self._in_flight) < self._window:
                index, images = next(numbered, (-1, None))
                if images is None:
                    exhausted = True
                    continue
                self._in_flight[index] = _InFlight(images, self._options)
                if failure := self._submit(index):
                    yield index, self._in_flight.pop(index).images[0], failure
            if self._in_flight and (answer := self._next_news()):
                index, news = answer
                ended = isinstance(news, Answer | Failure)
                request = self._in_flight.pop(index) if ended else self._in_flight[index]
                yield index, request.images[0], news

    def _submit(self, index: int) -> Failure | None:
        """Send a request; answers why when an image cannot be read."""
        request = self._in_flight[index]
        try:
            loaded = [image.load() for image in request.images]
            headers = tuple(header for header, _, _ in loaded)
            submit = Submit(self._job_id, index, _digest(loaded), headers, request.options, self._stream)
        except PageError as error:
            return Failure(str(error.code), str(error))
        except ValueError as error:
            return Failure(str(ErrorCode.TOO_LARGE), f"{error}: ask about fewer or smaller images")
        self._session.send(submit, tuple(content for _, content, _ in loaded))
        return None

    def _next_news(self) -> tuple[int, News] | None:
        """Handle one message, or try one refused page again; none when that is no news of a page that we wait for."""
        message = self._session.next_of(self._job_id, RETRY_BUSY_S if self._busy else SILENCE_S)
        if message is None and self._busy:
            index = self._busy.pop(0)
            failure = self._submit(index)
            return (index, self._given_up(index, failure)) if failure else None
        if message is None or message.page_index not in self._in_flight:
            return None
        match message:
            case PageTokens() | Restarted():
                return message.page_index, message
            case PageResult():
                return message.page_index, self._judge(message)
            case PageFailed():
                failure = Failure(str(message.code), message.message)
                return message.page_index, self._given_up(message.page_index, failure)
            case Busy():
                self._busy.append(message.page_index)
        return None

    def _judge(self, result: PageResult) -> News:
        """The page's answer; or, where the text repeated itself or is cut, the news that it is read once more."""
        request = self._in_flight[result.page_index]
        if request.first is not None:
            whole = result.finish_reason is FinishReason.STOP
            return Answer(result if whole else request.first, str(request.first.finish_reason))
        cut = result.finish_reason is FinishReason.LENGTH and self._options.max_tokens is None
        if not self._reread or not (cut or result.finish_reason is FinishReason.LOOP):
            return Answer(result)
        width, height = result.geometries[0].resized
        smaller = max(MIN_PIXELS, int(REREAD_SHARE * width * height))
        request.first, request.options = result, replace(request.options, max_pixels=smaller)
        if failure := self._submit(result.page_index):  # the input is gone by now
            return self._given_up(result.page_index, failure)
        reason = f"the answer ended by {result.finish_reason}: the page is read again at most {smaller} pixels large"
        return Restarted(self._job_id, result.page_index, result.request_id, result.attempt, reason)

    def _given_up(self, index: int, failure: Failure) -> News:
        """Why a page failed; where only its second reading did, the first one stands."""
        first = self._in_flight[index].first
        return Answer(first, str(first.finish_reason)) if first else failure

    def close(self) -> None:
        """Cancel what is not answered."""
        try:
            if self._in_flight and not self._session.is_closed:
                self._session.send(CancelJob(self._job_id, None))
        finally:
            self._session.close_job(self._job_id)


def _digest(loaded: Sequence[LoadedPage]) -> str:
    """sha256 of the bytes of all images, hexadecimal."""
    if len(loaded) == 1:
        return loaded[0][2]
    digest = hashlib.sha256()
    for _, content, _ in loaded:
        digest.update(content)
    return digest.hexdigest()


def new_text(job: Job, page: PageInput) -> Iterator[str]:
    """Text of one page as it comes; a new attempt is silent until it says more than was given already."""
    attempt_text, given = "", 0
    for _, _, news in job.run([(page,)]):
        if isinstance(news, Failure):
            raise PageError(f"{page.source}: {news.message}", ErrorCode(news.code))
        if isinstance(news, Restarted):
            attempt_text = ""
            continue
        attempt_text = attempt_text + news.text if isinstance(news, PageTokens) else news.result.text
        if len(attempt_text) > given:
            yield attempt_text[given:]
            given = len(attempt_text)
