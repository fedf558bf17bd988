"""Requests about pages that were read already, which are answered although rendering was stopped."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_IS_FINISHING = ContextVar("_IS_FINISHING", default=False)


@contextmanager
def finishing() -> Iterator[None]:
    """Let requests be answered in spite of ``RenderProcess.stop``, as for the pictures of a page that was read."""
    token = _IS_FINISHING.set(True)
    try:
        yield
    finally:
        _IS_FINISHING.reset(token)


def is_finishing() -> bool:
    """Return whether this is within :func:`finishing`."""
    return _IS_FINISHING.get()
