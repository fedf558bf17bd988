"""The clients of a simulated schedule: they submit, cancel, leave, swap encoders, send hints, and some read slowly."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from dotsctl.client.runtime.machine import RELEASE, RuntimeMachine
from dotsctl.client.runtime.peers import ClientPeers
from dotsctl.protocol import codec
from dotsctl.protocol.codec import Buffer
from dotsctl.protocol.link import PeerGoneError
from dotsctl.protocol.messages import (
    Busy,
    CancelJob,
    ClientHello,
    HintPage,
    Message,
    PageFailed,
    PageResult,
    Ping,
    Submit,
    SwapEncoder,
    Welcome,
)
from dotsctl.protocol.parts import ImageHeader, ImageKind, PageOptions
from dotsctl.tools.dev.chaos.hint_promises import HintPromises, hint_of
from dotsctl.tools.dev.chaos.schedule_plan import Clock, SchedulePlan, TrialEnd
from dotsctl.tools.dev.chaos.simulated_workers import TRIAL_OPTION

OPTIONS = PageOptions("text", None, None, None)
OPERATOR = b"operator"
"""The client that requests swaps."""
PING = codec.encode(Ping())
RETRY_S = 0.5
"""Pause after Busy."""
HINTED = 0.5
"""Share of pages whose hint is made while they are read."""
LATEST_HINT_S = 4.0
"""Longest time from a page to its hint: many come while their page is encoded or waits, some too late."""
OWN_HINTS = 0.9
"""Share of hints that are of a page which their client has submitted."""


@dataclass
class SimulatedClient:
    """One client and its pages."""

    name: bytes
    to_submit: list[int]
    window: int = 0
    """Pages that it may have submitted; 0: it was not welcomed yet."""
    outstanding: set[int] = field(default_factory=set)
    is_gone: bool = False
    left_at: float = float("inf")
    is_blocked: bool = False
    """Whether it reads no messages at present."""


class SimulatedLink:
    """The runtime's socket for clients: full where a client does not read."""

    def __init__(self, clients: dict[bytes, SimulatedClient], deliver: Callable[[bytes, Message], None]) -> None:
        self._clients, self._deliver = clients, deliver

    def send(self, frames: list[Buffer], to: bytes) -> bool:
        """Deliver a message to a client. Raises PeerGoneError for one that does not exist."""
        client = self._clients[to]
        if client.is_gone:
            raise PeerGoneError
        if not client.is_blocked and frames != PING:
            self._deliver(to, codec.decode(frames).message)
        return not client.is_blocked


