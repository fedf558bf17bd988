"""The encoder's sockets, on a thread of their own: requests come in while a page is computed.

So the next page is there to be prepared, and a cancelled one is dropped before it is encoded.
"""

import logging
import queue
import time
from collections.abc import Iterable
from dataclasses import dataclass

from dotsctl.encoder_worker.preparing import RequestLine
from dotsctl.protocol import codec
from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.link import Link, Links
from dotsctl.protocol.messages import CancelRequest, Dropped, Encode, Stop
from dotsctl.protocol.worker.shell import Control
from dotsctl.protocol.worker.socket_thread import SocketThread

log = logging.getLogger(__name__)

PUSH_TIMEOUT_S = 60.0
"""Longest wait for a decoder to take a page; by then the coordinator has long cancelled a page of a dead one."""


@dataclass(frozen=True)
class _Push:
    """A page that is to go to a decoder."""

    endpoint: str
    frames: list[codec.Buffer]
    deadline: float


class EncoderSockets(SocketThread):
    """The sockets; ``turn`` runs on the thread, everything else on the main thread."""

    def __init__(self, links: Links, control: Control, line: RequestLine) -> None:
        """Take over the sockets; requests go into ``line``."""
        super().__init__(links, control)
        self._line = line
        self._pushes: queue.SimpleQueue[_Push] = queue.SimpleQueue()
        self._pushed: queue.SimpleQueue[bool | PageError] = queue.SimpleQueue()
        self._push: _Push | None = None
        """The page that the decoder has not taken yet."""
        self._data: Link | None = None
        self._data_endpoint = ""

    def push(self, endpoint: str, frames: list[codec.Buffer]) -> bool:
        """Hand the page that was taken last to the data plane, and wait until the decoder can take it.

        Returns:
            False when the page was cancelled before, or the worker is to stop; nothing was sent then.

        Raises:
            PageError: the decoder took no page for ``PUSH_TIMEOUT_S`` seconds.
        """
        self._pushes.put(_Push(endpoint, frames, time.monotonic() + PUSH_TIMEOUT_S))
        self.wake()
        outcome = self._pushed.get(timeout=2 * PUSH_TIMEOUT_S)
        if isinstance(outcome, PageError):
            raise outcome
        return outcome

    def writable(self) -> Iterable[Link]:
        """The data plane, while a page waits for room in it."""
        return (self._data,) if self._push is not None and self._data is not None else ()

    @property
    def timeout_s(self) -> float:
        """Seconds until a page has waited for too long."""
        return super().timeout_s if self._push is None else max(0.0, self._push.deadline - time.monotonic())

    def turn(self) -> None:
        """Read requests, and send the page that waits for that."""
        self._read_control()
        if self._push is None and not self._pushes.empty():
            self._push = self._pushes.get_nowait()
        if self._push is not None and (outcome := self._tried(self._push)) is not None:
            self._push = None
            self._pushed.put(outcome)

    def _read_control(self) -> None:
        while received := self._control.receive():
            match received.message:
                case Encode():
                    self._line.add(received.message, received.buffers)
                case CancelRequest(request_id, attempt):
                    if self._line.cancel(request_id, attempt):
                        self._control.send(Dropped(request_id, attempt))
                case Stop():
                    self._line.stop()
                case other:
                    log.warning("%s is not for an encoder", type(other).__name__)

    def _tried(self, push: _Push) -> bool | PageError | None:
        """Try to send a page: what became of it; none: the decoder has no room yet."""
        if self._line.is_unwanted:
            return False
        if self._link_to(push.endpoint).send(push.frames):
            return True
        if time.monotonic() < push.deadline:
            return None
        return PageError(f"the decoder accepted no page for {PUSH_TIMEOUT_S:.0f} s", code=ErrorCode.STALL)

    def _link_to(self, endpoint: str) -> Link:
        """Return the socket to the present decoder; pages queued for a dead one are dropped with the old socket."""
        if self._data is None or self._data_endpoint != endpoint:
            if self._data is not None:
                self._links.drop(self._data)
            self._data, self._data_endpoint = self._links.push(endpoint), endpoint
        return self._data
