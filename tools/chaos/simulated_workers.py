"""The workers and the network of a simulated schedule; see ``simulation.py``."""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from itertools import count

from dotsctl.client.runtime.core import Coordinator
from dotsctl.client.runtime.seats import DECODER, Seat
from dotsctl.protocol.errors import ErrorCode
from dotsctl.protocol.messages import (
    Blank,
    CancelRequest,
    Consumed,
    Decoded,
    Done,
    Dropped,
    Encode,
    Encoded,
    Message,
    Ready,
    Received,
    RequestFailed,
)
from dotsctl.protocol.parts import FinishReason, Geometry, Role

GEOMETRY = Geometry((28, 28), 1, (28, 28), (1.0, 1.0), (0.0, 0.0))
SHRUNK = replace(GEOMETRY, resolution_loss=0.1)
BUCKET = 2016
"""Page size of the alternative in patches."""
ALTERNATIVE_SEAT = Seat(Role.ENCODER, 1)


class Alternative(StrEnum):
    """How the second of two encoders behaves between which the coordinator chooses."""

    SOUND = "sound"
    SLOW = "slow"
    """Pages take ten times as long."""
    REFUSES = "refuses"
    """It cannot be loaded."""
    DIES = "dies"
    """Every page kills it."""
    NEVER_LOADS = "never loads"
    """It dies before it is ready, again and again."""
    FAILS = "fails"
    """It fails with every page and goes on."""
    SHRINKS = "shrinks"
    """Every page loses more of its resolution than was foreseen."""


DYING = (Alternative.DIES, Alternative.NEVER_LOADS)


class Clock:
    """Simulated time, and what is to happen when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, delay_s: float, event: Callable[[], None]) -> None:
        """Have something happen ``delay_s`` seconds from now."""
        heapq.heappush(self._events, (self.now + delay_s, next(self._order), event))

    def step(self) -> None:
        """Go on to the next event and let it happen."""
        self.now, _, event = heapq.heappop(self._events)
        event()


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
    blank: set[int]
    """Pages that the encoder answers itself."""
    swaps: int
    """Times that another encoder is asked for."""
    encoders: int
    """That stand side by side; pages ask for one of them."""
    hungry: set[int]
    """Pages for which the decoder's memory suffices only when they are alone in it."""
    alternative: Alternative | None
    """Behaviour of the second encoder where the coordinator chooses; none: pages ask for an encoder."""
    large: set[int]
    """Pages that do not fit the alternative."""

    @classmethod
    def draw(cls, rng: random.Random) -> "Plan":
        """A plan of any kind, calm ones included."""
        alternative = rng.choice(list(Alternative)) if rng.random() < 0.1 else None
        clients, pages = (
            rng.randint(1, 3),
            rng.randint(1, 12 if alternative in (Alternative.SOUND, Alternative.SLOW) else 5),
        )
        killers = {rng.randrange(clients * pages)} if rng.random() < 0.2 else set()
        return cls(
            clients=clients,
            pages=pages,
            loss=rng.choice((0.0, 0.0, 0.02, 0.1)),
            delay_s=rng.choice((0.001, 0.05, 2.0)),
            reorder=rng.random() < 0.5,
            deaths=rng.choice((0, 0, 1, 3, 6)),
            killers=killers,
            killed_role=rng.choice(list(Role)),
            batch=rng.choice((1, 2, 8)),
            cancels=rng.choice((0, 0, 0, 2)),
            leaving=rng.choice((0, 0, 0, 1)) if clients > 1 else 0,
            blank={rng.randrange(clients * pages)} - killers if rng.random() < 0.2 else set(),
            swaps=rng.choice((0, 0, 1, 3)),
            encoders=2 if alternative else rng.choice((1, 1, 2)),
            hungry={rng.randrange(clients * pages)} if rng.random() < 0.2 else set(),
            alternative=alternative,
            large={page for page in range(clients * pages) if rng.random() < 0.2} if alternative else set(),
        )


@dataclass
class SimulatedWorker:
    """One process of a seat; what it holds dies with it."""

    seat: Seat
    epoch: int
    alive: bool = True
    is_ready: bool = False
    free_at: float = 0.0
    held: dict[int, int] = field(default_factory=dict)
    """Attempt by request that it has in work."""

    @property
    def role(self) -> Role:
        """Of its seat."""
        return self.seat.role


