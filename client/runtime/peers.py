"""The connected clients: sends to them without ever waiting for one that does not read."""

import logging
from collections import deque
from collections.abc import Callable

from dotsctl.protocol import codec
from dotsctl.protocol.codec import Buffer
from dotsctl.protocol.errors import ExitCode, ProtocolError
from dotsctl.protocol.link import Link, PeerGoneError
from dotsctl.protocol.messages import Bye, Message, PageFailed, PageResult, Ping

log = logging.getLogger(__name__)

MAX_BACKLOG = 10_000
"""Messages kept for a client that does not read; one that falls further behind is dropped."""


class ClientPeers:
    """Clients by their identity on the router."""

    def __init__(self, link: Link, gone: Callable[[bytes], None]) -> None:
        """Send over ``link``; ``gone`` is called once for a client that disappeared or was dropped."""
        self._link, self._gone = link, gone
        self._backlog: dict[bytes, deque[Message]] = {}
        self.known: set[bytes] = set()

    @property
    def lagging(self) -> bool:
        """Whether some client has messages waiting."""
        return bool(self._backlog)

    def send(self, client: bytes, message: Message) -> None:
        """Send, or keep for later when the client does not read."""
        self.known.add(client)
        waiting = self._backlog.get(client)
        if waiting is None:
            self._try(client, message)
        elif not isinstance(message, Ping):
            waiting.append(message)
            if len(waiting) > MAX_BACKLOG:
                log.warning("client %r does not read its messages: dropped", client)
                self._gone(client)
                waiting.clear()
                waiting.append(Bye("the runtime gave this client up, which did not read its messages", ExitCode.OK))

    def ping_all(self) -> None:
        """Find the clients that are gone: sending to one of them fails."""
        for client in list(self.known):
            self.send(client, Ping())

    def flush(self) -> None:
        """Send what clients could not take before."""
        for client in list(self._backlog):
            waiting = self._backlog.pop(client)
            while waiting:
                if not self._try(client, waiting.popleft()):
                    if client in self._backlog:
                        self._backlog[client].extend(waiting)
                    break

    def _try(self, client: bytes, message: Message) -> bool:
        """Whether the client took the message; otherwise it is kept, or the client is gone."""
        try:
            if self._link.send(_frames(message), client):
                return True
        except PeerGoneError:
            self._forget(client)
            return False
        if not isinstance(message, Ping):
            self._backlog.setdefault(client, deque()).append(message)
        return False

    def _forget(self, client: bytes) -> None:
        self.known.discard(client)
        self._backlog.pop(client, None)
        self._gone(client)


def _frames(message: Message) -> list[Buffer]:
    """Frames of a message; an answer that is larger than a client takes is the failure of its page alone."""
    try:
        return codec.encode(message)
    except ProtocolError as error:
        if not isinstance(message, PageResult | PageFailed):
            raise
        address = (message.job_id, message.page_index, message.request_id, message.attempt)
        return codec.encode(PageFailed(*address, error.code, str(error)))
