"""Ctrl-C, SIGTERM and SIGHUP while pages are read: the first one finishes what was sent, the second one stops now."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from dotsctl.client.cli.signals import SIGNALS, SignalledError
from dotsctl.client.inputs.pages import stop_renderer

T = TypeVar("T")
STDERR_FD = 2
HINT = "stopping after the pages in progress; press Ctrl-C again to stop now"


class Interruption:
    """Takes the signals over, as a context manager; before :meth:`reading` each of them is a SignalledError."""

    def __init__(self, *, quiet: bool) -> None:
        """Prepare; ``quiet``: print nothing at the first signal."""
        self._is_quiet = quiet
        self._is_reading = False
        self._previous: dict[int, Any] = {}
        self._number: int | None = None
        """The first signal that came."""

    @property
    def is_requested(self) -> bool:
        """Return whether a signal has come that ends the run."""
        return self._number is not None

    def raise_if_requested(self) -> None:
        """Raise SignalledError if a signal has come that ends the run."""
        if self._number is not None:
            raise SignalledError(self._number)

    def __enter__(self) -> "Interruption":
        """Install handlers for signals that are not ignored; only in the main thread, which alone gets signals."""
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
        """Mark the time in which a signal lets the run finish its work."""
        self._is_reading = True
        try:
            yield
        finally:
            self._is_reading = False

    def until_requested(self, items: Iterator[T]) -> Iterator[T]:
        """The items, up to the first signal."""
        while not self.is_requested and (item := next(items, None)) is not None:
            yield item

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self.is_requested or not self._is_reading:
            self._number = number
            raise SignalledError(number)
        self._number = number
        stop_renderer()
        if not self._is_quiet:
            os.write(STDERR_FD, f"\n{HINT}\n".encode())  # Python's own stream may be in the middle of a write
