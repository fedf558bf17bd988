"""The two ways to wait: in the caller's thread, as ``Client`` does, and in an event loop, as ``AsyncClient`` does.

What both clients do is written once, with ``await``. With :class:`Blocking` nothing in it is ever suspended, so that
:func:`completed` and :func:`iterate` run it to its end without an event loop.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from concurrent.futures import Executor
from typing import Any, Protocol, TypeVar

from dotsctl.client.inbox import Inbox
from dotsctl.protocol.errors import RuntimeLostError

T = TypeVar("T")


class Waiting(Protocol):
    """How the code that both clients share waits."""

    async def until(self, inbox: Inbox[Any], timeout_s: float) -> None:
        """Return when the inbox has a message, when it was poked, or after ``timeout_s`` seconds."""

    async def call(self, function: Callable[[], T]) -> T:
        """Run something that reads files or waits for processes."""


class Blocking:
    """Waits in the caller's thread; its coroutines are never suspended."""

    async def until(self, inbox: Inbox[Any], timeout_s: float) -> None:
        """See :class:`Waiting`."""
        arrived = threading.Event()
        with inbox.waking(arrived.set):
            arrived.wait(timeout_s)

    async def call(self, function: Callable[[], T]) -> T:
        """See :class:`Waiting`."""
        return function()


class Suspending:
    """Waits in the running event loop, which goes on meanwhile."""

    def __init__(self, executor: Executor) -> None:
        """``executor`` runs what would hold the event loop up."""
        self._executor = executor

    async def until(self, inbox: Inbox[Any], timeout_s: float) -> None:
        """See :class:`Waiting`."""
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed, and nobody waits any more
                loop.call_soon_threadsafe(arrived.set)

        with inbox.waking(wake), contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await arrived.wait()

    async def call(self, function: Callable[[], T]) -> T:
        """See :class:`Waiting`. Raises RuntimeLostError when the client was closed."""
        try:
            running = asyncio.get_running_loop().run_in_executor(self._executor, function)
        except RuntimeError:  # the executor takes nothing more
            raise RuntimeLostError("the connection to the runtime was closed here: open a new one") from None
        return await running


def completed(awaitable: Awaitable[T]) -> T:
    """The result of what waits with :class:`Blocking` alone."""
    try:
        next(iter(awaitable.__await__()))
    except StopIteration as end:
        result: T = end.value
        return result
    raise RuntimeError("a coroutine of the blocking client waits for an event loop")


def iterate(items: AsyncGenerator[T, None]) -> Iterator[T]:
    """The items of what waits with :class:`Blocking` alone; breaking off ends it, too."""
    try:
        while True:
            try:
                item = completed(items.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        completed(items.aclose())
