"""Seeded schedules for the coordinator core: simulated clients, workers and a network that delays, loses and reorders.

A schedule is one ``random.Random(seed)``: how many pages, how long everything takes, which messages are lost, when
which worker dies, which page kills its worker. :func:`run_schedule` plays it to the end with a simulated clock and
checks the promises of the coordinator after every event; a broken one raises :class:`BrokenPromise` with the seed.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from dotsctl.client.runtime.core import Coordinator
from dotsctl.client.runtime.delivery import Kill, ToClient, ToWorker
from dotsctl.client.runtime.views import Limits
from dotsctl.protocol.errors import ErrorCode
from dotsctl.protocol.messages import (
    CancelJob,
    CancelRequest,
    Consumed,
    Decoded,
    Done,
    Dropped,
    Encode,
    Encoded,
    FinishReason,
    Geometry,
    ImageHeader,
    ImageKind,
    Message,
    PageFailed,
    PageOptions,
    PageResult,
    PageTokens,
    Ready,
    Received,
    Restarted,
    Role,
    Submit,
)

GEOMETRY = Geometry((28, 28), 1, (28, 28), (1.0, 1.0), (0.0, 0.0))
OPTIONS = PageOptions("text", None, None, None, "")
LONGEST_S = 20_000.0
"""Simulated time after which a schedule that is not finished has lost something."""


class BrokenPromise(AssertionError):
    """The coordinator did what it must never do."""


@dataclass
class Plan:
    """What is drawn at the start of a schedule."""

    clients: int
    pages: int
    loss: float
    """Share of messages between coordinator and workers that never arrive."""
    delay_s: float
    """Longest delay of a message; delays differ, so messages overtake each other when ``reorder``."""
    reorder: bool
    deaths: int
    killers: set[int]
    """Digests (as numbers) of pages that kill a worker whenever it works on them."""
    killed_role: Role
    batch: int
    cancels: int
    leaving: int
    """Clients that disappear."""

    @classmethod
    def draw(cls, rng: random.Random) -> "Plan":
        """A plan of any kind, calm ones included."""
        clients, pages = rng.randint(1, 3), rng.randint(1, 5)
        return cls(
            clients=clients,
            pages=pages,
            loss=rng.choice((0.0, 0.0, 0.02, 0.1)),
            delay_s=rng.choice((0.001, 0.05, 2.0)),
            reorder=rng.random() < 0.5,
            deaths=rng.choice((0, 0, 1, 3, 6)),
            killers={rng.randrange(clients * pages)} if rng.random() < 0.2 else set(),
            killed_role=rng.choice(list(Role)),
            batch=rng.choice((1, 2, 8)),
            cancels=rng.choice((0, 0, 0, 2)),
            leaving=rng.choice((0, 0, 0, 1)) if clients > 1 else 0,
        )


@dataclass
class SimulatedWorker:
    """One process of a role; what it holds dies with it."""

    role: Role
    epoch: int
    alive: bool = True
    free_at: float = 0.0
    held: dict[int, int] = field(default_factory=dict)
    """Attempt by request that it has in work."""


class Schedule:
    """One run of the coordinator through one plan."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self.plan = Plan.draw(self._rng)
        limits = Limits(credits=2, credit_bytes=1 << 30, stall_timeout_s=20.0, page_timeout_s=4000.0)
        self.core = Coordinator(limits, "simulated", "simulated")
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._last_arrival: dict[tuple[str, Role, int], float] = {}
        self._workers: dict[Role, SimulatedWorker] = {}
        self._to_submit: dict[bytes, list[int]] = {}
        self._answers: dict[int, list[Message]] = {}
        self._attempts: dict[int, int] = {}
        self._gone: set[bytes] = set()
        self.real_deaths = 0

    # --- the run -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Play to the end; raises BrokenPromise."""
        for role in Role:
            self._start(role, 1)
        plan, rng = self.plan, self._rng
        for number in range(plan.clients):
            client = b"client%d" % number
            pages = [number * plan.pages + page for page in range(plan.pages)]
            self._to_submit[client] = pages
            self._answers.update({page: [] for page in pages})
            self._at(rng.uniform(0, 3), lambda client=client: self._submit_more(client))
        for _ in range(plan.deaths):
            self._at(rng.uniform(0, 30), lambda: self._kill(rng.choice(list(Role))))
        for _ in range(plan.cancels):
            self._at(rng.uniform(0, 20), self._cancel_one)
        for number in range(plan.leaving):
            self._at(rng.uniform(0, 20), lambda number=number: self._leave(b"client%d" % number))
        self._at(1.0, self._tick)
        while self._unanswered():
            if not self._events or self.now > LONGEST_S:
                raise BrokenPromise(f"pages {self._unanswered()} have no answer at {self.now:.0f} s")
            self.now, _, event = heapq.heappop(self._events)
            event()
            self._obey()
            self._check_credits()
        self._check_end()

    def _at(self, delay_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay_s, next(self._order), event))

    def _tick(self) -> None:
        self.core.tick(self.now)
        self._at(1.0, self._tick)

    def _unanswered(self) -> list[int]:
        return [
            page
            for client, pages in self._pages_of_clients()
            if client not in self._gone
            for page in pages
            if not self._answers[page]
        ]

    def _pages_of_clients(self) -> list[tuple[bytes, range]]:
        count_ = self.plan.pages
        return [(b"client%d" % n, range(n * count_, (n + 1) * count_)) for n in range(self.plan.clients)]

    # --- promises ----------------------------------------------------------------------------------------------------

    def _check_credits(self) -> None:
        outstanding = len(self.core.ledger.outstanding())
        if outstanding > self.core.limits.credits:
            raise BrokenPromise(f"{outstanding} pages outstanding with {self.core.limits.credits} credits")
        suspects = [r for r in self.core.ledger.in_flight() if r.suspect]
        if suspects and len(self.core.ledger.in_flight()) > 1:
            raise BrokenPromise(f"request {suspects[0].request_id} is a suspect and does not run alone")

    def _check_end(self) -> None:
        calm = not self.plan.loss and self.real_deaths < 2
        for page, answers in self._answers.items():
            if len(answers) > 1:
                raise BrokenPromise(f"page {page} was answered {len(answers)} times")
            answer = answers[0] if answers else None
            if isinstance(answer, PageResult) and answer.text != str(page):
                raise BrokenPromise(f"page {page} got the text of page {answer.text}")
            if isinstance(answer, PageFailed) and calm and not self.plan.killers and answer.code != ErrorCode.CANCELLED:
                raise BrokenPromise(f"page {page} failed without a reason: {answer.code} {answer.message}")
            poisoned = isinstance(answer, PageFailed) and answer.code in (ErrorCode.POISON, ErrorCode.CANCELLED)
            if page in self.plan.killers and answer is not None and not self.plan.loss and not poisoned:
                raise BrokenPromise(f"page {page} kills its worker and was answered by {type(answer).__name__}")

    # --- clients -----------------------------------------------------------------------------------------------------

    def _submit_more(self, client: bytes) -> None:
        """Submit up to the window, as a client does."""
        if client in self._gone:
            return
        room = self.core.window - len(self.core.ledger.of_client(client))
        pages = self._to_submit[client]
        while pages and room > 0:
            page = pages.pop(0)
            room -= 1
            size = self._rng.choice((28, 280, 1700))
            image = ImageHeader(ImageKind.FILE, 1, size, size)
            self.core.submit(client, Submit("job", page, str(page), image, OPTIONS, True), [b"x"], self.now)

    def _cancel_one(self) -> None:
        client, pages = self._rng.choice(self._pages_of_clients())
        page = self._rng.choice(pages)
        if client not in self._gone and page not in self._to_submit[client]:
            self.core.cancel(client, CancelJob("job", page), self.now)

    def _leave(self, client: bytes) -> None:
        self._gone.add(client)
        self.core.client_gone(client, self.now)

    def _receive(self, client: bytes, message: Message) -> None:
        if client in self._gone:
            raise BrokenPromise(f"{type(message).__name__} for a client that is gone")
        match message:
            case PageResult() | PageFailed():
                self._answers[message.page_index].append(message)
                self._at(0.0, lambda: self._submit_more(client))
            case Restarted():
                self._attempts[message.page_index] = message.attempt
            case PageTokens():
                expected = self._attempts.get(message.page_index, 1)
                if message.attempt != expected or self._answers[message.page_index]:
                    raise BrokenPromise(f"tokens of attempt {message.attempt} of page {message.page_index} came late")

    # --- workers -----------------------------------------------------------------------------------------------------

    def _start(self, role: Role, epoch: int) -> None:
        worker = SimulatedWorker(role, epoch)
        self._workers[role] = worker

        def ready() -> None:
            if worker.alive:
                batch = self.plan.batch if role is Role.DECODER else 1
                message = Ready("f" * 64, 8, str(epoch) if role is Role.DECODER else "", batch, ("text",), 0.0)
                self.core.worker_ready(role, epoch, message, self.now)

        self._at(self._rng.uniform(0.1, 2), ready)

    def _kill(self, role: Role) -> None:
        worker = self._workers[role]
        if not worker.alive:
            return
        worker.alive = False
        self.real_deaths += 1
        worker.held.clear()

        def noticed() -> None:
            self.core.worker_dead(role, worker.epoch, "signal SIGKILL", self.now)
            self._start(role, worker.epoch + 1)

        self._at(self._rng.uniform(0.001, 0.1), noticed)

    def _obey(self) -> None:
        """Carry out the coordinator's commands, through the network where they are for workers."""
        while commands := self.core.take_commands():
            for command in commands:
                match command:
                    case ToClient():
                        self._receive(command.client, command.message)
                    case Kill():
                        if self._workers[command.role].epoch == command.epoch:
                            self._kill(command.role)
                    case ToWorker():
                        worker = self._workers[command.role]
                        if worker.epoch == command.epoch:
                            self._carry(worker, lambda w=worker, m=command.message: self._work(w, m))

    def _carry(self, worker: SimulatedWorker, deliver: Callable[[], None]) -> None:
        """Bring a message to a worker that may be dead by then; it may be lost, and overtaken when reordering."""
        if self._rng.random() < self.plan.loss:
            return
        self._at(self._delay(("down", worker.role, worker.epoch)), lambda: deliver() if worker.alive else None)

    def _delay(self, channel: tuple[str, Role, int]) -> float:
        """Seconds that a message takes; without reordering it cannot overtake the last one of its channel."""
        arrival = self.now + self._rng.uniform(0, self.plan.delay_s)
        if not self.plan.reorder:
            arrival = self._last_arrival[channel] = max(arrival, self._last_arrival.get(channel, 0.0))
        return arrival - self.now

    def _say(self, worker: SimulatedWorker, message: Message) -> None:
        """Bring a message to the coordinator; what was sent arrives even when the sender has died since."""
        if not worker.alive or self._rng.random() < self.plan.loss:
            return
        delay_s = self._delay(("up", worker.role, worker.epoch))
        self._at(delay_s, lambda: self.core.worker_message(worker.role, worker.epoch, message, self.now))

    def _work(self, worker: SimulatedWorker, message: Message) -> None:
        match message:
            case Encode():
                self._encode(worker, message)
            case CancelRequest():
                if worker.held.get(message.request_id) == message.attempt:
                    del worker.held[message.request_id]
                    if worker.role is Role.ENCODER:
                        self._say(worker, Dropped(message.request_id, message.attempt))

    def _encode(self, worker: SimulatedWorker, request: Encode) -> None:
        worker.held[request.request_id] = request.attempt
        page = self._page_of(request.request_id)
        worker.free_at = max(worker.free_at, self.now) + self._rng.uniform(0.01, 1)

        def finish() -> None:
            if not worker.alive or worker.held.get(request.request_id) != request.attempt:
                return
            if page in self.plan.killers and self.plan.killed_role is Role.ENCODER:
                self._kill(Role.ENCODER)
                return
            del worker.held[request.request_id]
            self._say(worker, Encoded(request.request_id, request.attempt, 32))
            decoder = self._workers[Role.DECODER]
            flight_s = self._rng.uniform(0, self.plan.delay_s)

            def deliver() -> None:  # lost with the sender, when it dies while the bytes are still its own
                if decoder.alive and str(decoder.epoch) == request.data_endpoint:
                    self._arrive(decoder, request, page)

            if worker.alive:
                self._at(flight_s, lambda: deliver() if worker.alive else None)

        self._at(worker.free_at - self.now, finish)

    def _arrive(self, decoder: SimulatedWorker, request: Encode, page: int | None) -> None:
        key, attempt = request.request_id, request.attempt
        decoder.held[key] = attempt
        self._say(decoder, Received(key, attempt))
        decoder.free_at = max(decoder.free_at, self.now) + self._rng.uniform(0.01, 1) / self.plan.batch

        def step(number: int) -> None:
            if not decoder.alive or decoder.held.get(key) != attempt:
                return
            if number == 0:
                self._say(decoder, Consumed(key, attempt))
            elif number == 1 and page in self.plan.killers and self.plan.killed_role is Role.DECODER:
                self._kill(Role.DECODER)
                return
            elif number < 3:
                self._say(decoder, Decoded(key, attempt, "x", 1))
            else:
                del decoder.held[key]
                self._say(decoder, Done(key, attempt, str(page), FinishReason.STOP, GEOMETRY, 1, 5, 2, {}))
                return
            self._at(self._rng.uniform(0.01, 0.5), lambda: step(number + 1))

        self._at(decoder.free_at - self.now, lambda: step(0))

    def _page_of(self, request_id: int) -> int | None:
        """The page behind a request, while the coordinator knows it."""
        request = self.core.ledger.requests.get(request_id)
        return request.submit.page_index if request else None


def run_schedule(seed: int) -> Schedule:
    """Play one schedule; raises BrokenPromise that names the seed."""
    schedule = Schedule(seed)
    try:
        schedule.run()
    except BrokenPromise as broken:
        raise BrokenPromise(f"seed {seed}: {broken}") from None
    return schedule
