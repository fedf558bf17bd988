"""The two ways to wait: in the caller's thread, as ``Client`` does, and in an event loop, as ``AsyncClient`` does.

What both clients do is written once, with ``await``. With :class:`Blocking` nothing in it is ever suspended, so that
:func:`completed` and :func:`iterate` run it to its end without an event loop. ``suspending.py`` is the other way, apart
because :mod:`asyncio` takes a third of the time that importing the library may take.
"""

import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any, Protocol, TypeVar

from dotsctl.client.connection.inbox import Inbox

T = TypeVar("T")


class Waiting(Protocol):
    """The way in which the code that both clients share waits."""

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
