"""The requests that the coordinator has accepted and not answered yet. Pure."""

from collections import deque
from collections.abc import Callable, Container
from itertools import chain, count

from dotsctl.client.runtime.fair_queue import FairQueue
from dotsctl.client.runtime.request import Lane, Request, RequestState
from dotsctl.protocol.codec import Buffer
from dotsctl.protocol.messages import Submit


def lane_of_encoder(request: Request) -> Lane:
    """The lane of a request that goes to the encoder that it names, or to the first one."""
    return Lane(request.submit.encoder or 0)


class Ledger:
    """All requests, found by number, state and client; those that wait have a queue for each client.

    The states are kept by the requests alone: each of them moves itself from one part of the index to another.
    """

    def __init__(self, first_id: int = 1) -> None:
        """Begin empty; a random ``first_id`` keeps apart what is left of an earlier runtime, such as its embeddings."""
        self.requests: dict[int, Request] = {}
        self.held_bytes = 0
        """Bytes of the images of all requests."""
        self.num_streaming = 0
        """Requests whose client gets the text while it is decoded."""
        self.encoder_indexes: dict[Lane, int | None] = {}
        """Indexes of the encoders that the requests of a lane go to, where the coordinator chooses; none: they wait."""
        self.lane_of: Callable[[Request], Lane] = lane_of_encoder
        self._by_key: dict[tuple[bytes, str, int], Request] = {}
        self._by_client: dict[bytes, dict[int, Request]] = {}
        self._by_state: dict[RequestState, dict[int, Request]] = {state: {} for state in RequestState}
        self._queue = FairQueue()
        self._suspects: deque[Request] = deque()
        self._ids = count(first_id)

    def new_id(self) -> int:
        """Return the number of a new request."""
        return next(self._ids)

    # --- queries -----------------------------------------------------------------------------------------------------

    def find(self, key: tuple[bytes, str, int]) -> Request | None:
        """The request that a client calls so."""
        return self._by_key.get(key)

    def of_client(self, client: bytes) -> list[Request]:
        """All requests of a client, oldest first."""
        return list(self._by_client.get(client, {}).values())

    def count_of_client(self, client: bytes) -> int:
        """Number of requests of a client."""
        return len(self._by_client.get(client, {}))

    def count(self, state: RequestState) -> int:
        """Number of requests in a state."""
        return len(self._by_state[state])

    def in_state(self, *states: RequestState) -> list[Request]:
        """The requests in one of these states, oldest first."""
        found = chain.from_iterable(self._by_state[state].values() for state in states)
        return sorted(found, key=lambda request: request.request_id)

    def in_flight(self) -> list[Request]:
        """Dispatched and not finished, oldest first."""
        return self.in_state(RequestState.ENCODING, RequestState.SENT, RequestState.RECEIVED, RequestState.DECODING)

    def outstanding(self) -> list[Request]:
        """Return the requests that hold a credit: dispatched, and not yet in the decoder's batch."""
        return self.in_state(RequestState.ENCODING, RequestState.SENT, RequestState.RECEIVED)

    def queued(self, lane: Lane) -> list[Request]:
        """Return the requests of one lane that are not dispatched, oldest first."""
        return [request for request in self.in_state(RequestState.QUEUED) if request.lane == lane]

    @property
    def lanes(self) -> list[Lane]:
        """The lanes in which requests wait."""
        return list(dict.fromkeys([*self._queue.lanes, *(suspect.lane for suspect in self._suspects)]))

    def encoder_index_of(self, lane: Lane) -> int | None:
        """The index of the encoder that the requests of a lane go to; none: they wait for the coordinator's choice."""
        return self.encoder_indexes.get(lane, lane.encoder or 0)

    def needs(self, index: int) -> bool:
        """Return whether a request is with the encoder in a slot, or waits for it."""
        is_sent = any(request.encoder_index == index for request in self.in_flight())
        return is_sent or any(self.encoder_index_of(lane) == index for lane in self.lanes)

    # --- changes -----------------------------------------------------------------------------------------------------

    def add(self, client: bytes, submit: Submit, buffers: list[Buffer], now: float) -> Request:
        """Accept a request at the end of its client's queue."""
        request = Request(next(self._ids), client, submit, buffers, accepted_at=now, changed_at=now)
        self.requests[request.request_id] = request
        self._by_key[request.key] = request
        self._by_client.setdefault(client, {})[request.request_id] = request
        self._by_state[request.state][request.request_id] = request
        request.by_state = self._by_state
        self.held_bytes += request.nbytes
        self.num_streaming += submit.stream
        request.lane = self.lane_of(request)
        self._queue.add(request)
        return request

    def remove(self, request: Request) -> None:
        """Forget a request in whatever state it is."""
        del self.requests[request.request_id]
        del self._by_key[request.key]
        del self._by_client[request.client][request.request_id]
        if not self._by_client[request.client]:
            del self._by_client[request.client]
        del self._by_state[request.state][request.request_id]
        request.by_state = None
        self.held_bytes -= request.nbytes
        self.num_streaming -= request.submit.stream
        if request.state is not RequestState.QUEUED:
            return
        if request.suspect:
            self._suspects.remove(request)
        else:
            self._queue.remove(request)

    def requeue(self, request: Request, now: float) -> None:
        """Start a new attempt, before everything else of its client; a suspect waits for its turn alone."""
        request.state, request.attempt, request.changed_at = RequestState.QUEUED, request.attempt + 1, now
        request.embedding_bytes = 0
        request.lane = self.lane_of(request)
        if request.suspect:
            self._suspects.append(request)
        else:
            self._queue.add(request, first=True)

    def sort_anew(self) -> None:
        """Give all requests their lanes again; to be called when what ``lane_of`` depends on has changed."""
        self.encoder_indexes.clear()
        self._queue.sort_anew(self.lane_of)
        for request in (*self._suspects, *self.in_flight()):
            request.lane = self.lane_of(request)

    # --- turns -------------------------------------------------------------------------------------------------------

    def next_suspect(self) -> Request | None:
        """The suspect that is to run next; it stays queued."""
        return self._suspects[0] if self._suspects else None

    def take_suspect(self) -> Request:
        """Take the next suspect out of its queue."""
        return self._sent(self._suspects.popleft())

    def take_next(self, indexes: Container[int | None]) -> Request | None:
        """Take the request whose turn it is out of its queue; only such as go to an encoder in one of the slots."""
        request = self._queue.take(lambda lane: self.encoder_index_of(lane) in indexes)
        return None if request is None else self._sent(request)

    def _sent(self, request: Request) -> Request:
        request.encoder_index = self.encoder_index_of(request.lane) or 0
        return request
