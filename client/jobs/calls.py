"""The shared calls of ``Client`` and ``AsyncClient``, written once; see ``connection/waiting.py``."""

import itertools
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, replace
from typing import Any

from dotsctl.client.connection.attach import Connection
from dotsctl.client.connection.session import Session
from dotsctl.client.connection.waiting import Waiting
from dotsctl.client.inputs.accepted import as_sources, pages_of_all
from dotsctl.client.inputs.pages import PageInput, limit_rendering
from dotsctl.client.jobs.default_quality import Notice, QualityChoice
from dotsctl.client.jobs.job import Job, PageAnswer, ProgressEvent, new_text
from dotsctl.client.jobs.live_cells import new_cells
from dotsctl.client.jobs.page_hints import PageHints
from dotsctl.client.jobs.page_options import AskOptions, ReadingOptions, ReadOptions, StreamOptions
from dotsctl.client.results.answers import has_cells
from dotsctl.client.results.cell import Cell
from dotsctl.client.results.events import PageEvent, PageRestarted, PageText
from dotsctl.client.results.page import Failure, Page
from dotsctl.protocol.errors import PageError, UsageError
from dotsctl.protocol.messages import PageTokens, Status
from dotsctl.protocol.model.tasks import ASK, LAYOUT
from dotsctl.protocol.parts import MAX_IMAGES, PageOptions

OnEvent = Callable[[PageEvent], None] | None


@dataclass(frozen=True)
class CallArguments:
    """The arguments of one call, checked as far as that is possible without a runtime."""

    sources: Iterable[Any]
    options: ReadingOptions
    on_notice: Notice | None = None
    """Takes a line when the quality is chosen for the caller and is below full, and when a source of hints fails."""

    def page_options(self, session: Session) -> PageOptions:
        """Return the options of every page. Raises UsageError."""
        return self.options.for_model(session.welcome.model, session.welcome.tasks)

    def choice(self, session: Session) -> QualityChoice | None:
        """Chooses the quality of each page; none: the caller has chosen it."""
        return QualityChoice(session, self.on_notice) if self.options.quality is None else None

    def hints(self) -> PageHints:
        """Looks up the hint of each page."""
        return PageHints(self.options.hints, self.on_notice)

    def pages(self) -> Iterator[PageInput]:
        """The pages of all inputs, lazily."""
        return pages_of_all(self.sources, self.options.selection())


