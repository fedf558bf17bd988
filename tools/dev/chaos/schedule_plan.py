"""The random choices at the start of a simulated schedule, and its clock."""

import heapq
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import count

from dotsctl.client.runtime.worker_slots import DECODER, WorkerSlot
from dotsctl.protocol.parts import Device, Role

FOREVER_S = float("inf")
LONG_DELAY_S = 2.0
"""Longest delay of a message, twice the time of a page."""
MAX_STARTS = 5


class Alternative(StrEnum):
    """The behaviour of the second of two encoders between which the coordinator chooses."""

    SOUND = "sound"
    SLOW = "slow"
    """Pages take ten times as long."""
    REFUSES = "refuses"
    """It cannot be loaded."""
    EXITS = "exits"
    """Its process ends itself with an exit code: another one would do the same."""
    DIES = "dies"
    """Every page kills it."""
    NEVER_LOADS = "never loads"
    """It dies before it is ready, again and again."""
    FAILS = "fails"
    """It fails with every page and continues."""
    SHRINKS = "shrinks"
    """Every page loses more of its resolution than was foreseen."""


class TrialEnd(StrEnum):
    """The behaviour of an encoder on trial, for a swap, or of a process that cannot be loaded."""

    SOUND = "sound"
    REFUSES = "refuses"
    EXITS = "exits"
    """Its process ends itself with an exit code: another one would do the same."""
    DIES = "dies"
    HANGS = "hangs"
    FOREIGN = "foreign"
    """It has another model than the decoder."""


class Clock:
    """Simulated time, and what is to happen when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, delay_s: float, event: Callable[[], None]) -> None:
        """Have something happen ``delay_s`` seconds from now."""
        heapq.heappush(self._events, (self.now + delay_s, next(self._order), event))

    def step(self, due: float) -> None:
        """Advance to the next event and let it happen, or to the time ``due`` if that is earlier."""
        if not self._events or self._events[0][0] > due:
            self.now = max(self.now, due)
            return
        self.now, _, event = heapq.heappop(self._events)
        event()

    def sleep(self, duration_s: float) -> None:
        """Let the machine sleep: the clock advances, and everything else happens so much later."""
        self.now += duration_s
        self._events = [(at + duration_s, number, event) for at, number, event in self._events]


@dataclass
class SchedulePlan:
    """All that happens in a schedule, but for its random delays."""

    clients: int
    pages: int
    loss: float
    """Share of messages about pages between runtime and workers that never arrive."""
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
    swaps: list[TrialEnd]
    """Other encoders that are requested."""
    encoders: int
    """The number of encoders that run at the same time; pages request one of them."""
    hungry: set[int]
    """Pages for which the decoder's memory suffices only when they are alone in it."""
    alternative: Alternative | None
    """Behaviour of the second encoder where the coordinator chooses; none: pages request an encoder."""
    large: set[int]
    """Pages that do not fit the alternative."""
    stops: list[float]
    """Seconds for which processes are stopped (SIGSTOP)."""
    load_deaths: dict[WorkerSlot, int]
    """Number of processes of a slot that die while they load, one after another."""
    bad_load: tuple[WorkerSlot, TrialEnd] | None
    """The failure of a process of a slot to load for good, if one fails."""
    credit_bytes: int
    """Bytes of embeddings that may be outstanding."""
    has_stubborn_ends: bool
    """Whether processes that were requested to stop do not end by themselves."""
    is_undead: bool
    """Whether SIGKILL does not end the first process that gets one."""
    unstartable: int
    """Number of the process that cannot be started; 0: all can."""
    slow_reads: list[float]
    """Seconds for which clients read no messages."""
    signals: list[tuple[float, int]]
    """Times and numbers of the signals to the runtime."""
    sleep_at: float
    """The time at which the complete machine sleeps; infinite: never."""
    reads_pages: bool
    """Whether workers must read the readiness page before they get pages of clients."""
    streaming: float
    """Share of the pages whose client gets the text while it is decoded."""
    gpu_faults: list[float]
    """Times at which macOS ends or refuses the work of some process on the GPU."""
    decoder_device: Device
    encoder_device: Device

    @property
    def slots(self) -> list[WorkerSlot]:
        """All slots."""
        return [*(WorkerSlot(Role.ENCODER, index) for index in range(self.encoders)), DECODER]

    @classmethod
    def draw(cls, rng: random.Random) -> "SchedulePlan":
        """A plan of any kind, calm ones included."""
        alternative = rng.choice(list(Alternative)) if rng.random() < 0.1 else None
        is_comparable = alternative in (Alternative.SOUND, Alternative.SLOW)
        clients, pages = rng.randint(1, 3), rng.randint(1, 12 if is_comparable else 5)
        encoders = 2 if alternative else rng.choice((1, 1, 2))

        def some_page(share: float) -> set[int]:
            return {rng.randrange(clients * pages)} if rng.random() < share else set()

        killers = some_page(0.2)
        return cls(
            clients=clients,
            pages=pages,
            loss=rng.choice((0.0, 0.0, 0.02, 0.1)),
            delay_s=rng.choice((0.001, 0.05, LONG_DELAY_S)),
            reorder=rng.random() < 0.5,
            deaths=rng.choice((0, 0, 1, 3, 6)),
            killers=killers,
            killed_role=rng.choice(list(Role)),
            batch=rng.choice((1, 2, 8)),
            cancels=rng.choice((0, 0, 0, 2)),
            leaving=rng.choice((0, 0, 0, 1)) if clients > 1 else 0,
            blank=some_page(0.2) - killers,
            swaps=_swaps(rng),
            encoders=encoders,
            hungry=some_page(0.2),
            alternative=alternative,
            large={page for page in range(clients * pages) if rng.random() < 0.2} if alternative else set(),
            stops=[rng.choice((0.5, 5.0, FOREVER_S)) for _ in range(rng.choice((0, 0, 0, 1, 2)))],
            load_deaths=_load_deaths(rng, encoders),
            bad_load=_bad_load(rng, encoders),
            credit_bytes=rng.choice((1 << 30, 1 << 30, 10_000)),
            has_stubborn_ends=rng.random() < 0.1,
            is_undead=rng.random() < 0.05,
            unstartable=rng.randint(1, 6) if rng.random() < 0.03 else 0,
            slow_reads=[rng.uniform(0.5, 40) for _ in range(rng.choice((0, 0, 1, 2)))],
            signals=_signals(rng),
            sleep_at=rng.uniform(0, 20) if rng.random() < 0.05 else FOREVER_S,
            reads_pages=rng.random() < 0.3,
            streaming=rng.choice((0.0, 0.0, 0.2, 1.0)),
            gpu_faults=[rng.uniform(0, 20) for _ in range(rng.choice((0, 0, 0, 1, 2)))],
            decoder_device=rng.choice((Device.CPU, Device.GPU)),
            encoder_device=rng.choice((Device.CPU, Device.GPU, Device.NE)),
        )


