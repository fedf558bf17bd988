"""The promises of the runtime about pages, checked in a simulated schedule after every turn; see ``simulation.py``.

The checks count by themselves, from messages and states, so that a runtime that counts wrongly is noticed.
"""

from collections import Counter
from dataclasses import dataclass, field

from dotsctl.client.runtime.admission import BYTES_A_VALUE
from dotsctl.client.runtime.delivery import ToWorker
from dotsctl.client.runtime.machine import RuntimeMachine
from dotsctl.client.runtime.request import Request, RequestState
from dotsctl.client.runtime.worker_table import WorkerState
from dotsctl.protocol.machine.measured_costs import Preference
from dotsctl.protocol.messages import Encode
from dotsctl.protocol.parts import Role
from dotsctl.tools.dev.chaos.schedule_plan import LONG_DELAY_S, Alternative, SchedulePlan
from dotsctl.tools.dev.chaos.simulated_workers import (
    ALTERNATIVE_SLOT,
    WIDTH,
    SimulatedWorkers,
)

LATE_S = 0.5
"""The time after which what is done at once has surely been done."""
LONG_TURN_S = 1000.0
"""Simulated time between two turns from which on the machine slept."""
INDEX_TURNS = 10
"""Turns between two comparisons of the ledger's index with the states of the requests."""


class BrokenPromise(AssertionError):
    """The runtime did what it must never do."""


