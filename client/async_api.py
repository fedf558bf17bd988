"""``AsyncClient``: what :class:`dotsctl.client.api.Client` does, for programs with an event loop.

Nothing holds the event loop up: a thread owns the socket, files are read and runtimes started in a few threads more.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from dotsctl.client import settings
from dotsctl.client.calls import Calls, Wanted
from dotsctl.client.cell import Cell
from dotsctl.client.connection import Connection
from dotsctl.client.job import Event, Input
from dotsctl.client.records import Page
from dotsctl.client.selection import DEFAULT_DPI
from dotsctl.client.waiting import Suspending
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.geometry import Box
from dotsctl.protocol.messages import Status, Welcome

THREADS = 4
"""That read files and render pages; PDFium takes one page at a time, and a decoder far longer for each."""


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
    ) -> None:
        """Choose a runtime; the arguments are those of :class:`dotsctl.client.api.Client`. Nothing is waited for.

        Raises:
            UsageError: an option is wrong.
        """
        choices = settings.choose(
            model=model,
            encoder=encoder,
            decoder=decoder,
            name=name,
            stall_timeout_s=stall_timeout_s,
            page_timeout_s=page_timeout_s,
            memory=None if memory is None else str(memory),
        )
        self._connection = Connection(choices, private=private, timeout_s=timeout_s)
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="dotsctl-client")
        self._calls = Calls(self._connection, Suspending(self._executor), window)

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
        """What can be asked of a page; the first one is the default."""
        return self._welcome().tasks

    def _welcome(self) -> Welcome:
        if self._connection.welcome is None:
            raise UsageError("this client has no runtime yet: use it with 'async with', or call it first")
        return self._connection.welcome

    def ocr(
        self,
        inputs: Iterable[Input],
        *,
        task: str | None = None,
        prompt: str | None = None,
        box: Box | None = None,
        max_tokens: int | None = None,
        max_pixels: int | None = None,
        quality: str | None = None,
        hint: str = "",
        pages: str | None = None,
        dpi: int = DEFAULT_DPI,
        password: str | None = None,
        check_blank: bool = True,
        reread: bool = True,
        on_event: Callable[[Event], None] | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> AsyncGenerator[Page, None]:
        """Read pages, as :meth:`dotsctl.client.api.Client.ocr`; for ``async for``.

        ``inputs`` is iterated in a thread, so that an iterator may read files; ``on_event`` is called in the event
        loop.
        """
        asked = {"task": task, "prompt": prompt, "box": box, "hint": hint, "check_blank": check_blank}
        sizes = {"max_tokens": max_tokens, "max_pixels": max_pixels, "quality": quality}
        wanted = Wanted({**asked, **sizes}, pages, dpi, password, on_notice)
        return self._calls.ocr(inputs, wanted, reread=reread, on_event=on_event)

    async def ask(
        self,
        question: str,
        inputs: Iterable[Input],
        *,
        max_tokens: int | None = None,
        max_pixels: int | None = None,
        quality: str | None = None,
        pages: str | None = None,
        dpi: int = DEFAULT_DPI,
        password: str | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> Page:
        """Ask one question about all pages of all inputs together, as :meth:`dotsctl.client.api.Client.ask`."""
        asked = {"task": "ask", "prompt": question, "box": None, "hint": "", "check_blank": False}
        sizes = {"max_tokens": max_tokens, "max_pixels": max_pixels, "quality": quality}
        return await self._calls.ask(question, inputs, Wanted({**asked, **sizes}, pages, dpi, password, on_notice))

    def stream(
        self,
        source: Input,
        *,
        task: str | None = None,
        prompt: str | None = None,
        box: Box | None = None,
        max_tokens: int | None = None,
        max_pixels: int | None = None,
        quality: str | None = None,
        hint: str = "",
        pages: str | None = None,
        dpi: int = DEFAULT_DPI,
        password: str | None = None,
        check_blank: bool = True,
        on_notice: Callable[[str], None] | None = None,
    ) -> AsyncGenerator[str, None]:
        """Text of an input as it is decoded, as :meth:`dotsctl.client.api.Client.stream`; for ``async for``."""
        asked = {"task": task, "prompt": prompt, "box": box, "hint": hint, "check_blank": check_blank}
        sizes = {"max_tokens": max_tokens, "max_pixels": max_pixels, "quality": quality}
        return self._calls.stream(source, Wanted({**asked, **sizes}, pages, dpi, password, on_notice))

    def stream_cells(
        self,
        source: Input,
        *,
        task: str | None = None,
        prompt: str | None = None,
        max_tokens: int | None = None,
        max_pixels: int | None = None,
        quality: str | None = None,
        hint: str = "",
        pages: str | None = None,
        dpi: int = DEFAULT_DPI,
        password: str | None = None,
        check_blank: bool = True,
        on_notice: Callable[[str], None] | None = None,
    ) -> AsyncGenerator[Cell, None]:
        """Cells of an input, each as soon as it is whole, as :meth:`dotsctl.client.api.Client.stream_cells`."""
        asked = {"task": task, "prompt": prompt, "box": None, "hint": hint, "check_blank": check_blank}
        sizes = {"max_tokens": max_tokens, "max_pixels": max_pixels, "quality": quality}
        return self._calls.stream_cells(source, Wanted({**asked, **sizes}, pages, dpi, password, on_notice))

    async def status(self) -> Status:
        """State of the runtime, its workers and its requests."""
        return await self._calls.status()

    async def close(self) -> None:
        """Close the connection, and end the private runtime if there is one; calls under way end with an error."""
        await asyncio.shield(asyncio.to_thread(self._close))

    def _close(self) -> None:
        self._connection.close()
        self._executor.shutdown(wait=True)

    async def __aenter__(self) -> "AsyncClient":
        """Find the runtime, or start a private one. Raises what the constructor of ``Client`` raises."""
        try:
            await self._calls.session()
        except BaseException:  # a cancellation, too: nobody else could end what is being started
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
