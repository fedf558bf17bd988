"""The order in which waiting requests are served: fair turns between clients. Pure.

Start-time fair queueing (Goyal, Vin and Cheng 1996): each client has a mark, the work that it was served; the lowest
mark is next. So a client with big scans does not starve one with receipts, among clients that wait the served work
never differs by more than the largest page, and a client alone gets everything. A client that comes later begins at the
mark that was served last: it neither waits for the past of others nor is it paid for its own.

Every lane has a heap of the clients that wait in it. An entry whose client has another mark by now, or waits in this
lane no more, is dropped when it comes to the top; so a step costs the logarithm of the number of clients.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from dotsctl.client.runtime.request import Lane, Request

Entry = tuple[int, int, bytes]
"""Mark, number and name of a client."""


@dataclass
class _Client:
    """A client with waiting requests, or one that was served more than the others."""

    number: int
    """Among clients with equal marks the lowest number is next."""
    mark: int = 0
    """The work that it was served, in embeddings."""
    lanes: dict[Lane, deque[Request]] = field(default_factory=dict)
    """Waiting requests; no deque is empty."""
    listed: dict[Lane, int] = field(default_factory=dict)
    """The mark with which it was last pushed onto the heap of a lane."""


class FairQueue:
    """Waiting requests by client and lane."""

    def __init__(self) -> None:
        self._clients: dict[bytes, _Client] = {}
        self._heaps: dict[Lane, list[Entry]] = {}
        self._idle: list[Entry] = []
        """Clients without a waiting request."""
        self._waiting: dict[Lane, int] = {}
        """Number of waiting requests; no number is 0."""
        self._positions: dict[int, int] = {}
        """Place in its client's order by request."""
        self._mark = 0
        """The mark of the client that was served last, before it was served."""
        self._numbers, self._last, self._first = count(), count(), count(-1, -1)

    def __len__(self) -> int:
        return len(self._positions)

    @property
    def lanes(self) -> list[Lane]:
        """The lanes in which requests wait."""
        return list(self._waiting)

    def add(self, request: Request, *, first: bool = False) -> None:
        """Let a request wait at the end of its client's queue, or before everything else of its client."""
        client = self._clients.get(request.client)
        if client is None:
            client = self._clients[request.client] = _Client(next(self._numbers))
        if not client.lanes:
            client.mark = max(self._mark, client.mark)
        self._positions[request.request_id] = next(self._first if first else self._last)
        queue = client.lanes.setdefault(request.lane, deque())
        queue.appendleft(request) if first else queue.append(request)
        self._waiting[request.lane] = self._waiting.get(request.lane, 0) + 1
        self._list(request.client, client, request.lane)

    def remove(self, request: Request) -> None:
        """Take a request out, whether or not it is its turn."""
        client, lane = self._clients[request.client], request.lane
        del self._positions[request.request_id]
        client.lanes[lane].remove(request)
        if not client.lanes[lane]:
            del client.lanes[lane]
        self._waiting[lane] -= 1
        if not self._waiting[lane]:
            del self._waiting[lane]
        if not client.lanes:
            heappush(self._idle, (client.mark, client.number, request.client))

    def take(self, is_open: Callable[[Lane], bool]) -> Request | None:
        """Take the request whose turn it is out; only from the lanes that are open."""
        if not self._positions:  # no client is ahead of another any more
            self._forget_all()
            return None
        open_lanes = [lane for lane in self._waiting if is_open(lane)]
        tops = [top for lane in open_lanes if (top := self._top(lane)) is not None]
        if not tops:
            return None
        self._mark, _, name = min(tops)
        client = self._clients[name]
        firsts = [client.lanes[lane][0] for lane in open_lanes if lane in client.lanes]
        request = min(firsts, key=lambda first: self._positions[first.request_id])
        client.mark += request.cost
        self.remove(request)
        for lane in client.lanes:
            self._list(name, client, lane)
        self._forget_idle()
        return request

    def sort_anew(self, lane_of: Callable[[Request], Lane]) -> None:
        """Give every waiting request the lane that it belongs to now."""
        requests = [r for client in self._clients.values() for lane in client.lanes.values() for r in lane]
        self._heaps, self._waiting = {}, {}
        for client in self._clients.values():
            client.lanes, client.listed = {}, {}
        for request in sorted(requests, key=lambda request: self._positions[request.request_id]):
            request.lane = lane_of(request)
            client = self._clients[request.client]
            client.lanes.setdefault(request.lane, deque()).append(request)
            self._waiting[request.lane] = self._waiting.get(request.lane, 0) + 1
            self._list(request.client, client, request.lane)

    def _list(self, name: bytes, client: _Client, lane: Lane) -> None:
        """Have a client on the heap of a lane with its present mark."""
        if client.listed.get(lane) != client.mark:
            client.listed[lane] = client.mark
            heappush(self._heaps.setdefault(lane, []), (client.mark, client.number, name))

    def _top(self, lane: Lane) -> Entry | None:
        """The client of a lane that is to be served next."""
        heap = self._heaps[lane]
        while heap:
            mark, number, name = heap[0]
            client = self._clients.get(name)
            if client is not None and client.number == number and client.mark == mark:
                if lane in client.lanes:
                    return heap[0]
                client.listed.pop(lane, None)
            heappop(heap)
        return None

    def _forget_idle(self) -> None:
        """Forget the clients without a request that are not ahead of the others."""
        while self._idle and self._idle[0][0] <= self._mark:
            mark, number, name = heappop(self._idle)
            client = self._clients.get(name)
            if client is not None and (client.mark, client.number) == (mark, number) and not client.lanes:
                del self._clients[name]

    def _forget_all(self) -> None:
        for part in (self._clients, self._heaps, self._idle):
            part.clear()
        self._mark = 0
