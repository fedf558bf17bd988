"""What both clients do: the calls of ``Client`` and ``AsyncClient``, written once; see ``waiting.py``."""

import itertools
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import replace
from typing import Any, NamedTuple

from dotsctl.client.answers import has_cells
from dotsctl.client.cell import Cell
from dotsctl.client.connection import Connection
from dotsctl.client.default_quality import Notice, QualityChoice
from dotsctl.client.inputs import PageInput, pages_of
from dotsctl.client.job import Answer, Event, Input, Job, new_text
from dotsctl.client.live_cells import new_cells
from dotsctl.client.page_options import page_options
from dotsctl.client.records import Failure, Page
from dotsctl.client.selection import Selection
from dotsctl.client.session import Session
from dotsctl.client.waiting import Waiting
from dotsctl.protocol.errors import PageError, UsageError
from dotsctl.protocol.messages import Status
from dotsctl.protocol.parts import MAX_IMAGES, PageOptions

OnEvent = Callable[[Event], None] | None


class Wanted(NamedTuple):
    """What a caller wants of the pages of its inputs."""

    asked: Mapping[str, Any]
    """Arguments of :func:`dotsctl.client.page_options.page_options`, the model's own excepted."""
    pages: str | None
    dpi: int
    password: str | None
    on_notice: Notice | None = None
    """Takes a line when the quality is chosen for the caller and is below full."""

    def options(self, session: Session) -> PageOptions:
        """What is asked of every page. Raises UsageError."""
        return page_options(session.welcome.model, session.welcome.tasks, **self.asked)

    def choice(self, session: Session) -> QualityChoice | None:
        """Chooses the quality of each page; none: the caller has chosen it."""
        return QualityChoice(session, self.on_notice) if self.asked["quality"] is None else None

    def selection(self) -> Selection:
        """Which pages of documents are read. Raises UsageError."""
        return Selection.of(self.pages, self.dpi, self.password)


class Calls:
    """Calls through one connection, any number of them at the same time."""

    def __init__(self, connection: Connection, waiting: Waiting, window: int | None) -> None:
        """``window`` is the most pages of a call in flight; none: as many as the runtime allows."""
        self._connection, self._waiting, self._window = connection, waiting, window

    async def session(self) -> Session:
        """The session with a runtime that runs; see :meth:`Connection.session`."""
        session = self._connection.live()
        return session if session is not None else await self._waiting.call(self._connection.session)

    async def ocr(
        self, inputs: Iterable[Input], wanted: Wanted, *, reread: bool, on_event: OnEvent
    ) -> AsyncGenerator[Page, None]:
        """See :meth:`dotsctl.client.api.Client.ocr`."""
        session = await self.session()
        options, selection = wanted.options(session), wanted.selection()
        requests = ((page,) for one in inputs for page in pages_of(one, selection))
        window = min(self._window or session.welcome.window, session.welcome.window)
        choice, stream = wanted.choice(session), on_event is not None
        job = Job(session, self._waiting, options, requests, window=window, stream=stream, reread=reread, choice=choice)
        with closing(job):
            async for index, page, news in job:
                if isinstance(news, Answer | Failure):
                    yield _record(session, options, index, page, news)
                elif on_event is not None:
                    on_event(news)

    async def ask(self, question: str, inputs: Iterable[Input], wanted: Wanted) -> Page:
        """See :meth:`dotsctl.client.api.Client.ask`."""
        if not question.strip():
            raise UsageError("there is no question: write one, as 'What is the total?'")
        session = await self.session()
        options, selection = wanted.options(session), wanted.selection()
        pages = (page for one in inputs for page in pages_of(one, selection))
        images = await self._waiting.call(lambda: tuple(itertools.islice(pages, MAX_IMAGES + 1)))
        if not 1 <= len(images) <= MAX_IMAGES:
            count = f"more than {MAX_IMAGES}" if images else "no"
            raise PageError(f"a question about {count} images: ask about 1 to {MAX_IMAGES}, see --pages for documents")
        with closing(self._job(session, options, images, wanted.choice(session), stream=False)) as job:
            ends = [(index, page, news) async for index, page, news in job if isinstance(news, Answer | Failure)]
        ((index, page, end),) = ends
        return _record(session, options, index, page, end)

    async def stream(self, source: Input, wanted: Wanted) -> AsyncGenerator[str, None]:
        """See :meth:`dotsctl.client.api.Client.stream`."""
        session = await self.session()
        options, pages = wanted.options(session), pages_of(source, wanted.selection())
        choice = wanted.choice(session)
        while (page := await self._waiting.call(lambda: next(pages, None))) is not None:
            with closing(self._job(session, options, (page,), choice, stream=True)) as job:
                async with aclosing(new_text(job)) as pieces:
                    async for piece in pieces:
                        yield piece

    async def stream_cells(self, source: Input, wanted: Wanted) -> AsyncGenerator[Cell, None]:
        """See :meth:`dotsctl.client.api.Client.stream_cells`."""
        session = await self.session()
        options, pages = wanted.options(session), pages_of(source, wanted.selection())
        choice = wanted.choice(session)
        if not has_cells(options.task):
            raise UsageError(f"the task {options.task!r} gives text without boxes: choose another one, as 'layout'")
        while (page := await self._waiting.call(lambda: next(pages, None))) is not None:
            with closing(self._job(session, options, (page,), choice, stream=True)) as job:
                async with aclosing(new_cells(job, options.task)) as cells:
                    async for cell in cells:
                        yield cell

    def _job(
        self,
        session: Session,
        options: PageOptions,
        images: Sequence[PageInput],
        choice: QualityChoice | None,
        *,
        stream: bool,
    ) -> Job:
        """A job with one request."""
        return Job(session, self._waiting, options, [images], window=1, stream=stream, choice=choice)

    async def status(self) -> Status:
        """See :meth:`dotsctl.client.api.Client.status`."""
        return await (await self.session()).ask_status(self._waiting)


def _record(session: Session, options: PageOptions, index: int, page: PageInput, end: Answer | Failure) -> Page:
    """The end of a page as the caller gets it."""
    welcome = session.welcome
    facts: dict[str, Any] = {"model": welcome.model, "fingerprint": welcome.fingerprint, "task": options.task}
    if isinstance(end, Answer):
        record = Page.from_result(page, end.result, reread=end.reread, quality=end.quality, **facts)
    else:
        record = Page.from_failure(page, end.code, end.message, **facts)
    return replace(record, index=index)
