"""The coordinator: a state machine without sockets, threads or clock. Events go in with the time, commands come out.

It owns the ledger of requests and decides everything: whose page is next (fair turns between clients), whether it
may go now (credits), who answers for it (custody moves when the receiver acknowledges), what happens when a worker
dies (new attempt; the pages in its compute run alone until they are cleared) and when to give up. ``SPEC.md`` names
the rules; ``tests/unit/test_core_simulation.py`` runs it through thousands of disordered schedules.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field

from dotsctl.client.runtime.admission import choose, outstanding_bytes
from dotsctl.client.runtime.blame import SOLO_DEATHS, Blame
from dotsctl.client.runtime.cost_log import CostLog
from dotsctl.client.runtime.delivery import Command, Kill, Retire, ToClient, ToWorker, blank_result, result_of
from dotsctl.client.runtime.encoder_choice import EncoderChoice
from dotsctl.client.runtime.ledger import Ledger, Request, State
from dotsctl.client.runtime.patience import Patience
from dotsctl.client.runtime.seats import DECODER, Seat
from dotsctl.client.runtime.views import Counters, Limits, WorkerView, has_work, in_compute, lost_with
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
    Encode,
    Encoded,
    Message,
    PageFailed,
    PageResult,
    PageTokens,
    Ready,
    Received,
    Refused,
    RequestFailed,
    Restarted,
    Submit,
)
from dotsctl.protocol.parts import Role

MAX_POISON = 3
"""Pages in a row that are found to be poison; from here on it is the worker, and its deaths are counted on."""
MAX_STALLS = 2
MAX_HELD_BYTES = 512 * 1024 * 1024
"""Image bytes above which clients that already have a page in the ledger are told to wait."""


@dataclass
class Coordinator:
    """Feed it events in the order of their ``now``; take the commands after each."""

    limits: Limits
    encoder_names: list[str]
    """Plugin and options of the encoders that stand side by side; pages go to the first unless they ask for another."""
    decoder_name: str
    ledger: Ledger = field(default_factory=Ledger)
    auto: InitVar[EncoderChoice | None] = None
    """Chooses between the encoders for pages that ask for none; none: these go to the first one."""
    choice: EncoderChoice = field(init=False)
    counters: Counters = field(default_factory=Counters)
    workers: dict[Seat, WorkerView] = field(default_factory=dict)
    """The ready workers, which new pages go to."""
    retiring: dict[int, WorkerView] = field(default_factory=dict)
    """Encoders by epoch that were swapped and still have a page."""
    stopping: str = ""
    """Why no new page is taken; empty while pages are taken."""
    costs: CostLog = field(default_factory=CostLog)
    """The costs of the pages that were read."""
    pages: Counter[Seat] = field(default_factory=Counter)
    """Pages that were read, by the workers that read them."""
    settled: int = 0
    """Pages that came to an end by themselves; each one is progress for the supervisor's counter of failures."""
    _poison_in_a_row: int = 0
    _capacity: int = 1
    """Pages in the decoder's batch; remembered while a decoder restarts."""
    _commands: list[Command] = field(default_factory=list)
    _accounted_at: float = 0.0
    _patience: Patience = field(init=False)
    _blame: Blame = field(default_factory=Blame)

    def __post_init__(self, auto: EncoderChoice | None) -> None:
        self._patience = Patience(self.limits)
        self.choice = auto or EncoderChoice()
        self.choice.names = self.encoder_names

    # --- what the loop asks ------------------------------------------------------------------------------------------

    def take_commands(self) -> list[Command]:
        """Commands since the last call, in the order in which they are to be carried out."""
        commands, self._commands = [*self._commands, *self.choice.commands], []
        self.choice.commands.clear()
        return commands

    @property
    def all_ready(self) -> bool:
        """Whether pages can be read: the decoder and the encoders that are needed for that are ready."""
        return DECODER in self.workers and self.choice.is_complete(len(self.workers) - 1)

    @property
    def window(self) -> int:
        """Pages that one client may have in the ledger: enough to fill the decoder's batch and the credits."""
        return self._capacity + self.limits.credits * len(self.encoder_names)

    # --- events of clients -------------------------------------------------------------------------------------------

    def submit(self, client: bytes, message: Submit, buffers: Sequence[Buffer], now: float) -> None:
        """A client asks for a page."""
        self._account(now)
        known = self.ledger.find((client, message.job_id, message.page_index))
        mine = self.ledger.of_client(client)
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
        elif len(mine) >= self.window or (mine and self._held_bytes() + nbytes > MAX_HELD_BYTES):
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
                self._cancel(request)
                self._fail(request, ErrorCode.CANCELLED, "cancelled by the client")
        self._dispatch(now)

    def client_gone(self, client: bytes, now: float) -> None:
        """A client is not there any more; nobody waits for its pages."""
        self._account(now)
        for request in self.ledger.of_client(client):
            self._cancel(request)
            self.ledger.remove(request)
            self._blame.gone(request)
            self.counters.cancelled += 1
        self._dispatch(now)

    def stop(self, reason: str, code: ErrorCode | None, now: float) -> None:
        """Take no new pages; with a ``code`` those in the ledger fail too."""
        self._account(now)
        self.stopping = self.stopping or reason
        if code is not None:
            for request in list(self.ledger.requests.values()):
                self._cancel(request)
                self._fail(request, code, reason)

    # --- events of workers -------------------------------------------------------------------------------------------

    def worker_ready(self, seat: Seat, epoch: int, ready: Ready, now: float) -> None:
        """A worker has loaded its model."""
        self._account(now)
        name = self.decoder_name if seat == DECODER else self.encoder_names[seat.place]
        self.workers[seat] = WorkerView(seat, epoch, ready, since=now, progress_at=now, name=name)
        if seat == DECODER:
            self._capacity = ready.capacity
        else:
            self.choice.ready(seat.place, ready.buckets, now)
        self._dispatch(now)

    def encoder_swapped(self, seat: Seat, epoch: int, ready: Ready, name: str, now: float) -> None:
        """Another encoder is ready: new pages go to it, the old one finishes what it has."""
        self._account(now)
        if (old := self.workers.pop(seat, None)) is not None:
            self.retiring[old.epoch] = old
        self.encoder_names[seat.place] = name
        self.choice.swapped(seat.place)
        self.worker_ready(seat, epoch, ready, now)

    def worker_message(self, role: Role, epoch: int, message: Message, now: float) -> None:
        """A ready worker says something about a request; unknown requests and old attempts are fenced off."""
        self._account(now)
        worker = self._view(role, epoch)
        if worker is None:
            self.counters.stale_messages += 1
            return
        worker.progress_at = now
        if not isinstance(message, Encoded | Dropped | Received | Consumed | Decoded | Done | RequestFailed | Blank):
            return
        request = self.ledger.requests.get(message.request_id)
        foreign = request is not None and role is Role.ENCODER and request.encoder_epoch != epoch
        if request is None or foreign or request.attempt != message.attempt or request.state is State.QUEUED:
            self.counters.stale_messages += 1
            if isinstance(message, Received):  # it would decode a page that nobody waits for
                self._to_worker(role, epoch, CancelRequest(message.request_id, message.attempt))
            return
        request.changed_at = now
        if reason := self.choice.reason_to_fall_back(request, role, message):
            request.needs_first = True
            self._retry(request, reason, now)
        else:
            self._advance(request, message, now)
        self._dispatch(now)

    def worker_dead(self, role: Role, epoch: int, reason: str, now: float, *, by_page: bool = True) -> None:
        """A worker's process has ended; pages that it answered for start a new attempt.

        ``by_page`` tells whether a page may be to blame.
        """
        self._account(now)
        if (worker := self._view(role, epoch)) is None:
            return
        if role is Role.ENCODER and epoch in self.retiring:
            del self.retiring[epoch]
        else:
            del self.workers[worker.seat]
            self.counters.restarts += 1
            if role is Role.ENCODER:
                self.choice.died(worker.seat.place, reason)
        in_flight = self.ledger.in_flight()
        lost = lost_with(role, epoch, in_flight)
        for request in lost if role is Role.ENCODER else []:
            request.needs_first = request.needs_first or self.choice.can_fall_back(request)
        if by_page:
            # A page that another encoder takes over proves nothing yet; that one may die of it too.
            blamed = [r for r in lost if role is Role.DECODER or not self.choice.can_fall_back(r)]
            ids = {request.request_id for request in blamed}
            suspects = [r for r in in_compute(role, epoch, in_flight) if r.request_id in ids]
            self._blame.died(suspects, blamed, alone=len(in_flight) == 1)
        for request in reversed(lost):  # each goes to the front of its queue, so the oldest must come last
            if self._blame.is_poison(request, now):
                text = f"the {role} died {request.solo_deaths} times while it worked on this page alone; {reason}"
                self._fail(request, ErrorCode.POISON, text)
            else:
                # A death that only the unexplained ones before it excuse must not count against the worker.
                self.settled += request.solo_deaths >= SOLO_DEATHS
                self._retry(request, f"the {role} died: {reason}", now)
        self._dispatch(now)

    def tick(self, now: float) -> None:
        """Look for workers and pages that do not move; to be called about once a second."""
        self._account(now)
        self._patience.forgive_sleep(self._views().values(), self.ledger.in_flight(), now)
        for (role, _), worker in self._views().items():
            if self._patience.is_silent(worker, now):
                worker.progress_at = now
                silence = f"no progress for {self.limits.stall_timeout_s:.0f} s, DOTSCTL_STALL_TIMEOUT changes that"
                self._commands.append(Kill(role, worker.epoch, silence))
        for request in self.ledger.in_flight():
            self._check_page(request, now)
        if (place := self.choice.idle(self.ledger, now)) is not None:
            worker = self.workers.pop(Seat(Role.ENCODER, place))
            self.retiring[worker.epoch] = worker
        self._dispatch(now)

    def encoder_died_loading(self, seat: Seat, reason: str, now: float) -> None:
        """An encoder's process has ended before it was ready."""
        self._account(now)
        self.choice.died(seat.place, reason)
        self._dispatch(now)

    def encoder_lost(self, seat: Seat, reason: str, now: float) -> bool:
        """An encoder cannot be loaded, or died too often; whether the runtime can do without it."""
        self._account(now)
        is_dispensable = self.choice.lost(seat.place, reason)
        self._dispatch(now)
        return is_dispensable

    # --- inside ------------------------------------------------------------------------------------------------------

    def _advance(self, request: Request, message: Message, now: float) -> None:
        """Apply a worker's message about the current attempt of a request."""
        match message:
            case Encoded():
                request.embedding_bytes = message.nbytes
                request.state = max(request.state, State.SENT)
                self._count_outstanding()
            case Received():
                request.state = max(request.state, State.RECEIVED)
            case Consumed():
                request.state = State.DECODING
            case Decoded():
                request.state = State.DECODING
                self.choice.decoded(message.num_tokens)
                if request.submit.stream and (message.text or message.geometry):
                    tokens = PageTokens(*request.address, message.text, message.num_tokens, message.geometry)
                    self._to_client(request.client, tokens)
            case Done():
                self.choice.read(request, message, now)
                self.costs.read(request, message)
                self._finish(request, result_of(request, message, self.decoder_name, now), now)
            case Blank():
                self._finish(request, blank_result(request, message, self.decoder_name, now), now)
            case RequestFailed(code=ErrorCode.STALL):  # the decoder took no page, which is not the page's fault
                self._stalled(request, message.message, now)
            case RequestFailed(code=ErrorCode.OOM) if not request.suspect:
                request.suspect = True  # alone it has all of the memory
                self._retry(request, message.message, now)
            case RequestFailed():
                self._cancel(request)
                self._fail(request, message.code, message.message)
            case Dropped():  # nobody cancelled this attempt, so the worker and we disagree
                self._stalled(request, "the worker dropped the page", now)

    def _finish(self, request: Request, result: PageResult, now: float) -> None:
        self.ledger.remove(request)
        self._blame.cleared(request, now)
        self.counters.done += 1
        self.pages.update((request.seat, DECODER))
        self.settled, self._poison_in_a_row = self.settled + 1, 0
        self._to_client(request.client, result)

    def _fail(self, request: Request, code: ErrorCode, text: str) -> None:
        self.ledger.remove(request)
        self._blame.gone(request)
        if code is ErrorCode.CANCELLED:
            self.counters.cancelled += 1
        else:
            self.counters.failed += 1
            self._poison_in_a_row += code is ErrorCode.POISON
            self.settled += self._poison_in_a_row < MAX_POISON
        self._to_client(request.client, PageFailed(*request.address, code, text))

    def _retry(self, request: Request, reason: str, now: float) -> None:
        self._cancel(request)
        self.ledger.requeue(request, now)
        self._to_client(request.client, Restarted(*request.address, reason))

    def _cancel(self, request: Request) -> None:
        """Tell the workers that may hold the current attempt to forget it."""
        if request.state is not State.QUEUED:
            for role, epoch in self._views():
                if role is Role.DECODER or epoch == request.encoder_epoch:
                    self._to_worker(role, epoch, CancelRequest(request.request_id, request.attempt))

    def _check_page(self, request: Request, now: float) -> None:
        """Backstop for lost messages, and the page's own deadline."""
        if self._patience.is_overdue(request, now):
            self._cancel(request)
            text = (
                f"not read within {self.limits.page_timeout_s:.0f} s: lower --max-pixels, or raise DOTSCTL_PAGE_TIMEOUT"
            )
            self._fail(request, ErrorCode.DEADLINE, text)
        elif self._patience.is_stalled(request, now):
            self._stalled(request, f"no progress for {self._patience.stall_s:.0f} s", now)

    def _stalled(self, request: Request, reason: str, now: float) -> None:
        """Try a page again that got stuck through no fault of its own, but not for ever."""
        request.stalls += 1
        is_with_encoder = request.state in (State.ENCODING, State.SENT)
        request.needs_first = request.needs_first or (is_with_encoder and self.choice.can_fall_back(request))
        if request.stalls <= MAX_STALLS:
            self._retry(request, reason, now)
        else:
            self._cancel(request)
            self._fail(request, ErrorCode.STALL, f"{reason}, in {request.stalls} attempts")

    def _dispatch(self, now: float) -> None:
        """Let swapped encoders go that are done, and send pages to the present ones as long as credits allow."""
        for epoch in [e for e in self.retiring if not any(r.is_with_encoder(e) for r in self.ledger.in_flight())]:
            del self.retiring[epoch]
            self._commands.append(Retire(epoch))
        self._route()
        if (decoder := self.workers.get(DECODER)) is None:
            return
        ready = {seat.place for seat in self.workers if seat != DECODER}
        while request := choose(self.ledger, self.limits, decoder.ready.width, ready):
            encoder = self.workers[request.seat]
            request.is_beside_decoder = has_work(Role.DECODER, decoder.epoch, self.ledger)
            request.state, request.changed_at = State.ENCODING, now
            request.dispatched_at = request.dispatched_at or now
            request.encoder_epoch, request.encoder_name = encoder.epoch, encoder.name
            submit, endpoint = request.submit, decoder.ready.data_endpoint
            encode = Encode(request.request_id, request.attempt, submit.images, submit.options, endpoint)
            self._to_worker(Role.ENCODER, encoder.epoch, encode, request.buffers)
            self._count_outstanding()
            self.choice.dispatched(request, now)
            self._route()

    def _route(self) -> None:
        """Choose the encoder of each waiting page; one that no encoder can read fails."""
        for request, reason in self.choice.route(self.ledger, is_ready=self.all_ready):
            self._fail(request, ErrorCode.WORKER_FATAL, reason)

    def _count_outstanding(self) -> None:
        width = self.workers[DECODER].ready.width if DECODER in self.workers else 0
        counters = self.counters
        counters.max_outstanding = max(counters.max_outstanding, len(self.ledger.outstanding()))
        counters.max_outstanding_bytes = max(counters.max_outstanding_bytes, outstanding_bytes(self.ledger, width))

    def _held_bytes(self) -> int:
        return sum(request.nbytes for request in self.ledger.requests.values())

    def _accept(self, request: Request) -> None:
        self._to_client(request.client, Accepted(*request.address))

    def _to_client(self, client: bytes, message: Message) -> None:
        self._commands.append(ToClient(client, message))

    def _to_worker(self, role: Role, epoch: int, message: Message, buffers: Sequence[Buffer] = ()) -> None:
        self._commands.append(ToWorker(role, epoch, message, tuple(buffers)))

    def _views(self) -> dict[tuple[Role, int], WorkerView]:
        """All ready workers, the encoders that are on their way out included."""
        retiring = {(Role.ENCODER, epoch): worker for epoch, worker in self.retiring.items()}
        return {**{(seat.role, worker.epoch): worker for seat, worker in self.workers.items()}, **retiring}

    def _view(self, role: Role, epoch: int) -> WorkerView | None:
        return self._views().get((role, epoch))

    def _account(self, now: float) -> None:
        """Add the time since the last event to the busy time, or the patience, of each worker."""
        for (role, epoch), worker in self._views().items():
            if has_work(role, epoch, self.ledger):
                worker.busy_s += now - max(self._accounted_at, worker.since)
            else:  # silence counts from the moment there is something to say
                worker.progress_at = now
        self.choice.elapsed(self.ledger, now - self._accounted_at)
        self._accounted_at = now
