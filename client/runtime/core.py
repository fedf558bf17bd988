"""The coordinator: a state machine without sockets, threads or clock. Events go in with the time, commands come out.

It owns the ledger of requests and decides everything: whose page is next (fair turns between clients), whether it
may go now (credits), who answers for it (custody moves when the receiver acknowledges), what happens when a worker
dies (new attempt; the pages in its compute run alone until they are cleared) and when to give up. ``SPEC.md`` names
the rules; ``tests/unit/test_core_simulation.py`` runs it through thousands of disordered schedules.
"""

from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field, replace

from dotsctl.client.runtime.crash_attribution import SOLO_DEATHS
from dotsctl.client.runtime.delivery import CoreCommand, Kill, ToClient, ToWorker
from dotsctl.client.runtime.device_sharing import DeviceSharing
from dotsctl.client.runtime.dispatch import Dispatcher
from dotsctl.client.runtime.encoder_choice import EncoderChoice
from dotsctl.client.runtime.ledger import Ledger
from dotsctl.client.runtime.outcomes import Outcomes
from dotsctl.client.runtime.request import Request, RequestState
from dotsctl.client.runtime.timeouts import Timeouts
from dotsctl.client.runtime.views import Counters, Limits, has_work, in_compute, lost_with
from dotsctl.client.runtime.worker_slots import DECODER, WorkerSlot
from dotsctl.client.runtime.worker_table import Worker, WorkerState, WorkerTable
from dotsctl.protocol.codec import Buffer
from dotsctl.protocol.errors import ErrorCode
from dotsctl.protocol.messages import (
    Accepted,
    Blank,
    Busy,
    CancelJob,
    CancelRequest,
    Consumed,
    Decoded,
    Done,
    Dropped,
    Encoded,
    HintPage,
    HintRequest,
    Message,
    PageFailed,
    Ready,
    Received,
    Refused,
    RequestFailed,
    Submit,
)
from dotsctl.protocol.parts import Role

ALONE_GPU_FAULTS, MAX_GPU_FAULTS = 2, 3
"""Faults of the GPU during a page after which it runs alone, and after which it is given up."""
MAX_HELD_BYTES = 512 * 1024 * 1024
"""Image bytes above which clients that already have a page in the ledger must wait."""


