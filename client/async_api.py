"""``AsyncClient``: what :class:`dotsctl.client.api.Client` does, for programs with an event loop.

Nothing holds the event loop up: a thread owns the socket, files are read and runtimes started in a few threads more.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Unpack

from dotsctl.protocol.errors import UsageError

if TYPE_CHECKING:
    from dotsctl.client.connection.attach import Connection
    from dotsctl.client.inputs.accepted import Inputs
    from dotsctl.client.jobs.calls import Calls
    from dotsctl.client.jobs.page_options import AskOptions, ReadOptions, StreamOptions
    from dotsctl.client.outputs.document import Document
    from dotsctl.client.results.cell import Cell
    from dotsctl.client.results.events import PageEvent
    from dotsctl.client.results.page import Page
    from dotsctl.protocol.messages import Status, Welcome

THREADS = 4
"""The threads that read files and render pages; PDFium takes one page at a time, and a decoder far longer for each."""


class AsyncClient:
    """Reads pages; any number of tasks may call it at the same time. Use it with ``async with``, or close it.

    The runtime is found, or a private one started, when ``async with`` begins, else by the first call. One that was
    stopped and started again, or died, between two calls is found again by the next call. A task that is cancelled
    takes its pages back; so does breaking off an iteration, at once with :func:`contextlib.aclosing`.
    """

    def __init__(
        self,
        *,
        model: str | None = None,
        encoder: str | None = None,
        decoder: str | None = None,
        name: str | None = None,
        window: int | None = None,
        private: bool = False,
        timeout_s: float = 900.0,
        stall_timeout_s: float | None = None,
        page_timeout_s: float | None = None,
        memory: str | int | None = None,
        readiness_page: bool | None = None,
    ) -> None:
        """Choose a runtime; the arguments are those of :class:`dotsctl.client.api.Client`. Nothing is waited for.

        Raises:
            UsageError: an option is wrong.
        """
        from dotsctl.client.connection.attach import Connection
        from dotsctl.client.connection.suspending import Suspending
        from dotsctl.client.jobs.calls import Calls
        from dotsctl.client.settings.choices import choose

        choices = choose(
            model=model,
            encoder=encoder,
            decoder=decoder,
            name=name,
            stall_timeout_s=stall_timeout_s,
            page_timeout_s=page_timeout_s,
            memory=None if memory is None else str(memory),
            readiness_page=readiness_page,
        )
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="dotsctl-client")
        connection = Connection(choices, private=private, timeout_s=timeout_s, owner=type(self).__name__)
        self._use(connection, Calls(connection, Suspending(self._executor), window))

    def _use(self, connection: "Connection", calls: "Calls") -> None:
        self._connection, self._calls = connection, calls

    @property
    def model_name(self) -> str:
        """Name of the model that the runtime holds."""
        return self._welcome().model

    @property
    def fingerprint(self) -> str:
        """sha256 of the model."""
        return self._welcome().fingerprint

    @property
    def encoder(self) -> str:
        """The encoder plugin with its options; ``auto`` where the runtime chooses for each page."""
        self._welcome()
        return self._connection.encoder

    @property
    def decoder(self) -> str:
        """The decoder plugin with its options."""
        return self._welcome().decoder

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of the model; the first one is the default."""
        return self._welcome().tasks

    def _welcome(self) -> "Welcome":
        if self._connection.welcome is None:
            raise UsageError("this client has no runtime yet", "use it with 'async with', or call it first")
        return self._connection.welcome

    def ocr(
        self,
        inputs: "Inputs",
        *,
        on_event: "Callable[[PageEvent], None] | None" = None,
        on_notice: Callable[[str], None] | None = None,
        **options: "Unpack[ReadOptions]",
    ) -> "AsyncGenerator[Page, None]":
        """Read pages, as :meth:`dotsctl.client.api.Client.ocr`; for ``async for``.

        ``inputs`` is iterated in a thread, so that an iterator may read files; ``on_event`` is called in the event
        loop. Before the runtime is found an unknown task is an error of the first step only.
        """
        return self._calls.ocr(self._calls.arguments(inputs, options, on_notice), on_event)

    async def read(
        self,
        inputs: "Inputs",
        *,
        on_notice: Callable[[str], None] | None = None,
        **options: "Unpack[ReadOptions]",
    ) -> "Document":
        """Read one document, with its pages in order, as :meth:`dotsctl.client.api.Client.read`."""
        from dotsctl.client.outputs.document import Document

        return Document(*await self._calls.read(self._calls.arguments(inputs, options, on_notice)))

    def events(
        self,
        inputs: "Inputs",
        *,
        on_notice: Callable[[str], None] | None = None,
        **options: "Unpack[ReadOptions]",
    ) -> "AsyncGenerator[PageEvent | Page, None]":
        """Read pages and yield what happens, as :meth:`dotsctl.client.api.Client.events`; for ``async for``."""
        return self._calls.events(self._calls.arguments(inputs, options, on_notice))

    async def ask(
        self,
        question: str,
        inputs: "Inputs",
        *,
        on_notice: Callable[[str], None] | None = None,
        **options: "Unpack[AskOptions]",
    ) -> "Page":
        """Ask one question about all pages of all inputs together, as :meth:`dotsctl.client.api.Client.ask`."""
        return await self._calls.ask(self._calls.question(question, inputs, options, on_notice))

    def stream(
        self,
        inputs: "Inputs",
        *,
        on_notice: Callable[[str], None] | None = None,
        **options: "Unpack[StreamOptions]",
    ) -> AsyncGenerator[str, None]:
        """Text of pages as it is decoded, as :meth:`dotsctl.client.api.Client.stream`; for ``async for``."""
        return self._calls.stream(self._calls.stream_arguments(inputs, options, on_notice))

    def stream_cells(
        self,
        inputs: "Inputs",
        *,
        on_notice: Callable[[str], None] | None = None,
        **options: "Unpack[StreamOptions]",
    ) -> "AsyncGenerator[Cell, None]":
        """Cells of pages, each as soon as it is complete, as :meth:`dotsctl.client.api.Client.stream_cells`."""
        return self._calls.stream_cells(self._calls.stream_arguments(inputs, options, on_notice, with_cells=True))

    async def status(self) -> "Status":
        """State of the runtime, its workers and its requests."""
        return await self._calls.status()

    async def close(self) -> None:
        """Close the connection, and end the private runtime if there is one; calls under way end with an error."""
        await asyncio.shield(asyncio.to_thread(self._close))

    def _close(self) -> None:
        from dotsctl.client.inputs.pages import close_renderer

        self._connection.close()
        close_renderer()
        self._executor.shutdown(wait=True)

    async def __aenter__(self) -> "AsyncClient":
        """Find the runtime, or start a private one. Raises what the constructor of ``Client`` raises."""
        try:
            await self._calls.session()
        except BaseException:  # a cancellation, too: only this call can end what is being started
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
