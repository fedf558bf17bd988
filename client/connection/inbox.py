"""Messages on their way from the thread that receives them to the one caller who waits for them."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """Filled by one thread, emptied by one caller, who may wait in a thread or in an event loop; see ``waiting.py``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: deque[T] = deque()
        self._is_poked = False
        self._wake: Callable[[], None] | None = None

    def put(self, item: T) -> None:
        """Add a message."""
        with self._lock:
            self._items.append(item)
            self._wake_caller()

    def poke(self) -> None:
        """End the caller's waiting, or the next one, without a message."""
        with self._lock:
            self._is_poked = True
            self._wake_caller()

    def take(self) -> T | None:
        """The next message; none when there is none now."""
        with self._lock:
            return self._items.popleft() if self._items else None

    @contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Call ``wake`` from any thread, at once or later, as soon as there is a message or a poke."""
        with self._lock:
            self._wake = wake
            if self._items or self._is_poked:
                wake()
        try:
            yield
        finally:
            with self._lock:
                self._wake, self._is_poked = None, False

    def _wake_caller(self) -> None:
        if self._wake is not None:
            self._wake()
