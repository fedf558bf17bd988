"""Waiting in an event loop, as ``AsyncClient`` does; see ``waiting.py``."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from dotsctl.client.connection.inbox import Inbox
from dotsctl.protocol.errors import RuntimeLostError

T = TypeVar("T")


class Suspending:
    """Waits in the running event loop, which runs meanwhile."""

    def __init__(self, executor: Executor) -> None:
        """``executor`` runs what would hold the event loop up."""
        self._executor = executor

    async def until(self, inbox: Inbox[Any], timeout_s: float) -> None:
        """See :class:`dotsctl.client.connection.waiting.Waiting`."""
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed, and nothing waits any more
                loop.call_soon_threadsafe(arrived.set)

        with inbox.waking(wake), contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await arrived.wait()

    async def call(self, function: Callable[[], T]) -> T:
        """See :meth:`until`. Raises RuntimeLostError when the client was closed."""
        try:
            running = asyncio.get_running_loop().run_in_executor(self._executor, function)
        except RuntimeError:  # the executor takes nothing more
            raise RuntimeLostError("this connection to the runtime is closed", "open a new one") from None
        return await running
