"""The ledger of requests: fair turns between clients, and queues that keep their order and lose nothing."""

from collections import Counter
from dataclasses import replace

import pytest
from dotsctl.client.runtime.ledger import Ledger
from dotsctl.client.runtime.request import Request, RequestState
from dotsctl.protocol.messages import Submit
from dotsctl.protocol.parts import ImageHeader, ImageKind, PageOptions
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

OPTIONS = PageOptions("text", None, None, None)
CLIENTS = [b"a", b"b", b"c", b"d"]


def page(index: int, cost: int = 1, job: str = "job") -> Submit:
    """A page that will have ``cost`` embeddings."""
    return Submit(job, index, "", (ImageHeader(ImageKind.FILE, 1, 28 * cost, 28),), OPTIONS, False)


def fill(ledger: Ledger, costs: dict[bytes, list[int]]) -> None:
    for client, pages in costs.items():
        for index, cost in enumerate(pages):
            ledger.add(client, page(index, cost), [], 0.0)


def take(ledger: Ledger) -> Request:
    request = ledger.take_next({0})
    assert request is not None
    request.state = RequestState.ENCODING
    return request


def test_the_cost_of_a_page_is_its_number_of_embeddings() -> None:
    ledger = Ledger()
    assert ledger.add(b"a", page(0, 5), [], 0.0).cost == 5
    tiny = Submit("job", 1, "", (ImageHeader(ImageKind.FILE, 1, 1, 1),), OPTIONS, False)
    assert ledger.add(b"a", tiny, [], 0.0).cost == 1


def test_pages_of_one_size_are_taken_in_turns() -> None:
    ledger = Ledger()
    fill(ledger, dict.fromkeys(CLIENTS[:3], [4] * 3))
    assert b"".join(take(ledger).client for _ in range(9)) == b"abcabcabc"
    assert ledger.take_next({0}) is None


def test_a_client_with_small_pages_gets_more_of_them() -> None:
    ledger = Ledger()
    fill(ledger, {b"a": [10] * 4, b"b": [1] * 40})
    served = Counter(take(ledger).client for _ in range(22))
    assert served == {b"a": 2, b"b": 20}


