"""The connected clients: sends to them without ever waiting for one that does not read."""

import logging
from collections.abc import Callable

from dotsctl.client.runtime.backlog import Backlog, frames_of
from dotsctl.protocol.codec import Buffer
from dotsctl.protocol.errors import ExitCode
from dotsctl.protocol.link import Link, PeerGoneError
from dotsctl.protocol.messages import Bye, Message, Ping

log = logging.getLogger(__name__)


class ClientPeers:
    """Clients by their identity on the router."""

    def __init__(self, link: Link, gone: Callable[[bytes], None]) -> None:
        """Send over ``link``; ``gone`` is called once for a client that disappeared or was dropped."""
        self._link, self._gone = link, gone
        self._backlog: dict[bytes, Backlog] = {}
        self.known: set[bytes] = set()

    @property
    def lagging(self) -> bool:
        """Return whether some client has messages waiting."""
        return bool(self._backlog)

    def send(self, client: bytes, message: Message) -> None:
        """Send, or keep for later when the client does not read."""
        self.known.add(client)
        backlog = self._backlog.get(client)
        if backlog is None:
            if not self._passes(client, frames_of(message)) and client in self.known and not isinstance(message, Ping):
                self._backlog[client] = Backlog()
                self._backlog[client].append(message)
        elif not isinstance(message, Ping):
            backlog.append(message)
            if backlog.is_too_long:
                log.warning("client %r does not read its messages: dropped", client)
                self._gone(client)
                self._backlog[client] = Backlog()
                bye = Bye("the runtime dropped this client because it did not read its messages", ExitCode.OK)
                self._backlog[client].append(bye)

    def ping_all(self) -> None:
        """Find the clients that are gone: sending to one of them fails."""
        for client in list(self.known):
            self.send(client, Ping())

    def flush(self) -> None:
        """Send what clients could not take before."""
        for client, backlog in list(self._backlog.items()):
            while backlog and self._passes(client, backlog.head()):
                backlog.drop_head()
            if not backlog:
                self._backlog.pop(client, None)

    def _passes(self, client: bytes, frames: list[Buffer]) -> bool:
        """Return whether the client takes the message now; one that is gone takes none, and is forgotten."""
        try:
            return self._link.send(frames, client)
        except PeerGoneError:
            self._forget(client)
            return False

    def _forget(self, client: bytes) -> None:
        self.known.discard(client)
        self._backlog.pop(client, None)
        self._gone(client)
