"""One call's pages on their way through a runtime: the window is kept full, and what becomes of each page is told."""

import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from dotsctl.client.inputs import ALL, PageInput, pages_of
from dotsctl.client.records import Failure
from dotsctl.client.selection import Selection
from dotsctl.client.session import Session
from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.messages import Busy, CancelJob, PageFailed, PageResult, PageTokens, Restarted, Submit
from dotsctl.protocol.parts import PageOptions

Input = Any
"""A path, bytes of a picture file or a PDF, a PIL image, an array, or a :class:`PageInput`."""
Event = PageTokens | Restarted
"""What ``on_event`` gets: text as it is decoded, and the news that earlier text of a page is void."""
RETRY_BUSY_S = 0.2
SILENCE_S = 60.0
"""Between two looks; whether the runtime is silent altogether is the session's business."""

News = Event | PageResult | Failure
"""What a job tells of a page; the last two are the end of it."""


class Job:
    """The pages of one call: keeps the window full and hands the news out."""

    def __init__(self, session: Session, options: PageOptions, window: int, *, stream: bool) -> None:
        self._session, self._options, self._window, self._stream = session, options, window, stream
        self._job_id = str(uuid.uuid4())
        self._in_flight: dict[int, PageInput] = {}
        self._busy: list[int] = []
        """Pages that the runtime did not take because another job of ours filled the window."""
        session.open_job(self._job_id)

    def run(self, inputs: Iterable[Input], selection: Selection = ALL) -> Iterator[tuple[int, PageInput, News]]:
        """Submit and collect until every page has come to its end."""
        pages = enumerate(page for source in inputs for page in pages_of(source, selection))
        exhausted = False
        while not exhausted or self._in_flight:
            while not exhausted and len(self._in_flight) < self._window:
                index, page = next(pages, (-1, None))
                if page is None:
                    exhausted = True
                elif failure := self._submit(index, page):
                    yield index, page, failure
            if self._in_flight and (answer := self._next_news()):
                index, news = answer
                ended = isinstance(news, PageResult | Failure)
                yield index, self._in_flight.pop(index) if ended else self._in_flight[index], news

    def _submit(self, index: int, page: PageInput) -> Failure | None:
        """Send a page; answers why when it cannot be read."""
        try:
            header, content, digest = page.load()
        except PageError as error:
            return Failure(str(error.code), str(error))
        self._session.send(Submit(self._job_id, index, digest, (header,), self._options, self._stream), (content,))
        self._in_flight[index] = page
        return None

    def _next_news(self) -> tuple[int, News] | None:
        """Handle one message, or try one refused page again; none when that is no news of a page that we wait for."""
        message = self._session.next_of(self._job_id, RETRY_BUSY_S if self._busy else SILENCE_S)
        if message is None and self._busy:
            index = self._busy.pop(0)
            failure = self._submit(index, self._in_flight[index])
            return (index, failure) if failure else None
        if message is None or message.page_index not in self._in_flight:
            return None
        match message:
            case PageResult() | PageTokens() | Restarted():
                return message.page_index, message
            case PageFailed():
                return message.page_index, Failure(str(message.code), message.message)
            case Busy():
                self._busy.append(message.page_index)
        return None

    def close(self) -> None:
        """Cancel what is not answered."""
        try:
            if self._in_flight and not self._session.is_closed:
                self._session.send(CancelJob(self._job_id, None))
        finally:
            self._session.close_job(self._job_id)


def new_text(job: Job, page: PageInput) -> Iterator[str]:
    """Text of one page as it comes; a new attempt is silent until it says more than was given already."""
    attempt_text, given = "", 0
    for _, _, news in job.run([page]):
        if isinstance(news, Failure):
            raise PageError(f"{page.source}: {news.message}", ErrorCode(news.code))
        if isinstance(news, Restarted):
            attempt_text = ""
            continue
        attempt_text = attempt_text + news.text if isinstance(news, PageTokens) else news.text
        if len(attempt_text) > given:
            yield attempt_text[given:]
            given = len(attempt_text)
