"""Ctrl-C and SIGTERM while pages are read: the first one finishes what is in work, the second one stops now."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM)
STDERR_FD = 2
HINT = "stopping: the pages in work are finished first; Ctrl-C once more stops now"


class Interruption:
    """Takes the signals over, as a context manager; before :meth:`reading` each of them is a KeyboardInterrupt."""

    def __init__(self, *, quiet: bool) -> None:
        """``quiet``: say nothing at the first signal."""
        self._is_quiet = quiet
        self._is_reading = False
        self._previous: dict[int, Any] = {}
        self.is_asked = False
        """Whether somebody wants the run to end."""

    def __enter__(self) -> "Interruption":
        """Take the signals over that nobody wants ignored; only the main thread of a program gets any."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as in a background job of a shell
                    self._previous[number] = signal.signal(number, self._signalled)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back."""
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """From now on there is something to finish."""
        self._is_reading = True
        try:
            yield
        finally:
            self._is_reading = False

    def until_asked(self, items: Iterator[T]) -> Iterator[T]:
        """The items, up to the first signal."""
        while not self.is_asked and (item := next(items, None)) is not None:
            yield item

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self.is_asked or not self._is_reading:
            self.is_asked = True
            raise KeyboardInterrupt
        self.is_asked = True
        if not self._is_quiet:
            os.write(STDERR_FD, f"\n{HINT}\n".encode())  # Python's own stream may be in the middle of a write
