"""The requests of an encoder in their order, and the thread that prepares the next one beside the computation.

One request is prepared ahead and no more, which bounds the memory; the others wait as the bytes that came. Shared by
three threads: that of the sockets adds and cancels, this one prepares, the main thread takes what is prepared.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dotsctl.protocol.messages import Encode

log = logging.getLogger(__name__)

IDLE_S = 60.0


@dataclass(frozen=True)
class PreparedRequest:
    """A request with what became of its images."""

    request: Encode
    images: Any
    """The images in the form that the plugin takes; none where there is an ``error``."""
    error: BaseException | None
    """The exception of the preparation, if it raised one."""
    waited_s: float = 0.0
    """Seconds for which the encoder stood still until the request was prepared."""


Prepare = Callable[[Encode, list[memoryview]], Any]
"""Makes of a request and its buffers the images in the form that the plugin takes; may raise anything."""


class RequestLine:
    """Requests from their arrival until they are taken; every method may be called from any thread."""

    def __init__(self, prepare: Prepare) -> None:
        """Begin empty; ``prepare`` runs on the thread that :meth:`start` starts."""
        self._prepare = prepare
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Encode, list[memoryview], float]] = deque()
        """Requests with their buffers and the time of their arrival."""
        self._preparing: Encode | None = None
        self._is_dropped = False
        """Whether the request in preparation was cancelled."""
        self._ready: tuple[PreparedRequest, float, float] | None = None
        """The prepared request, the time of its arrival, and the time when it was prepared."""
        self._current: Encode | None = None
        """The request that was taken last and is not finished."""
        self._is_cancelled = self._is_stopped = False

    def start(self) -> None:
        """Start the thread that prepares; it ends with the process."""
        threading.Thread(target=self._run, name="preparation", daemon=True).start()

    def add(self, request: Encode, buffers: list[memoryview]) -> None:
        """Append a request."""
        with self._changed:
            self._waiting.append((request, buffers, time.monotonic()))
            self._changed.notify_all()

    def cancel(self, request_id: int, attempt: int) -> bool:
        """Cancel an attempt; true: it is dropped from here. One that was taken is only marked."""
        key = (request_id, attempt)
        with self._changed:
            for entry in self._waiting:
                if _key(entry[0]) == key:
                    self._waiting.remove(entry)
                    return True
            if self._ready is not None and _key(self._ready[0].request) == key:
                self._ready = None
                self._changed.notify_all()
                return True
            if self._preparing is not None and _key(self._preparing) == key and not self._is_dropped:
                self._is_dropped = True
                return True
            self._is_cancelled = self._is_cancelled or (self._current is not None and _key(self._current) == key)
        return False

    def stop(self) -> None:
        """Let :meth:`take` return none from now on."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    @property
    def is_unwanted(self) -> bool:
        """Return whether the request that was taken last was cancelled, or the worker is to stop."""
        return self._is_cancelled or self._is_stopped

    def take(self) -> PreparedRequest | None:
        """Wait for the next request until it is prepared, and finish the one before it; none: the worker is to stop."""
        called_at = time.monotonic()
        with self._changed:
            self._current, self._is_cancelled = None, False
            while self._ready is None and not self._is_stopped:
                self._changed.wait(IDLE_S)
            if self._is_stopped or self._ready is None:
                return None
            (found, arrived_at, ready_at), self._ready = self._ready, None
            self._current = found.request
            self._changed.notify_all()
        waited_s = max(0.0, ready_at - max(called_at, arrived_at))
        return PreparedRequest(found.request, found.images, found.error, waited_s)

    def _run(self) -> None:
        try:
            while True:
                self._prepare_next()
        except BaseException:
            log.exception("the thread that prepares pages failed; the worker ends and is started again")
            os._exit(1)

    def _prepare_next(self) -> None:
        """Wait for a request that may be prepared, and prepare it."""
        with self._changed:
            while not self._waiting or self._ready is not None:
                self._changed.wait(IDLE_S)
            request, buffers, arrived_at = self._waiting.popleft()
            self._preparing, self._is_dropped = request, False
        images, raised = None, None
        try:
            images = self._prepare(request, buffers)
        except BaseException as error:  # the outcome of this request, which the main thread reports
            raised = error
        with self._changed:
            if not self._is_dropped:
                self._ready = PreparedRequest(request, images, raised), arrived_at, time.monotonic()
            self._preparing = None
            self._changed.notify_all()


def _key(request: Encode) -> tuple[int, int]:
    return request.request_id, request.attempt
