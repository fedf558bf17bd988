"""The requests that the coordinator has accepted and not answered yet, and the order in which they are served. Pure."""

from collections import deque
from collections.abc import Container
from dataclasses import dataclass
from enum import IntEnum
from itertools import count

from dotsctl.client.runtime.seats import Seat
from dotsctl.protocol.codec import Buffer
from dotsctl.protocol.messages import Submit
from dotsctl.protocol.parts import Role

PIXELS_AN_EMBEDDING = 784


class State(IntEnum):
    """Where a request is; a message can only move it forward, a new attempt starts at the beginning."""

    QUEUED = 0
    ENCODING = 1
    """Dispatched to the encoder, which answers for it."""
    SENT = 2
    """On the way to the decoder; the encoder still answers for it."""
    RECEIVED = 3
    """In the decoder's process, which answers for it from here on."""
    DECODING = 4
    """In the decoder's batch; its credit is free."""


@dataclass
class Request:
    """One page with one task."""

    request_id: int
    client: bytes
    submit: Submit
    buffers: list[Buffer]
    accepted_at: float
    state: State = State.QUEUED
    attempt: int = 1
    dispatched_at: float | None = None
    """Of the first attempt; the page's deadline counts from here."""
    changed_at: float = 0.0
    suspect: bool = False
    """A worker died with this request in its compute; it runs alone until it is cleared."""
    solo_deaths: int = 0
    """Deaths of a worker during which this was the only request in flight."""
    stalls: int = 0
    embedding_bytes: int = 0
    """Of this attempt, as the encoder said; 0 before."""
    encoder_epoch: int = 0
    """Of the encoder that this attempt was dispatched to."""
    encoder_name: str = ""
    """Plugin and options of that encoder."""
    place: int | None = 0
    """Place of the encoder that it is to go to; none: it waits for the coordinator's choice."""
    is_beside_decoder: bool = False
    """Whether the decoder had work when this attempt was dispatched."""
    needs_first: bool = False
    """Whether another encoder than the first one failed with it, so that the first one is to read it."""

    def is_with_encoder(self, epoch: int) -> bool:
        """Whether the encoder of this epoch answers for the request."""
        return self.encoder_epoch == epoch and self.state in (State.ENCODING, State.SENT)

    @property
    def seat(self) -> Seat:
        """The seat of the encoder that it is to go to, or has gone to."""
        return Seat(Role.ENCODER, self.place or 0)

    @property
    def cost(self) -> int:
        """Embeddings that the page will about have; what fairness counts."""
        return max(1, sum(i.width * i.height for i in self.submit.images) // PIXELS_AN_EMBEDDING)

    @property
    def nbytes(self) -> int:
        """Of the images."""
        return sum(image.nbytes for image in self.submit.images)

    @property
    def address(self) -> tuple[str, int, int, int]:
        """The fields that every message to the client about the page begins with."""
        return (self.submit.job_id, self.submit.page_index, self.request_id, self.attempt)

    @property
    def key(self) -> tuple[bytes, str, int]:
        """What the client calls it."""
        return (self.client, self.submit.job_id, self.submit.page_index)


class Ledger:
    """All requests, with a queue for each client, and fair turns between the queues.

    Start-time fair queueing (Goyal, Vin and Cheng 1996): each client has a mark, the work that it was served; the
    lowest mark is next. So a client with big scans does not starve one with receipts, among clients that wait the
    served work never differs by more than the largest page, and a client alone gets everything. Who comes later
    begins at the mark that was served last: it neither waits for the past of others nor is it paid for its own.
    """

    def __init__(self, first_id: int = 1) -> None:
        """Begin empty; a random ``first_id`` keeps apart what is left of an earlier runtime, such as its embeddings."""
        self.requests: dict[int, Request] = {}
        self._by_key: dict[tuple[bytes, str, int], Request] = {}
        self._queues: dict[bytes, deque[Request]] = {}
        self._marks: dict[bytes, int] = {}
        """In embeddings; also of clients that have nothing to serve but are ahead of the others."""
        self._mark = 0
        """Of the client that was served last, before it was served."""
        self._suspects: deque[Request] = deque()
        self._ids = count(first_id)

    def find(self, key: tuple[bytes, str, int]) -> Request | None:
        """The request that a client calls so."""
        return self._by_key.get(key)

    def of_client(self, client: bytes) -> list[Request]:
        """All requests of a client, oldest first."""
        return [request for request in self.requests.values() if request.client == client]

    def in_flight(self) -> list[Request]:
        """Dispatched and not finished, oldest first."""
        return [request for request in self.requests.values() if request.state is not State.QUEUED]

    def queued(self) -> list[Request]:
        """Not dispatched, oldest first."""
        return [request for request in self.requests.values() if request.state is State.QUEUED]

    def outstanding(self) -> list[Request]:
        """Those that hold a credit: dispatched, and not yet in the decoder's batch."""
        return [r for r in self.requests.values() if State.QUEUED < r.state < State.DECODING]

    def add(self, client: bytes, submit: Submit, buffers: list[Buffer], now: float) -> Request:
        """Accept a request at the end of its client's queue."""
        request = Request(next(self._ids), client, submit, buffers, accepted_at=now, changed_at=now)
        request.place = submit.encoder or 0
        self.requests[request.request_id] = request
        self._by_key[request.key] = request
        self._queue_of(client).append(request)
        return request

    def remove(self, request: Request) -> None:
        """Forget a request in whatever state it is."""
        del self.requests[request.request_id]
        del self._by_key[request.key]
        if request.state is State.QUEUED:
            queue = self._suspects if request.suspect else self._queues[request.client]
            queue.remove(request)

    def requeue(self, request: Request, now: float) -> None:
        """Start a new attempt, before everything else of its client; a suspect waits for its turn alone."""
        request.state, request.attempt, request.changed_at = State.QUEUED, request.attempt + 1, now
        request.embedding_bytes = 0
        if request.suspect:
            self._suspects.append(request)
        else:
            self._queue_of(request.client).appendleft(request)

    def next_suspect(self) -> Request | None:
        """The suspect that is to run next; it stays queued."""
        return self._suspects[0] if self._suspects else None

    def take_suspect(self) -> Request:
        """Take the next suspect out of its queue."""
        return self._suspects.popleft()

    def take_next(self, places: Container[int | None]) -> Request | None:
        """Take the request whose turn it is out of its queue; only such as go to an encoder in one of the places."""
        waiting = [client for client, queue in self._queues.items() if queue]
        if not waiting:  # nobody is ahead of anybody any more
            self._queues.clear()
            self._marks.clear()
            self._mark = 0
            return None
        firsts = {c: first for c in waiting if (first := self._first(c, places)) is not None}
        if not firsts:
            return None
        client = min(firsts, key=self._marks.__getitem__)  # among equals the one that came first
        self._mark, request = self._marks[client], firsts[client]
        self._queues[client].remove(request)
        self._marks[client] += request.cost
        for idle in [c for c, queue in self._queues.items() if not queue and self._marks[c] <= self._mark]:
            del self._queues[idle], self._marks[idle]
        return request

    def _first(self, client: bytes, places: Container[int | None]) -> Request | None:
        return next((request for request in self._queues[client] if request.place in places), None)

    def _queue_of(self, client: bytes) -> deque[Request]:
        queue = self._queues.setdefault(client, deque())
        if not queue:
            self._marks[client] = max(self._mark, self._marks.get(client, 0))
        return queue
