"""The effect of a signal on a command: before and after its work it leaves at once, meanwhile it interrupts."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SignalledError(KeyboardInterrupt):
    """A signal has come, as Ctrl-C, that is to end the command."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number
        """130 after SIGINT, 143 after SIGTERM, 129 after SIGHUP."""


def leave(number: int, _: FrameType | None) -> None:
    """End the process while nothing needs an orderly end, as during imports, where an exception is a traceback."""
    os._exit(128 + number)


def leave_at_signals() -> None:
    """Let signals that are not ignored (as by ``nohup``) end the process without output."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, leave)


@contextmanager
def raising() -> Iterator[None]:
    """Raise SignalledError at signals that would end the process without output; for the work of a command."""
    taken = [number for number in SIGNALS if signal.getsignal(number) is leave]
    for number in taken:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, leave)


def _raise(number: int, _: FrameType | None) -> None:
    raise SignalledError(number)