class SimulatedClients:
    """All clients, and the runtime's view of them."""

    def __init__(
        self,
        plan: SchedulePlan,
        rng: random.Random,
        clock: Clock,
        machine: RuntimeMachine,
        seen: Callable[[bytes, Message], None],
        hints: HintPromises,
    ) -> None:
        """``seen`` is called with each message that a client reads, ``hints`` learns of each hint before it is sent."""
        self._plan, self._rng, self._clock, self._machine, self._seen = plan, rng, clock, machine, seen
        self._hints, self._hint_rng = hints, random.Random(repr(plan))
        self.clients = {
            name: SimulatedClient(name, list(range(number * plan.pages, (number + 1) * plan.pages)))
            for number, name in enumerate(b"client%d" % number for number in range(plan.clients))
        }
        self.clients[OPERATOR] = SimulatedClient(OPERATOR, [])
        self.peers = ClientPeers(SimulatedLink(self.clients, self._read), self._gone)  # type: ignore[arg-type]
        self.submitted: dict[int, bytes] = {}
        """The client of each page that was submitted."""
        self.cancelled: set[int] = set()
        self.swaps_asked = 0
        """Swaps that were requested."""

    def begin(self) -> None:
        """Plan all that clients do by time."""
        at, plan, rng = self._clock.at, self._plan, self._rng
        pages_of = [name for name in self.clients if name != OPERATOR]
        for name in pages_of:
            at(rng.uniform(0, 3), partial(self._send, name, ClientHello(1, RELEASE)))
        for number, kind in enumerate(plan.swaps):
            at(rng.uniform(0, 30), partial(self._swap, number, kind))
        for _ in range(plan.cancels):
            at(rng.uniform(0, 20), self._cancel_one)
        for name in pages_of[: plan.leaving]:
            at(rng.uniform(0, 20), partial(self._leave, name))
        for duration_s in plan.slow_reads:
            at(rng.uniform(0, 15), partial(self._block, rng.choice(pages_of), duration_s))

    def asks_for(self, page: int) -> int | None:
        """Return the place of the encoder that a page requests; where the coordinator may choose, most request none."""
        return None if self._plan.alternative and page % 7 else page % self._plan.encoders

    def left_since(self, now: float) -> list[bytes]:
        """Clients that left before a time."""
        return [client.name for client in self.clients.values() if client.left_at < now]

    def unblock_all(self) -> None:
        """Let all clients read what waits for them."""
        for client in self.clients.values():
            client.is_blocked = False
        self.peers.flush()

    def _send(self, name: bytes, message: Message, buffers: tuple[Buffer, ...] = ()) -> None:
        if not self.clients[name].is_gone:
            self.peers.known.add(name)
            self._machine.from_client(name, message, buffers, self._clock.now)

    def _submit_more(self, name: bytes) -> None:
        """Submit up to the window, as a client does."""
        client = self.clients[name]
        while client.to_submit and len(client.outstanding) < client.window and not client.is_gone:
            page = client.to_submit.pop(0)
            client.outstanding.add(page)
            self.submitted[page] = name
            size = self._rng.choice((28, 280, 1700))
            if self._plan.alternative:
                size = 1700 if page in self._plan.large else self._rng.choice((28, 280))
            image = ImageHeader(ImageKind.FILE, 1, size, size)
            streams = self._rng.random() < self._plan.streaming
            submit = Submit("job", page, str(page), (image,), OPTIONS, streams, self.asks_for(page))
            self._send(name, submit, (b"x",))
            if self._hint_rng.random() < HINTED:
                self._clock.at(self._hint_rng.uniform(0, LATEST_HINT_S), partial(self._hint, name, page))

    def _read(self, name: bytes, message: Message) -> None:
        """A client reads a message."""
        client = self.clients[name]
        self._seen(name, message)
        match message:
            case Welcome():
                client.window = message.window
            case PageResult() | PageFailed():
                client.outstanding.discard(message.page_index)
            case Busy():
                client.outstanding.discard(message.page_index)
                client.to_submit.insert(0, message.page_index)
            case _:
                return
        delay_s = RETRY_S if isinstance(message, Busy) else 0.0
        self._clock.at(delay_s, partial(self._submit_more, name))

    def _swap(self, number: int, kind: TrialEnd) -> None:
        options = {TRIAL_OPTION: kind, "number": str(number)}
        self.swaps_asked += 1
        self._send(OPERATOR, SwapEncoder("simulated", options, self._rng.randrange(self._plan.encoders)))

    def _hint(self, name: bytes, page: int) -> None:
        """A client sends the hint of a page, which may be answered, cancelled or in work; or of one that it lacks."""
        page = page if self._hint_rng.random() < OWN_HINTS else self._hint_rng.randrange(1000)
        if not self.clients[name].is_gone:
            self._hints.sending(name, "job", page)
            self._send(name, HintPage("job", page, hint_of(page)))

    def _cancel_one(self) -> None:
        if waiting := [page for client in self.clients.values() for page in sorted(client.outstanding)]:
            page = self._rng.choice(waiting)
            self.cancelled.add(page)
            self._send(self.submitted[page], CancelJob("job", page))

    def _leave(self, name: bytes) -> None:
        self.clients[name].is_gone, self.clients[name].left_at = True, self._clock.now

    def _block(self, name: bytes, duration_s: float) -> None:
        self.clients[name].is_blocked = True

        def unblock() -> None:
            self.clients[name].is_blocked = False

        self._clock.at(duration_s, unblock)

    def _gone(self, name: bytes) -> None:
        """The runtime noticed that a client is gone, or gave it up."""
        self._machine.client_gone(name, self._clock.now)