@dataclass
class Coordinator:
    """Feed it events in the order of their ``now``; take the commands after each."""

    limits: Limits
    encoder_names: list[str]
    """Plugin and options of each encoder; pages go to the first unless they name another."""
    decoder_name: str
    ledger: Ledger = field(default_factory=Ledger)
    auto: InitVar[EncoderChoice | None] = None
    """The choice between the encoders for pages that name none; none: these go to the first one."""
    choice: EncoderChoice = field(init=False)
    table: WorkerTable = field(init=False)
    """All workers; the coordinator uses those that are ready."""
    stopping: str = ""
    """The reason why no new page is taken; empty while pages are taken."""
    outcomes: Outcomes = field(init=False)
    _sharing: DeviceSharing = field(init=False)
    _dispatcher: Dispatcher = field(init=False)
    _capacity: int = 1
    """Pages in the decoder's batch; remembered while a decoder restarts."""
    _commands: list[CoreCommand] = field(default_factory=list)
    _accounted_at: float = 0.0
    _timeouts: Timeouts = field(init=False)

    def __post_init__(self, auto: EncoderChoice | None) -> None:
        self._timeouts = Timeouts(self.limits)
        self.choice = auto or EncoderChoice()
        self.choice.names = self.encoder_names
        self.table = WorkerTable(len(self.encoder_names))
        self.ledger.lane_of = self.choice.lane_of
        self.outcomes = Outcomes(self.ledger, self.table, self.choice, self.decoder_name, self._commands)
        self._sharing = DeviceSharing(self.limits, self.ledger, self.table)
        self._dispatcher = Dispatcher(self.limits, self.outcomes)

    # --- queries of the loop -----------------------------------------------------------------------------------------

    def take_commands(self) -> list[CoreCommand]:
        """Commands since the last call, in the order in which they are to be carried out."""
        commands = [*self._commands, *self.choice.commands]
        self._commands.clear()
        self.choice.commands.clear()
        return commands

    @property
    def counters(self) -> Counters:
        """Return the counters since the start."""
        return self.outcomes.counters

    @property
    def gpu_faults(self) -> int:
        """Return the most faults of the GPU during one of the pages that wait."""
        return max((request.gpu_faults for request in self.ledger.requests.values()), default=0)

    @property
    def workers(self) -> dict[WorkerSlot, Worker]:
        """The ready workers, which new pages go to."""
        return self.table.ready

    @property
    def all_ready(self) -> bool:
        """Return whether pages can be read: the decoder and the encoders that are needed for that are ready."""
        workers = self.workers
        return DECODER in workers and self.choice.is_complete(len(workers) - 1)

    @property
    def window(self) -> int:
        """Pages that one client may have in the ledger: enough to fill the decoder's batch and the credits."""
        return self._capacity + self.limits.credits * len(self.encoder_names)

    # --- events of clients -------------------------------------------------------------------------------------------

    def submit(self, client: bytes, message: Submit, buffers: Sequence[Buffer], now: float) -> None:
        """Handle a client's request for a page."""
        self._account(now)
        known = self.ledger.find((client, message.job_id, message.page_index))
        mine = self.ledger.count_of_client(client)
        nbytes = sum(image.nbytes for image in message.images)
        if known and known.submit.digest == message.digest:
            self._accept(known)
        elif known:
            text = f"page {message.page_index} of job {message.job_id} was submitted before with other bytes"
            self._to_client(client, Refused(ErrorCode.CONFLICT, text))
        elif self.stopping:
            failure = PageFailed(message.job_id, message.page_index, 0, 0, ErrorCode.CANCELLED, self.stopping)
            self._to_client(client, failure)
        elif (message.encoder or 0) >= len(self.encoder_names):
            text = f"page {message.page_index} is for encoder {message.encoder}; there are {len(self.encoder_names)}"
            self._to_client(client, Refused(ErrorCode.SCHEMA, text))
        elif mine >= self.window or (mine and self.ledger.held_bytes + nbytes > MAX_HELD_BYTES):
            self._to_client(client, Busy(message.job_id, message.page_index, self.window))
        else:
            self._accept(self.ledger.add(client, message, list(buffers), now))
            self._dispatch(now)

    def cancel(self, client: bytes, message: CancelJob, now: float) -> None:
        """A client takes back a job or one page of it."""
        self._account(now)
        for request in self.ledger.of_client(client):
            same_page = message.page_index in (None, request.submit.page_index)
            if request.submit.job_id == message.job_id and same_page:
                self.outcomes.cancel(request)
                self.outcomes.fail(request, ErrorCode.CANCELLED, "cancelled by the client")
        self._dispatch(now)

    def hint(self, client: bytes, message: HintPage, now: float) -> None:
        """A client has the hint of a page that it submitted before: for the present attempt, and for further ones."""
        self._account(now)
        request = self.ledger.find((client, message.job_id, message.page_index))
        if request is None:
            return
        options = replace(request.submit.options, hint=message.hint)
        request.submit = replace(request.submit, options=options)
        decoder = self.workers.get(DECODER)
        if decoder is not None and RequestState.QUEUED < request.state < RequestState.DECODING:
            late = HintRequest(request.request_id, request.attempt, message.hint)
            self._to_worker(Role.DECODER, decoder.epoch, late)

    def client_gone(self, client: bytes, now: float) -> None:
        """Handle the end of a client; its pages are cancelled."""
        self._account(now)
        for request in self.ledger.of_client(client):
            self.outcomes.cancel(request)
            self.ledger.remove(request)
            self.outcomes.crashes.gone(request)
            self.counters.cancelled += 1
        self._dispatch(now)

    def stop(self, reason: str, code: ErrorCode | None, now: float) -> None:
        """Take no new pages; with a ``code`` those in the ledger fail too."""
        self._account(now)
        self.stopping = self.stopping or reason
        if code is not None:
            for request in list(self.ledger.requests.values()):
                self.outcomes.cancel(request)
                self.outcomes.fail(request, code, reason)

    # --- events of workers -------------------------------------------------------------------------------------------

    def worker_ready(self, slot: WorkerSlot, epoch: int, ready: Ready, now: float) -> None:
        """The worker of a slot has loaded its model."""
        self._account(now)
        if (worker := self.table.find(slot.role, epoch)) is None:
            return
        worker.state, worker.was_ready, worker.ready = WorkerState.READY, True, ready
        worker.since, worker.progress_at, worker.busy_s = now, now, 0.0
        worker.name = self.decoder_name if slot == DECODER else self.encoder_names[slot.index]
        if slot == DECODER:
            self._capacity = ready.capacity
        else:
            self.choice.ready(slot.index, ready.buckets, now)
            self.ledger.sort_anew()
        self._dispatch(now)

    def encoder_swapped(self, slot: WorkerSlot, epoch: int, ready: Ready, name: str, now: float) -> None:
        """The encoder on trial is ready: new pages go to it, the old one finishes what it has."""
        self._account(now)
        if (worker := self.table.find(slot.role, epoch)) is not None:
            self.table.promote(worker)
        self.encoder_names[slot.index] = name
        self.choice.swapped(slot.index)
        self.worker_ready(slot, epoch, ready, now)

    def worker_message(self, role: Role, epoch: int, message: Message, now: float) -> None:
        """Handle a ready worker's message about a request; unknown requests and old attempts are ignored."""
        self._account(now)
        worker = self._serving(role, epoch)
        if worker is None:
            self.counters.stale_messages += 1
            return
        worker.progress_at = now
        if not isinstance(message, Encoded | Dropped | Received | Consumed | Decoded | Done | RequestFailed | Blank):
            return
        request = self.ledger.requests.get(message.request_id)
        foreign = request is not None and role is Role.ENCODER and request.encoder_epoch != epoch
        if request is None or foreign or request.attempt != message.attempt or request.state is RequestState.QUEUED:
            self.counters.stale_messages += 1
            if isinstance(message, Received):  # it would decode a page that no client waits for
                self._to_worker(role, epoch, CancelRequest(message.request_id, message.attempt))
            return
        request.changed_at = now
        if isinstance(message, Done):
            self._sharing.read(message)
        if reason := self.choice.reason_to_fall_back(request, role, message):
            request.needs_first = True
            self.outcomes.retry(request, reason, now)
        else:
            self.outcomes.advance(request, message, now)
        self._dispatch(now)

    def worker_dead(
        self, role: Role, epoch: int, reason: str, now: float, *, by_page: bool = True, is_gpu_fault: bool = False
    ) -> None:
        """A worker's process has ended; pages that it answered for start a new attempt.

        Args:
            role: of the worker.
            epoch: of the process.
            reason: how it ended.
            now: time of the event.
            by_page: whether a page may be the cause.
            is_gpu_fault: whether macOS ended or refused its work on the GPU.
        """
        self._account(now)
        if (worker := self._serving(role, epoch)) is None:
            return
        worker.is_alive, worker.ready = False, None
        if worker.state is not WorkerState.RETIRING:
            self.counters.restarts += 1
            if role is Role.ENCODER:
                self.choice.died(worker.slot.index, reason)
        in_flight = self.ledger.in_flight()
        lost = lost_with(role, epoch, in_flight)
        for request in lost if role is Role.ENCODER else []:
            request.needs_first = request.needs_first or self.choice.can_fall_back(request)
        if by_page:
            # A page that moves to another encoder proves nothing yet; it may crash that one too.
            candidates = [r for r in lost if role is Role.DECODER or not self.choice.can_fall_back(r)]
            ids = {request.request_id for request in candidates}
            suspects = [r for r in in_compute(role, epoch, in_flight) if r.request_id in ids]
            self.outcomes.crashes.died(suspects, candidates, alone=len(in_flight) == 1)
        computed = in_compute(role, epoch, in_flight)
        for request in (computed if role is Role.DECODER else computed[:1]) if is_gpu_fault else []:
            request.gpu_faults += 1
            request.suspect = request.suspect or request.gpu_faults >= ALONE_GPU_FAULTS
        for request in reversed(lost):  # each goes to the front of its queue, so the oldest must come last
            if self.outcomes.crashes.is_poison(request, now):
                deaths = f"{request.solo_deaths} times while working on this page alone"
                text = f"the {role} {worker.name} died {deaths}; {reason}"
                self.outcomes.fail(request, ErrorCode.POISON, text)
            elif request.gpu_faults >= MAX_GPU_FAULTS:
                text = (
                    f"macOS ended or refused the work of the {role} {worker.name} on the GPU {request.gpu_faults} "
                    "times while it computed this page, also alone and in smaller pieces: close other programs that "
                    "use the GPU, or lower --max-pixels"
                )
                self.outcomes.fail(request, ErrorCode.GPU, text)
            else:
                # A death that only the unexplained ones before it excuse must not count against the worker.
                self.outcomes.settled += request.solo_deaths >= SOLO_DEATHS
                self.outcomes.retry(request, f"the {role} died: {reason}", now)
        self._dispatch(now)

    def tick(self, now: float) -> None:
        """Look for workers and pages that do not move; to be called about once a second."""
        self._account(now)
        self._timeouts.restart_after_sleep(self.table.serving, self.ledger.requests.values(), now)
        for worker in self.table.serving:
            if self._timeouts.is_hung(worker, now):
                worker.progress_at = now
                silence = f"no progress for {self.limits.stall_timeout_s:.0f} s (limit: DOTSCTL_STALL_TIMEOUT)"
                self._commands.append(Kill(worker.role, worker.epoch, silence))
        for request in self.ledger.in_flight():
            self._check_page(request, now)
        if (index := self.choice.idle(self.ledger, now)) is not None:
            self.table.vacate(WorkerSlot(Role.ENCODER, index))
        self._dispatch(now)

    def encoder_died_loading(self, slot: WorkerSlot, reason: str, now: float) -> None:
        """An encoder's process has ended before it was ready."""
        self._account(now)
        self.choice.died(slot.index, reason)
        self._dispatch(now)

    def encoder_lost(self, slot: WorkerSlot, reason: str, now: float) -> bool:
        """An encoder cannot be loaded, or died too often; whether the runtime can do without it."""
        self._account(now)
        is_dispensable = self.choice.lost(slot.index, reason)
        self._dispatch(now)
        return is_dispensable

    # --- inside ------------------------------------------------------------------------------------------------------

    def _check_page(self, request: Request, now: float) -> None:
        """Backstop for lost messages, and the page's own deadline."""
        if self._timeouts.is_overdue(request, now):
            self.outcomes.cancel(request)
            text = (
                f"not read within {self.limits.page_timeout_s:.0f} s: lower --max-pixels, or raise DOTSCTL_PAGE_TIMEOUT"
            )
            self.outcomes.fail(request, ErrorCode.DEADLINE, text)
        elif self._timeouts.is_stalled(request, now):
            self.outcomes.stalled(request, f"no progress for {self._timeouts.stall_s:.0f} s", now)

    def _dispatch(self, now: float) -> None:
        self._dispatcher.dispatch(now, is_ready=self.all_ready)
        if (command := self._sharing.update(now)) is not None:
            self._commands.append(command)

    def _accept(self, request: Request) -> None:
        self._to_client(request.client, Accepted(*request.address))

    def _to_client(self, client: bytes, message: Message) -> None:
        self._commands.append(ToClient(client, message))

    def _to_worker(self, role: Role, epoch: int, message: Message, buffers: Sequence[Buffer] = ()) -> None:
        self._commands.append(ToWorker(role, epoch, message, tuple(buffers)))

    def _serving(self, role: Role, epoch: int) -> Worker | None:
        worker = self.table.find(role, epoch)
        return worker if worker is not None and worker.ready is not None else None

    def _account(self, now: float) -> None:
        """Add the time since the last event to the busy time, or extend the timeout, of each worker."""
        for worker in self.table.serving:
            is_owing = has_work(worker.role, worker.epoch, self.ledger)
            if is_owing:
                worker.busy_s += now - max(self._accounted_at, worker.since)
            if not is_owing or self._sharing.is_gathering(worker):  # silence counts from the moment a report is due
                worker.progress_at = now
        if self._sharing.is_gathering(self.table.in_slot(DECODER)):
            for request in self.ledger.in_state(RequestState.DECODING):
                request.changed_at = now
        self.choice.elapsed(self.ledger, now - self._accounted_at)
        self._accounted_at = now
