"""The decoder's sockets, on a thread of their own.

It takes embeddings off the data plane, sends ``Received`` at once (from then on this process answers for the page), and
passes on the messages of the main thread.
"""

import logging
import queue
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dotsctl.protocol import codec, tensor
from dotsctl.protocol.errors import ErrorCode, ProtocolError
from dotsctl.protocol.link import Link, Links
from dotsctl.protocol.messages import CancelRequest, Embeddings, Gather, HintRequest, Received, RequestFailed, Stop
from dotsctl.protocol.worker.shell import Control
from dotsctl.protocol.worker.socket_thread import SocketThread
from numpy.typing import NDArray

log = logging.getLogger(__name__)

REMEMBERED_CANCELS = 256


@dataclass(frozen=True)
class Arrived:
    """A page's embeddings, copied out of the frames that they came in."""

    header: Embeddings
    values: NDArray[Any]
    """(num_embeddings, width)."""


Event = Arrived | CancelRequest | Gather | HintRequest | Stop


class DecoderSockets(SocketThread):
    """The sockets; the methods are for the main thread, except ``turn``."""

    def __init__(self, links: Links, control: Control, pull: Link, width: int) -> None:
        """Take over the sockets; no other thread may use them from here on."""
        super().__init__(links, control)
        self._pull, self._width = pull, width
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._cancelled: OrderedDict[tuple[int, int], None] = OrderedDict()
        """Attempts that were cancelled before their embeddings came."""

    def next_event(self, timeout_s: float) -> Event | None:
        """Return the next event, or none after ``timeout_s`` seconds; 0 does not wait."""
        try:
            return self._events.get(timeout=timeout_s) if timeout_s > 0 else self._events.get_nowait()
        except queue.Empty:
            return None

    def readable(self) -> Iterable[Link]:
        """The data plane."""
        return (self._pull,)

    def turn(self) -> None:
        """Read both sockets."""
        self._read_control()
        self._read_embeddings()

    def _read_control(self) -> None:
        while received := self._control.receive():
            if isinstance(received.message, CancelRequest):
                key = (received.message.request_id, received.message.attempt)
                self._cancelled[key] = None
                if len(self._cancelled) > REMEMBERED_CANCELS:
                    self._cancelled.popitem(last=False)
                self._events.put(received.message)
            elif isinstance(received.message, Gather | HintRequest | Stop):
                self._events.put(received.message)
            else:
                log.warning("%s is not for a decoder", type(received.message).__name__)

    def _read_embeddings(self) -> None:
        while incoming := self._pull.receive():
            try:
                received = codec.decode(incoming.frames)
            except ProtocolError as error:
                log.warning("bad message on the data plane: %s", error)
                continue
            if isinstance(received.message, Embeddings):
                self._take(received.message, received.buffers)

    def _take(self, header: Embeddings, buffers: list[memoryview]) -> None:
        if (header.request_id, header.attempt) in self._cancelled:
            return
        if header.tensor.shape[1] != self._width:
            text = f"embeddings of width {header.tensor.shape[1]} arrived, the decoder expects {self._width}"
            self._control.send(RequestFailed(header.request_id, header.attempt, ErrorCode.BAD_EMBED, text))
            return
        self._control.send(Received(header.request_id, header.attempt))
        self._events.put(Arrived(header, tensor.assemble(header.tensor, buffers)))
