"""The thread of a worker that owns its sockets, so that the main thread can belong to the model.

The other threads pass on messages through a queue, and wake this thread with a byte in a pipe.
"""

import logging
import os
import queue
import threading
from collections.abc import Iterable

from dotsctl.protocol.link import Link, Links
from dotsctl.protocol.messages import Message
from dotsctl.protocol.worker.shell import Control

log = logging.getLogger(__name__)

IDLE_S = 60.0


class SocketThread:
    """Sends what other threads give it and calls :meth:`turn` after each event; ``turn`` reads the sockets."""

    def __init__(self, links: Links, control: Control) -> None:
        """Take over the sockets; no other thread may use them once :meth:`start` was called."""
        self._links, self._control = links, control
        self._to_send: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_reader, False)
        self._thread = threading.Thread(target=self._run, name="sockets", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def send(self, message: Message) -> None:
        """Queue a message for the coordinator; for any thread."""
        self._to_send.put(message)
        self.wake()

    def wake(self) -> None:
        """Have the thread take a turn now; for any thread."""
        os.write(self._wake_writer, b"\0")

    @property
    def timeout_s(self) -> float:
        """Seconds after which :meth:`turn` is called without an event."""
        return IDLE_S

    def readable(self) -> Iterable[Link]:
        """Return the sockets to wait for besides that of the coordinator."""
        return ()

    def writable(self) -> Iterable[Link]:
        """Return the sockets that have something to send, and have had no room for it."""
        return ()

    def turn(self) -> None:
        """Read what has come and send what is due; called on the thread after every event."""
        raise NotImplementedError

    def _run(self) -> None:
        """Serve the sockets for the life of the process; a fault here must end the process, not only the thread."""
        try:
            while True:
                links = [self._control.link, *self.readable()]
                if self._wake_reader in self._links.wait(self.timeout_s, links, [self._wake_reader], self.writable()):
                    os.read(self._wake_reader, 65_536)
                while not self._to_send.empty():
                    self._control.send(self._to_send.get_nowait())
                self.turn()
        except Exception:
            log.exception("the thread of the sockets failed; the worker ends and is started again")
            os._exit(1)
