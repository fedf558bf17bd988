"""The socket that clients connect to. It is closed while file descriptors are short.

libzmq accepts connections in a thread of its own and aborts the process when no descriptor is free. Unbinding is no
help, as it ends the connections that were accepted before; and a socket monitor reports a connection too late. So the
runtime owns the listening socket, and takes its name away while connections are accepted: what comes in one moment is
counted before more may come. A client that connects in that moment gets ENOENT, and libzmq tries again
after 100 ms.
"""

import logging
import os
import select
import socket
import threading
from pathlib import Path

from dotsctl.protocol import descriptors
from dotsctl.protocol.endpoints import InstanceDirectory
from dotsctl.protocol.errors import CommandFailedError

log = logging.getLogger(__name__)

LEAST_RESERVED, MOST_RESERVED = 64, 1024
REOPENED = 16
"""Free descriptors beyond the reserved ones at which a closed listener opens again, so that it does not flap."""
WAITING = 16
"""Connections that may wait to be accepted."""
ACCEPTED_MS = 1
"""The interval between two checks whether all waiting connections are accepted."""


def reserved() -> int:
    """Return the free descriptors below which the listener is closed: half of all, 64 to 1,024.

    A burst of connections takes some before it is noticed: up to 35 were measured on two busy cores. Files and
    restarted workers need some more.
    """
    return max(LEAST_RESERVED, min(MOST_RESERVED, descriptors.limit() // 2))


class ClientListener:
    """A listening socket with a name that comes and goes, and the thread that guards it."""

    def __init__(self, directory: InstanceDirectory) -> None:
        """Listen, and start the thread that counts the connections. Raises CommandFailedError."""
        self._open, self._closed = directory.client_socket, directory.closed_client_socket
        self._accepting = directory.path / "accepting.sock"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        try:
            self._socket.bind(str(self._open))
            self._socket.listen(WAITING)
        except OSError as error:
            self._socket.close()
            raise CommandFailedError(f"cannot bind {self._open}: {error.strerror}") from None
        self._inode = self._open.stat().st_ino
        self._name = self._open
        self._lock = threading.Lock()
        self._reader, self._writer = os.pipe()
        self._thread = threading.Thread(target=self._guard, name="client listener", daemon=True)
        self._thread.start()

    def descriptor(self) -> int:
        """Return a duplicate of the listening descriptor; the caller accepts connections on it and closes it."""
        return os.dup(self._socket.fileno())

    @property
    def is_in_place(self) -> bool:
        """Return whether the socket has its name; it may have been removed."""
        with self._lock:
            try:
                return self._name.stat().st_ino == self._inode
            except OSError:
                return False

    def check(self) -> None:
        """Open a closed listener when enough descriptors are unused; to be called about once a second."""
        with self._lock:
            if self._name == self._closed and (num_free := descriptors.num_free()) >= reserved() + REOPENED:
                self._rename(self._open)
                log.info("connections are accepted again: %d file descriptors are free", num_free)

    def close(self) -> None:
        """Listen no more."""
        os.close(self._writer)
        self._thread.join()
        os.close(self._reader)
        self._socket.close()

    def _guard(self) -> None:
        waiting = select.poll()
        waiting.register(self._reader)
        waiting.register(self._socket, select.POLLIN)
        while self._reader not in dict(waiting.poll()):
            with self._lock:
                self._accept()

    def _accept(self) -> None:
        """Accept the waiting connections, and no other until they are counted."""
        if self._name == self._open:
            self._rename(self._accepting)
        accepted = select.poll()
        accepted.register(self._socket, select.POLLIN)
        pause = select.poll()
        pause.register(self._reader)
        while accepted.poll(0) and not pause.poll(ACCEPTED_MS):
            pass
        if self._name == self._accepting:
            num_free = descriptors.num_free()
            self._rename(self._open if num_free >= reserved() else self._closed)
            if self._name == self._closed:
                text = "no more connections are accepted: %d of %d file descriptors are free"
                log.warning(text, num_free, descriptors.limit())

    def _rename(self, name: Path) -> None:
        try:
            self._name.rename(name)
        except OSError as error:  # it was removed, which the next check of the runtime's files reports
            log.warning("%s cannot be renamed: %s", self._name, error)
        self._name = name