class SimulatedWorkers:
    """All seats: they load, work, die and start again."""

    def __init__(self, plan: Plan, rng: random.Random, clock: Clock, core: Coordinator) -> None:
        self._plan, self._rng, self._clock, self._core = plan, rng, clock, core
        self.workers: dict[Seat, SimulatedWorker] = {}
        self.retiring: dict[int, SimulatedWorker] = {}
        """Encoders by epoch that were swapped and are not told to stop yet."""
        self._epochs = dict.fromkeys(Role, 0)
        self.real_deaths = 0
        """Deaths of workers, but for those of an alternative that always dies."""
        self.given_up: set[Seat] = set()
        self._encode_s: dict[tuple[int, int], float] = {}
        """Seconds of the encoder by request and attempt."""
        self._is_shrunk: dict[tuple[int, int], bool] = {}
        """Whether a page lost resolution, likewise."""
        self._last_arrival: dict[tuple[str, Role, int], float] = {}

    def start(self, seat: Seat) -> None:
        """Start a process; it is ready a little later."""
        if (old := self.workers.get(seat)) is not None and old.alive:
            self.retiring[old.epoch] = old  # it finishes the pages that it has
        worker = self.workers[seat] = self._new(seat)
        behaviour = self._behaviour(worker)

        def ready() -> None:
            if self.workers[seat] is not worker or not worker.alive:
                return  # a swap was quicker
            if behaviour is Alternative.REFUSES:
                worker.alive = False
                self._core.encoder_lost(seat, "told to refuse", self._clock.now)
            elif behaviour is Alternative.NEVER_LOADS:
                self.kill_process(worker)
            else:
                worker.is_ready = True
                self._core.worker_ready(seat, worker.epoch, self._ready(worker), self._clock.now)

        self._clock.at(self._rng.uniform(0.1, 6 if behaviour else 2), ready)

    def _behaviour(self, worker: SimulatedWorker) -> Alternative | None:
        return self._plan.alternative if worker.seat == ALTERNATIVE_SEAT else None

    def give_up(self, seat: Seat) -> None:
        """Let a process die that is not started again."""
        self.given_up.add(seat)
        if (worker := self.workers[seat]).alive:
            self.kill_process(worker)
            self.real_deaths -= self._behaviour(worker) not in DYING

    def swap(self) -> None:
        """Start another encoder beside the present one; when it is ready it takes over."""
        seat = Seat(Role.ENCODER, self._rng.randrange(self._plan.encoders))
        worker = self._new(seat)

        def ready() -> None:
            if not self._core.all_ready or seat in self.given_up or seat not in self.workers:
                return  # the runtime refuses swaps then, or nothing of it is to be simulated
            old, worker.is_ready = self.workers[seat], True
            self.retiring[old.epoch], self.workers[seat] = old, worker
            name = f"encoder {worker.epoch}"
            self._core.encoder_swapped(seat, worker.epoch, self._ready(worker), name, self._clock.now)

        self._clock.at(self._rng.uniform(0.1, 2), ready)

    def retire(self, epoch: int) -> None:
        """Stop an encoder that was swapped, or that is not needed."""
        worker = self.retiring.pop(epoch, None) or self.find(Role.ENCODER, epoch)
        if worker is None:
            return
        worker.alive = False
        worker.held.clear()

    def _new(self, seat: Seat) -> SimulatedWorker:
        self._epochs[seat.role] += 1
        return SimulatedWorker(seat, self._epochs[seat.role])

    def _ready(self, worker: SimulatedWorker) -> Ready:
        is_decoder = worker.role is Role.DECODER
        batch, endpoint = (self._plan.batch, str(worker.epoch)) if is_decoder else (1, "")
        buckets = (BUCKET,) if self._behaviour(worker) else ()
        return Ready("f" * 64, 8, endpoint, batch, ("text",), 0.0, buckets)

    def find(self, role: Role, epoch: int) -> SimulatedWorker | None:
        """The process of a role and epoch, if it is the present one or on its way out."""
        known = [*self.workers.values(), *self.retiring.values()]
        return next((worker for worker in known if (worker.role, worker.epoch) == (role, epoch)), None)

    def kill(self, seat: Seat) -> None:
        """Let the present process of a seat die; the coordinator hears of it, and another one starts."""
        if seat in self.workers:
            self.kill_process(self.workers[seat])

    def kill_process(self, worker: SimulatedWorker) -> None:
        """Let a process die; one that was on its way out is not started again."""
        if not worker.alive:
            return
        worker.alive = False
        self.real_deaths += self._behaviour(worker) not in DYING
        worker.held.clear()

        def noticed() -> None:
            self._core.worker_dead(worker.role, worker.epoch, "signal SIGKILL", self._clock.now)
            if worker.role is Role.ENCODER and not worker.is_ready and self.workers[worker.seat] is worker:
                self._core.encoder_died_loading(worker.seat, "signal SIGKILL", self._clock.now)
            if self.workers[worker.seat] is worker and worker.seat not in self.given_up:
                self.start(worker.seat)
            elif worker.role is Role.ENCODER:
                self.retiring.pop(worker.epoch, None)

        self._clock.at(self._rng.uniform(0.001, 0.1), noticed)

    def tell(self, role: Role, epoch: int, message: Message) -> None:
        """Bring a message of the coordinator to a worker, if it is still there."""
        if worker := self.find(role, epoch):
            self._carry(worker, partial(self._work, worker, message))

    def _carry(self, worker: SimulatedWorker, deliver: Callable[[], None]) -> None:
        """Bring a message to a worker that may be dead by then; it may be lost, and overtaken when reordering."""
        if self._rng.random() < self._plan.loss:
            return
        self._clock.at(self._delay(("down", worker.role, worker.epoch)), lambda: deliver() if worker.alive else None)

    def _delay(self, channel: tuple[str, Role, int]) -> float:
        """Seconds that a message takes; without reordering it cannot overtake the last one of its channel."""
        arrival = self._clock.now + self._rng.uniform(0, self._plan.delay_s)
        if not self._plan.reorder:
            arrival = self._last_arrival[channel] = max(arrival, self._last_arrival.get(channel, 0.0))
        return arrival - self._clock.now

    def _say(self, worker: SimulatedWorker, message: Message) -> None:
        """Bring a message to the coordinator; what was sent arrives even when the sender has died since."""
        if not worker.alive or self._rng.random() < self._plan.loss:
            return
        delay_s = self._delay(("up", worker.role, worker.epoch))
        self._clock.at(delay_s, lambda: self._core.worker_message(worker.role, worker.epoch, message, self._clock.now))

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
        behaviour = self._behaviour(worker)
        encode_s = self._rng.uniform(0.01, 1) * (10 if behaviour is Alternative.SLOW else 1)
        worker.free_at = max(worker.free_at, self._clock.now) + encode_s

        def finish() -> None:
            if not worker.alive or worker.held.get(request.request_id) != request.attempt:
                return
            is_killer = page in self._plan.killers and self._plan.killed_role is Role.ENCODER
            if is_killer or behaviour is Alternative.DIES:
                self.kill_process(worker)
                return
            del worker.held[request.request_id]
            if behaviour is Alternative.FAILS:
                self._say(worker, RequestFailed(request.request_id, request.attempt, ErrorCode.INTERNAL, "broken"))
                return
            if page in self._plan.blank:
                self._say(worker, Blank(request.request_id, request.attempt, (GEOMETRY,), {}))
                return
            self._say(worker, Encoded(request.request_id, request.attempt, 32))
            self._encode_s[request.request_id, request.attempt] = encode_s
            self._is_shrunk[request.request_id, request.attempt] = behaviour is Alternative.SHRINKS
            decoder = self.workers[DECODER]
            flight_s = self._rng.uniform(0, self._plan.delay_s)

            def deliver() -> None:  # lost with the sender, when it dies while the bytes are still its own
                if decoder.alive and str(decoder.epoch) == request.data_endpoint:
                    self._arrive(decoder, request, page)

            if worker.alive:
                self._clock.at(flight_s, lambda: deliver() if worker.alive else None)

        self._clock.at(worker.free_at - self._clock.now, finish)

    def _arrive(self, decoder: SimulatedWorker, request: Encode, page: int | None) -> None:
        key, attempt = request.request_id, request.attempt
        geometry = SHRUNK if self._is_shrunk[key, attempt] else GEOMETRY
        decoder.held[key] = attempt
        self._say(decoder, Received(key, attempt))
        decoder.free_at = max(decoder.free_at, self._clock.now) + self._rng.uniform(0.01, 1) / self._plan.batch

        def step(number: int) -> None:
            if not decoder.alive or decoder.held.get(key) != attempt:
                return
            if number == 0:
                self._say(decoder, Consumed(key, attempt))
            elif number == 1 and page in self._plan.killers and self._plan.killed_role is Role.DECODER:
                self.kill(DECODER)
                return
            elif number == 1 and page in self._plan.hungry and len(decoder.held) > 1:
                self._run_out_of_memory(decoder)
                return
            elif number < 3:
                self._say(decoder, Decoded(key, attempt, "x", 1, geometry if number == 1 else None))
            else:
                del decoder.held[key]
                timings_ms = {"encode_total": 1000 * self._encode_s[key, attempt]}
                self._say(decoder, Done(key, attempt, str(page), FinishReason.STOP, (geometry,), 1, 5, 2, timings_ms))
                return
            self._clock.at(self._rng.uniform(0.01, 0.5), lambda: step(number + 1))

        self._clock.at(decoder.free_at - self._clock.now, lambda: step(0))

    def _run_out_of_memory(self, decoder: SimulatedWorker) -> None:
        """All pages in the decoder lose this attempt."""
        for key, attempt in decoder.held.items():
            self._say(decoder, RequestFailed(key, attempt, ErrorCode.OOM, "not enough memory"))
        decoder.held.clear()

    def _page_of(self, request_id: int) -> int | None:
        """The page behind a request, while the coordinator knows it."""
        request = self._core.ledger.requests.get(request_id)
        return request.submit.page_index if request else None