def _swaps(rng: random.Random) -> list[TrialEnd]:
    kinds = [TrialEnd.SOUND, TrialEnd.SOUND, *TrialEnd]
    return [rng.choice(kinds) for _ in range(rng.choice((0, 0, 1, 3)))]


def _load_deaths(rng: random.Random, encoders: int) -> dict[WorkerSlot, int]:
    if rng.random() > 0.15:
        return {}
    slot = rng.choice([WorkerSlot(Role.ENCODER, rng.randrange(encoders)), DECODER])
    return {slot: rng.choice((1, 2, 3, MAX_STARTS - 1, MAX_STARTS))}


def _bad_load(rng: random.Random, encoders: int) -> tuple[WorkerSlot, TrialEnd] | None:
    if rng.random() > 0.04:
        return None
    slot = rng.choice([WorkerSlot(Role.ENCODER, rng.randrange(encoders)), DECODER])
    return slot, rng.choice((TrialEnd.REFUSES, TrialEnd.EXITS, TrialEnd.HANGS, TrialEnd.FOREIGN))


def _signals(rng: random.Random) -> list[tuple[float, int]]:
    if rng.random() > 0.2:
        return []
    first, between = rng.uniform(0, 15), rng.choice((0.0, 0.1, 5.0))
    ordinary = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    kinds = rng.choice(((0,), (0, 0), (1,)))  # once, twice, or one that ends at once
    return [
        (first + number * between, signal.SIGQUIT if kind else rng.choice(ordinary))
        for number, kind in enumerate(kinds)
    ]
