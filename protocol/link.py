"""Sockets: the only file that uses ZeroMQ.

All sockets of a process live in one :class:`Links`, are used by the thread that made them, and are closed together.
Nothing here blocks: ``receive`` and ``send`` return at once, and :meth:`Links.wait` is the one place to wait, always
with a limit. Every socket has linger 0, so that no process hangs at its end because of an unsent message.
"""

import contextlib
import errno
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import zmq
from dotsctl.protocol.codec import MAX_FRAMES, Buffer
from dotsctl.protocol.descriptors import shortage
from dotsctl.protocol.errors import CommandFailedError
from dotsctl.protocol.parts import FRAME_BYTES

DROPPED_AT_ONCE = 5000


class Incoming(NamedTuple):
    """One received message; the frames are views that keep the received memory alive."""

    sender: bytes
    """Identity of the peer on a router, else empty."""
    frames: list[memoryview]


class PeerGoneError(Exception):
    """The addressed peer of a router is not connected any more."""


class Link:
    """One socket."""

    def __init__(self, socket: "zmq.Socket[bytes]", *, addressed: bool = False) -> None:
        self._socket = socket
        self._addressed = addressed
        self._is_dropping = False
        """Whether the message before had too many frames, which are not all dropped yet."""

    @property
    def endpoint(self) -> str:
        """The address that this socket is bound or connected to."""
        return str(self._socket.get_string(zmq.LAST_ENDPOINT))

    def send(self, frames: Sequence[Buffer], to: bytes | None = None) -> bool:
        """Hand a message over to the I/O thread without copying large frames; their memory must not be written again.

        Args:
            frames: what :func:`dotsctl.protocol.codec.encode` made.
            to: identity of the peer; for routers only.

        Returns:
            False when the peer takes no more for now; nothing was sent then.

        Raises:
            PeerGoneError: the router's peer is not connected.
        """
        parts = [to, *frames] if to is not None else frames
        try:
            self._socket.send_multipart(parts, flags=zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                raise PeerGoneError from None
            raise
        return True

    def receive(self) -> Incoming | None:
        """Return the next message, or none when there is none now.

        Of one with more frames than any message has, those beyond are dropped, some thousands in each call: a peer that
        sends millions of them delays the others by milliseconds.
        """
        frames: list[zmq.Frame] = []
        try:
            if self._is_dropping and not self._drop_rest():
                return None
            frames.append(self._socket.recv(flags=zmq.NOBLOCK, copy=False))
            while self._has_more() and len(frames) < MAX_FRAMES + 2:  # one too many is refused by the codec, by name
                frames.append(self._socket.recv(flags=zmq.NOBLOCK, copy=False))
        except zmq.Again:
            return None
        self._is_dropping = self._has_more()
        sender = frames.pop(0).bytes if self._addressed and frames else b""
        return Incoming(sender, [frame.buffer for frame in frames])

    def _has_more(self) -> bool:
        return bool(self._socket.get(zmq.RCVMORE))

    def _drop_rest(self) -> bool:
        """Drop frames of the message before; whether it is at its end."""
        for _ in range(DROPPED_AT_ONCE):
            self._socket.recv(flags=zmq.NOBLOCK)
            if not self._has_more():
                self._is_dropping = False
                return True
        return False

    def close(self, linger_s: float = 0.0) -> None:
        """Close the socket; what was not sent within ``linger_s`` seconds is dropped."""
        self._socket.close(linger=round(linger_s * 1000))


class Links:
    """All sockets of one thread, with one context."""

    def __init__(self) -> None:
        self._context = zmq.Context(io_threads=1)
        self._links: list[Link] = []

    def router(self, endpoint: str, listener: int | None = None) -> Link:
        """Bind the control socket of the coordinator; sending to a peer that is gone is an error, not a loss.

        ``listener`` is the descriptor of a socket that listens at ``endpoint`` already; it is closed with the link,
        which leaves the socket's file alone then.
        """
        options: dict[int, int | bytes] = {zmq.ROUTER_MANDATORY: 1}
        if listener is not None:
            options[zmq.USE_FD] = listener
        return self._open(zmq.ROUTER, endpoint, bind=True, options=options, addressed=True)

    def dealer(self, endpoint: str, identity: str | None = None) -> Link:
        """Connect a client or worker to a coordinator."""
        options: dict[int, int | bytes] = {zmq.ROUTING_ID: identity.encode()} if identity else {}
        return self._open(zmq.DEALER, endpoint, options=options)

    def push(self, endpoint: str) -> Link:
        """Connect the sending end of the data plane; accepts nothing before the receiver has connected."""
        return self._open(zmq.PUSH, endpoint, options={zmq.IMMEDIATE: 1, zmq.SNDHWM: 1})

    def pull(self, endpoint: str) -> Link:
        """Bind the receiving end of the data plane."""
        return self._open(zmq.PULL, endpoint, bind=True, options={zmq.RCVHWM: 1})

    def _open(
        self,
        kind: int,
        endpoint: str,
        *,
        bind: bool = False,
        options: dict[int, int | bytes] | None = None,
        addressed: bool = False,
    ) -> Link:
        try:
            socket = self._context.socket(kind)
        except zmq.ZMQError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise shortage() from None
            raise
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.MAXMSGSIZE, FRAME_BYTES)
        for option, value in (options or {}).items():
            socket.set(option, value)
        try:
            socket.bind(endpoint) if bind else socket.connect(endpoint)
        except zmq.ZMQError as error:
            socket.close(linger=0)
            raise CommandFailedError(f"cannot {'bind' if bind else 'connect'} {endpoint}: {error.strerror}") from None
        self._links.append(Link(socket, addressed=addressed))
        return self._links[-1]

    def wait(
        self, timeout_s: float, links: Iterable[Link] = (), fds: Iterable[int] = (), writable: Iterable[Link] = ()
    ) -> set[Link | int]:
        """Wait until something can be read (or written, for ``writable``), or the time is over; what is ready."""
        poller = zmq.Poller()
        by_key: dict[object, Link | int] = {}
        readable, free = list(links), list(writable)
        for link in dict.fromkeys([*readable, *free]):  # one may be waited for in both ways
            flags = zmq.POLLIN * (link in readable) | zmq.POLLOUT * (link in free)
            poller.register(link._socket, flags)
            by_key[link._socket] = link
        for fd in fds:
            poller.register(fd, zmq.POLLIN)
            by_key[fd] = fd
        ready = poller.poll(max(0, round(timeout_s * 1000)))
        return {by_key[key] for key, _ in ready}

    def drop(self, link: Link) -> None:
        """Close one socket."""
        link.close()
        with contextlib.suppress(ValueError):
            self._links.remove(link)

    def close(self, linger_s: float = 0.0) -> None:
        """Close all sockets and the context; what was not sent within ``linger_s`` seconds is dropped."""
        for link in self._links:
            link.close(linger_s)
        self._links.clear()
        self._context.term()

    def __enter__(self) -> "Links":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