@dataclass
class PagePromises:
    """Pages are dispatched as promised."""

    plan: SchedulePlan
    machine: RuntimeMachine
    workers: SimulatedWorkers
    with_alternative: set[int] = field(default_factory=set)
    """Requests that went to the alternative last, without having requested it."""
    failed_by_alternative: set[int] = field(default_factory=set)
    """Requests that the alternative must not get again."""
    _in_vain_since: dict[tuple[Role, int], float] = field(default_factory=dict)
    """The decoders that wait for more pages in vain, and since when."""
    _checked_at: float = 0.0
    _turns: int = 0
    _order: list[int] = field(default_factory=list)
    """Requests in the order in which they were dispatched."""

    def after_turn(self) -> None:
        """Check what must hold after every turn of the loop."""
        core = self.machine.core
        requests = core.ledger.requests.values()
        outstanding = [r for r in requests if RequestState.QUEUED < r.state < RequestState.DECODING]
        for index, number in Counter(r.encoder_index for r in outstanding).items():
            if number > core.limits.credits:
                raise BrokenPromise(f"{number} pages of encoder {index} with {core.limits.credits} credits")
        self._check_bytes(outstanding)
        in_flight = [r for r in requests if r.state is not RequestState.QUEUED]
        suspects = [r for r in in_flight if r.suspect]
        if suspects and len(in_flight) > 1:
            raise BrokenPromise(f"request {suspects[0].request_id} is a suspect and does not run alone")
        may_suspect = self.workers.real_deaths or self.plan.hungry or self.plan.loss or len(self.plan.gpu_faults) > 1
        if suspects and not may_suspect:
            raise BrokenPromise(f"request {suspects[0].request_id} is a suspect although no worker died of a page")
        self._turns += 1
        if self._turns % INDEX_TURNS == 0:
            self._check_index()
        for request in in_flight:
            is_with_encoder = request.state in (RequestState.ENCODING, RequestState.SENT)
            row = self.machine.table.find(Role.ENCODER, request.encoder_epoch)
            if is_with_encoder and (row is None or row.ready is None):
                raise BrokenPromise(f"request {request.request_id} waits for an encoder that is gone")
        self._check_gathering(in_flight)

    def _check_gathering(self, in_flight: list[Request]) -> None:
        """A decoder waits for more pages only while some are coming and no client streams, and never for long.

        Where messages are lost or overtake each other, the last of these alone holds.
        """
        now = self.workers.now
        if now - self._checked_at > LONG_TURN_S:  # the machine slept
            self._in_vain_since.clear()
        self._checked_at = now
        with_encoder = [r for r in in_flight if r.state in (RequestState.ENCODING, RequestState.SENT)]
        is_in_vain = not with_encoder or any(request.submit.stream for request in in_flight)
        is_orderly = not self.plan.loss and not self.plan.reorder
        for process in self.workers.processes.values():
            if process.gathers_until - now > self.machine.config.stall_timeout_s:
                raise BrokenPromise(f"{process.slot} is to wait for more pages for {process.gathers_until - now:.0f} s")
            is_waiting = process.alive and process.stopped_at is None and bool(process.gathered)
            if not (is_waiting and is_in_vain and is_orderly):
                self._in_vain_since.pop(process.name, None)
            elif now - self._in_vain_since.setdefault(process.name, now) > self.plan.delay_s + LATE_S:
                why = "a client waits for its text" if with_encoder else "nothing more is coming"
                raise BrokenPromise(f"{process.slot} waits for more pages although {why}")

    def _check_bytes(self, outstanding: list[Request]) -> None:
        """All but the request that was dispatched last are below the limit of bytes."""
        limit = self.plan.credit_bytes
        before = sorted(outstanding, key=lambda r: self._order.index(r.request_id))[:-1]
        total = sum(r.embedding_bytes or r.cost * WIDTH * BYTES_A_VALUE for r in before)
        if before and total >= limit:
            raise BrokenPromise(
                f"a page is dispatched in addition to {total} bytes of others; {limit} may be outstanding"
            )

    def _check_index(self) -> None:
        ledger = self.machine.core.ledger
        requests = ledger.requests.values()
        for state in RequestState:
            if ledger.in_state(state) != [request for request in requests if request.state is state]:
                raise BrokenPromise(f"the index of requests that are {state.name} is wrong")
        for client in {request.client for request in requests}:
            if ledger.of_client(client) != [request for request in requests if request.client == client]:
                raise BrokenPromise(f"the index of requests of {client!r} is wrong")

    def encode(self, command: ToWorker) -> None:
        """A page goes to an encoder."""
        if not isinstance(command.message, Encode):
            return
        request_id = command.message.request_id
        if request_id in self._order:
            self._order.remove(request_id)
        self._order.append(request_id)
        process = self.workers.processes.get((command.role, command.epoch))
        request = self.machine.core.ledger.requests.get(request_id)
        if process is None or request is None:
            return
        submit = request.submit
        decoder = self.workers.processes.get((Role.DECODER, int(command.message.data_endpoint)))
        for half in (process, decoder) if self.plan.reads_pages else ():
            if half is not None and not half.has_read:
                raise BrokenPromise(f"request {request_id} goes to {half.slot} that has not read the readiness page")
        if submit.encoder is not None and process.slot.index != submit.encoder:
            raise BrokenPromise(f"request {request_id} requests encoder {submit.encoder} and goes to {process.slot}")
        self.with_alternative.discard(request_id)
        if submit.encoder is not None or process.slot != ALTERNATIVE_SLOT or self.plan.alternative is None:
            return
        self.with_alternative.add(request_id)
        if submit.page_index in self.plan.large:
            raise BrokenPromise(f"page {submit.page_index} does not fit the alternative and goes to it")
        if request_id in self.failed_by_alternative:
            raise BrokenPromise(f"the alternative failed with request {request_id} and gets it again")
        if self.machine.table.in_slot(process.slot).state is WorkerState.FATAL:
            raise BrokenPromise(f"request {request_id} goes to an encoder that is given up")

    def compared(self, preference: Preference) -> None:
        """Check the comparison of two encoders; where messages take longer than pages, its figures have no meaning."""
        is_measurable = self.plan.delay_s < LONG_DELAY_S
        if is_measurable and preference.is_faster and self.plan.alternative is Alternative.SLOW:
            raise BrokenPromise(f"an encoder that takes ten times as long is preferred: {preference}")