class Calls:
    """Calls through one connection, any number of them at the same time."""

    def __init__(self, connection: Connection, waiting: Waiting, window: int | None) -> None:
        """``window`` is the most pages of a call in flight; none: as many as the runtime allows."""
        self._connection, self._waiting, self._window = connection, waiting, window
        limit_rendering(connection.render_timeout_s)

    def arguments(
        self,
        inputs: Any,
        options: Mapping[str, Any],
        on_notice: Notice | None,
        kind: type = ReadOptions,
    ) -> CallArguments:
        """Check the arguments of a call, when it is made.

        Args:
            inputs: one or many.
            options: keyword arguments of the call.
            on_notice: see :meth:`dotsctl.client.api.Client.ocr`.
            kind: which options the call takes.

        Raises:
            TypeError: there is no such option.
            UsageError: an argument is wrong; an unknown task only where the runtime is known already.
        """
        checked = CallArguments(as_sources(inputs), ReadingOptions.of(options, kind), on_notice)
        if (welcome := self._connection.welcome) is not None:
            checked.options.for_model(welcome.model, welcome.tasks)
        return checked

    def stream_arguments(
        self, inputs: Any, options: Mapping[str, Any], on_notice: Notice | None, *, with_cells: bool = False
    ) -> CallArguments:
        """Check the arguments of :meth:`stream`, or of :meth:`stream_cells`, whose task must have boxes."""
        checked = self.arguments(inputs, options, on_notice, StreamOptions)
        if with_cells and (welcome := self._connection.welcome) is not None:
            _require_cells(checked.options.for_model(welcome.model, welcome.tasks).task)
        return checked

    def question(
        self, question: str, inputs: Any, options: Mapping[str, Any], on_notice: Notice | None
    ) -> CallArguments:
        """Check the arguments of :meth:`ask`."""
        if not isinstance(question, str) or not question.strip():
            raise UsageError("the question is empty", "write one, as 'What is the total?'")
        options_of_pages = ReadingOptions.of(options, AskOptions)
        reading = replace(options_of_pages, task=ASK.name, prompt=question, check_blank=False)
        return self.arguments(inputs, reading.given(ReadOptions), on_notice)

    async def session(self) -> Session:
        """The session with a runtime that runs; see :meth:`Connection.session`."""
        session = self._connection.live()
        return session if session is not None else await self._waiting.call(self._connection.session)

    async def events(self, call: CallArguments, *, stream: bool = True) -> AsyncGenerator[PageEvent | Page, None]:
        """See :meth:`dotsctl.client.api.Client.events`; without ``stream`` there is no text before a page is read."""
        session = await self.session()
        options, requests = call.page_options(session), ((page,) for page in call.pages())
        window = min(self._window or session.welcome.window, session.welcome.window)
        job = Job(
            session,
            self._waiting,
            options,
            requests,
            window=window,
            stream=stream,
            reread=call.options.reread,
            choice=call.choice(session),
            hints=call.hints(),
        )
        with closing(job):
            async for index, page, event in job:
                if isinstance(event, PageAnswer | Failure):
                    yield _record(session, options, index, page, event)
                elif stream:
                    yield _event(index, page, event)

    async def ocr(self, call: CallArguments, on_event: OnEvent = None) -> AsyncGenerator[Page, None]:
        """See :meth:`dotsctl.client.api.Client.ocr`."""
        async with aclosing(self.events(call, stream=on_event is not None)) as events:
            async for event in events:
                if isinstance(event, Page):
                    yield event
                elif on_event is not None:
                    on_event(event)

    async def read(self, call: CallArguments) -> tuple[tuple[Page, ...], tuple[PageInput, ...]]:
        """All pages in order, and where each came from; see :meth:`dotsctl.client.api.Client.read`."""
        inputs: list[PageInput] = []

        def noted() -> Iterator[PageInput]:
            for page in call.pages():
                inputs.append(page)
                yield page

        pages = [page async for page in self.ocr(replace(call, sources=noted()))]
        return tuple(sorted(pages, key=lambda page: page.index)), tuple(inputs)

    async def ask(self, call: CallArguments) -> Page:
        """See :meth:`dotsctl.client.api.Client.ask`."""
        session = await self.session()
        options, pages = call.page_options(session), call.pages()
        images = await self._waiting.call(lambda: tuple(itertools.islice(pages, MAX_IMAGES + 1)))
        if not 1 <= len(images) <= MAX_IMAGES:
            count = f"more than {MAX_IMAGES}" if images else "no"
            raise PageError(f"{count} images were given", f"ask about 1 to {MAX_IMAGES}, see --pages for documents")
        with closing(self._job(session, call, options, images, stream=False)) as job:
            ends = [(index, page, event) async for index, page, event in job if isinstance(event, PageAnswer | Failure)]
        ((index, page, end),) = ends
        return _record(session, options, index, page, end)

    async def stream(self, call: CallArguments) -> AsyncGenerator[str, None]:
        """See :meth:`dotsctl.client.api.Client.stream`."""
        session = await self.session()
        options, pages = call.page_options(session), call.pages()
        while (page := await self._waiting.call(lambda: next(pages, None))) is not None:
            with closing(self._job(session, call, options, (page,), stream=True)) as job:
                async with aclosing(new_text(job)) as pieces:
                    async for piece in pieces:
                        yield piece

    async def stream_cells(self, call: CallArguments) -> AsyncGenerator[Cell, None]:
        """See :meth:`dotsctl.client.api.Client.stream_cells`."""
        session = await self.session()
        options, pages = call.page_options(session), call.pages()
        _require_cells(options.task)
        while (page := await self._waiting.call(lambda: next(pages, None))) is not None:
            with closing(self._job(session, call, options, (page,), stream=True)) as job:
                async with aclosing(new_cells(job, options.task)) as cells:
                    async for cell in cells:
                        yield cell

    def _job(
        self,
        session: Session,
        call: CallArguments,
        options: PageOptions,
        images: Sequence[PageInput],
        *,
        stream: bool,
    ) -> Job:
        """A job with one request."""
        choice, hints = call.choice(session), call.hints()
        return Job(session, self._waiting, options, [images], window=1, stream=stream, choice=choice, hints=hints)

    async def status(self) -> Status:
        """See :meth:`dotsctl.client.api.Client.status`."""
        return await (await self.session()).query_status(self._waiting)


def _record(session: Session, options: PageOptions, index: int, page: PageInput, end: PageAnswer | Failure) -> Page:
    """The end of a page as the caller gets it."""
    welcome = session.welcome
    facts: dict[str, Any] = {"model": welcome.model, "fingerprint": welcome.fingerprint, "task": options.task}
    if isinstance(end, PageAnswer):
        record = Page.from_result(page, end.result, reread=end.reread, quality=end.quality, **facts)
    else:
        record = Page.from_failure(page, end, **facts)
    return replace(record, index=index)


def _event(index: int, page: PageInput, event: ProgressEvent) -> PageEvent:
    """Return the event of an unfinished page, as the caller gets it."""
    if isinstance(event, PageTokens):
        return PageText(page.source, page.page, index, event.text)
    return PageRestarted(page.source, page.page, index, event.reason)


def _require_cells(task: str) -> None:
    if not has_cells(task):
        raise UsageError(f"the task {task!r} gives text without boxes", f"choose another one, as {LAYOUT.name!r}")