def test_a_client_that_alternates_sizes_gets_no_more_than_its_share() -> None:
    """A quantum taken from the pages that happen to be first would give the second client twice the work."""
    ledger = Ledger()
    fill(ledger, {b"a": [50, 1] * 40, b"b": ([50] + [1] * 50) * 20})
    served: Counter[bytes] = Counter()
    for _ in range(600):
        request = take(ledger)
        served[request.client] += request.cost
    assert abs(served[b"a"] - served[b"b"]) <= 50


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=30), min_size=2, max_size=4))
def test_among_clients_that_wait_the_served_work_differs_by_one_page_at_most(costs: list[list[int]]) -> None:
    ledger = Ledger()
    fill(ledger, dict(zip(CLIENTS, costs, strict=False)))
    left = {client: len(pages) for client, pages in zip(CLIENTS, costs, strict=False)}
    served = dict.fromkeys(left, 0)
    largest = max(map(max, costs))
    while all(left.values()):
        request = take(ledger)
        left[request.client] -= 1
        served[request.client] += request.cost
        assert max(served.values()) - min(served.values()) <= largest


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 200), st.integers(2, 60))
def test_a_client_that_comes_late_waits_for_one_page_of_each_other_one(past: int, largest: int) -> None:
    ledger = Ledger()
    fill(ledger, {b"a": [largest] * 300, b"b": [largest // 2] * 600})
    for _ in range(past):
        take(ledger)
    ledger.add(b"late", page(0, largest), [], 0.0)
    order = [take(ledger).client for _ in range(4)]
    assert b"late" in order
    assert Counter(order[: order.index(b"late")])[b"a"] <= 1


def test_a_client_that_keeps_one_page_waiting_gets_no_more_than_its_share() -> None:
    """Its queue is empty after each of its turns; that must not make it a newcomer."""
    ledger = Ledger()
    fill(ledger, {b"a": [10] * 100})
    served: Counter[bytes] = Counter()
    for index in range(60):
        if not any(r.state is RequestState.QUEUED for r in ledger.of_client(b"b")):
            ledger.add(b"b", page(index, 30), [], 0.0)
        request = take(ledger)
        served[request.client] += request.cost
        ledger.remove(request)
    assert abs(served[b"a"] - served[b"b"]) <= 30


@pytest.mark.parametrize("others", [0, 200])
def test_clients_that_are_served_and_gone_leave_nothing_behind(others: int) -> None:
    ledger = Ledger()
    fill(ledger, {b"a": [4] * others})
    for number in range(100):
        ledger.add(b"client %d" % number, page(0, 7), [], 0.0)
        request = take(ledger)
        while request.client == b"a":
            request = take(ledger)
        ledger.remove(request)
        assert ledger.take_next({0}) is None or others
    assert len(ledger.of_client(b"a")) == len(ledger.requests)
    assert len(ledger._queue._clients) <= 3
    assert sum(map(len, ledger._queue._heaps.values())) <= 6
    assert ledger._by_key.keys() == {request.key for request in ledger.requests.values()}


def test_a_new_attempt_comes_before_everything_else_of_its_client() -> None:
    ledger = Ledger()
    fill(ledger, {b"a": [1] * 4})
    first, second = take(ledger), take(ledger)
    for request in (second, first):  # the newest first, as the coordinator does it
        ledger.requeue(request, 5.0)
    assert [take(ledger).submit.page_index for _ in range(4)] == [0, 1, 2, 3]
    assert (first.attempt, first.changed_at) == (2, 5.0)


def test_a_suspect_waits_apart_from_its_client() -> None:
    ledger = Ledger()
    fill(ledger, {b"a": [1] * 2})
    request = take(ledger)
    request.suspect = True
    ledger.requeue(request, 0.0)
    assert ledger.next_suspect() is request
    assert take(ledger).submit.page_index == 1
    assert ledger.take_next({0}) is None
    assert ledger.take_suspect() is request
    assert ledger.next_suspect() is None


def test_a_page_for_an_encoder_that_takes_none_waits_and_holds_up_no_other() -> None:
    ledger = Ledger()
    waiting = ledger.add(b"a", replace(page(0), encoder=1), [], 0.0)
    fill(ledger, {b"b": [1] * 2})
    behind = ledger.add(b"a", page(1), [], 0.0)
    taken = [ledger.take_next({0}) for _ in range(4)]
    assert taken[-1] is None and waiting not in taken and behind in taken
    assert sum(request is not None for request in taken) == 3
    assert ledger.take_next({0, 1}) is waiting


@pytest.mark.parametrize("suspect", [False, True])
def test_a_removed_request_is_not_taken_any_more(suspect: bool) -> None:
    ledger = Ledger()
    fill(ledger, {b"a": [1]})
    request = take(ledger)
    request.suspect = suspect
    ledger.requeue(request, 0.0)
    ledger.remove(request)
    assert ledger.take_next({0}) is None and ledger.next_suspect() is None
    assert ledger.find(request.key) is None and ledger.of_client(b"a") == []


class LedgerMachine(RuleBasedStateMachine):
    """Any order of adding, taking, retrying and removing, against plain lists."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.waiting: dict[bytes, list[Request]] = {client: [] for client in CLIENTS}
        self.suspects: list[Request] = []
        self.flying: list[Request] = []
        self.count = 0

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), state=st.sampled_from(list(RequestState)[1:]))
    def move(self, data: st.DataObject, state: RequestState) -> None:
        data.draw(st.sampled_from(self.flying)).state = state

    @rule(client=st.sampled_from(CLIENTS), cost=st.integers(1, 30))
    def add(self, client: bytes, cost: int) -> None:
        self.count += 1
        self.waiting[client].append(self.ledger.add(client, page(self.count, cost), [], 0.0))

    @rule()
    def take(self) -> None:
        request = self.ledger.take_next({0})
        if request is None:
            assert not any(self.waiting.values())
            return
        assert self.waiting[request.client].pop(0) is request
        request.state = RequestState.ENCODING
        self.flying.append(request)

    @precondition(lambda self: self.suspects)
    @rule()
    def take_suspect(self) -> None:
        request = self.ledger.take_suspect()
        assert self.suspects.pop(0) is request
        request.state = RequestState.ENCODING
        self.flying.append(request)

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), suspect=st.booleans())
    def requeue(self, data: st.DataObject, suspect: bool) -> None:
        request = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        request.suspect = suspect
        attempt = request.attempt
        self.ledger.requeue(request, 0.0)
        assert (request.state, request.attempt) == (RequestState.QUEUED, attempt + 1)
        if suspect:
            self.suspects.append(request)
        else:
            self.waiting[request.client].insert(0, request)

    @precondition(lambda self: self.ledger.requests)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(list(self.ledger.requests.values())))
        self.ledger.remove(request)
        for part in (*self.waiting.values(), self.suspects, self.flying):
            if request in part:
                part.remove(request)
        assert self.ledger.find(request.key) is None

    @invariant()
    def everything_is_there(self) -> None:
        known = [*self.flying, *self.suspects, *(request for queue in self.waiting.values() for request in queue)]
        assert sorted(r.request_id for r in known) == sorted(self.ledger.requests)
        assert all(self.ledger.find(request.key) is request for request in known)
        assert {r.request_id for r in self.ledger.in_flight()} == {r.request_id for r in self.flying}
        assert self.ledger.next_suspect() is (self.suspects[0] if self.suspects else None)

    @invariant()
    def the_index_agrees_with_the_states(self) -> None:
        requests = self.ledger.requests.values()
        for state in RequestState:
            assert self.ledger.in_state(state) == [r for r in requests if r.state is state]
        for client in CLIENTS:
            assert self.ledger.of_client(client) == [r for r in requests if r.client == client]
        assert self.ledger.held_bytes == sum(r.nbytes for r in requests)


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
