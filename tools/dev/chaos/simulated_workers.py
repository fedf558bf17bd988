"""The processes of a simulated schedule, what they compute, and the network between them and the runtime."""

import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from dotsctl.client.runtime.delivery import Spawn
from dotsctl.client.runtime.machine import RELEASE, RuntimeMachine
from dotsctl.client.runtime.worker_slots import WorkerSlot, identity_of
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.protocol.messages import (
    CancelRequest,
    Configure,
    Dropped,
    Encode,
    Gather,
    LoadFailed,
    Message,
    Ready,
    Stop,
    WorkerHello,
)
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.shell import START_AGAIN
from dotsctl.tools.dev.chaos.schedule_plan import FOREVER_S, Alternative, Clock, SchedulePlan, TrialEnd
from dotsctl.tools.dev.chaos.simulated_pages import SimulatedPages

BUCKET = 2016
"""Page size of the alternative in patches."""
ALTERNATIVE_SLOT = WorkerSlot(Role.ENCODER, 1)
RESUMED_S = 1.5
"""A process that runs for a shorter time between two stops may be believed to be stopped all the time."""
DYING = (Alternative.DIES, Alternative.NEVER_LOADS)
WIDTH = 8
"""Columns of the embeddings."""
TRIAL_OPTION = "trial"
"""Option of the encoders that swaps request; its value is a :class:`TrialEnd`."""


@dataclass(eq=False)
class SimulatedProcess:
    """One process; what it holds dies with it."""

    slot: WorkerSlot
    epoch: int
    alive: bool = True
    has_greeted: bool = False
    is_ready: bool = False
    is_released: bool = False
    """Whether its lifeline is closed."""
    choice: str = ""
    """Plugin and options that it has to load."""
    trial: TrialEnd = TrialEnd.SOUND
    free_at: float = 0.0
    stopped_at: float | None = None
    """The time since which it is stopped; none: it runs."""
    last_stop_at: float = 0.0
    """Start of the latest stop, however short the one before was over."""
    stopped_before: float = 0.0
    """The time since which it had been stopped when it last resumed."""
    resumed_at: float = float("-inf")
    has_failed: bool = False
    """Whether its load has failed for good."""
    hangs: bool = False
    """Whether it makes no progress with its load and never will."""
    deferred: list[Callable[[], None]] = field(default_factory=list)
    """The work that it does when it resumes."""
    has_read: bool = False
    """Whether it has read a page that is no client's: the readiness page."""
    held: dict[int, int] = field(default_factory=dict)
    """Attempt by request that it has in work."""
    gathers_until: float = 0.0
    """The time until which a decoder waits for more pages."""
    gathered: list[Callable[[], None]] = field(default_factory=list)
    """The passes that a decoder computes when it does not wait any more."""

    @property
    def role(self) -> Role:
        """The role of its slot."""
        return self.slot.role

    @property
    def name(self) -> tuple[Role, int]:
        """Role and epoch."""
        return (self.slot.role, self.epoch)


class SimulatedWorkers:
    """All processes: they load, work, are stopped, die and are reported."""

    def __init__(self, plan: SchedulePlan, rng: random.Random, clock: Clock, machine: RuntimeMachine) -> None:
        self._plan, self._rng, self._clock, self._machine = plan, rng, clock, machine
        self.processes: dict[tuple[Role, int], SimulatedProcess] = {}
        """Every process whose end was not reported."""
        self.num_spawned = 0
        self.real_deaths = 0
        """Deaths of ready workers that a page may have caused. Not those of an alternative that always dies (unless a
        page requested it), of processes that were requested to end, of stopped ones that the runtime ended, and by
        faults of the GPU."""
        self.exited: Callable[[SimulatedProcess, int], None] = lambda process, code: None
        """Called when the end of a process is reported."""
        self._is_undead_due = plan.is_undead
        self._load_deaths = dict(plan.load_deaths)
        self.pages = SimulatedPages(plan, rng, clock, machine, self)
        self._last_arrival: dict[tuple[str, Role, int], float] = {}

    @property
    def now(self) -> float:
        """Simulated seconds since the start."""
        return self._clock.now

    # --- processes ---------------------------------------------------------------------------------------------------

    def spawn(self, command: Spawn) -> None:
        """Start a process; it sends its hello a little later. Raises OSError for the one that cannot be started."""
        self.num_spawned += 1
        if self.num_spawned == self._plan.unstartable:
            raise OSError("no space left on device")
        process = SimulatedProcess(command.slot, command.epoch)
        self.processes[process.name] = process

        def greet() -> None:
            process.has_greeted = True
            self._deliver(process, WorkerHello(process.role, process.epoch, 1, RELEASE))

        self.run(process, self._rng.uniform(0.05, 0.5), greet)

    def behaviour(self, process: SimulatedProcess) -> Alternative | None:
        """Return the behaviour of an encoder that the coordinator may choose."""
        return self._plan.alternative if process.slot == ALTERNATIVE_SLOT else None

    def _load(self, process: SimulatedProcess, configure: Configure) -> None:
        process.choice = str(PluginChoice(configure.plugin, dict(configure.options)))
        process.trial = TrialEnd(configure.options.get(TRIAL_OPTION, self._end_of_load(process)))
        behaviour = self.behaviour(process)
        process.hangs = process.trial is TrialEnd.HANGS

        def loaded() -> None:
            if behaviour is Alternative.REFUSES or process.trial is TrialEnd.REFUSES:
                process.has_failed = True
                self._deliver(process, LoadFailed(7, "told to refuse"))
                self.die(process, 7)
            elif process.trial is TrialEnd.EXITS:
                process.has_failed = True
                self.die(process, 3)
            elif behaviour is Alternative.NEVER_LOADS or process.trial is TrialEnd.DIES:
                self.die(process, -signal.SIGABRT)
            elif self._load_deaths.get(process.slot, 0):
                self._load_deaths[process.slot] -= 1
                self.die(process, -signal.SIGKILL)
            elif not process.hangs:
                process.is_ready = True
                self._deliver(process, self._ready(process))

        self.run(process, self._rng.uniform(0.05, 6 if behaviour else 1.5), loaded)

    def _end_of_load(self, process: SimulatedProcess) -> TrialEnd:
        """Return how a process that is not on trial loads; those of one slot may fail for good."""
        bad = self._plan.bad_load
        is_bad = bad is not None and process.slot == bad[0] and process.epoch > 1
        return bad[1] if bad is not None and is_bad else TrialEnd.SOUND

    def _ready(self, process: SimulatedProcess) -> Ready:
        is_decoder = process.role is Role.DECODER
        batch, endpoint = (self._plan.batch, str(process.epoch)) if is_decoder else (1, "")
        buckets = (BUCKET,) if self.behaviour(process) else ()
        fingerprint = ("0" if process.trial is TrialEnd.FOREIGN else "f") * 64
        reads = self._plan.reads_pages
        device = self._plan.decoder_device if is_decoder else self._plan.encoder_device
        return Ready(fingerprint, WIDTH, endpoint, batch, ("text",), 0.0, buckets, device, reads)

    def kill_any(self) -> None:
        """Let some process die, as the system or a user may kill it."""
        if running := [process for process in self.processes.values() if process.alive]:
            self.die(self._rng.choice(running), -signal.SIGKILL, is_foreign=True)

    def fault_of_gpu(self) -> None:
        """Let some process end because macOS ended or refused its work on the GPU."""
        if running := [p for p in self.processes.values() if p.alive and p.is_ready and p.stopped_at is None]:
            self.die(self._rng.choice(running), START_AGAIN)

    def die(self, process: SimulatedProcess, code: int, *, is_foreign: bool = False) -> None:
        """Let a process end, by a signal that is not of the runtime or otherwise; it notices that a little later."""
        if not process.alive:
            return
        process.alive = False
        is_by_itself = self.behaviour(process) in DYING and not self._has_requested_page(process)
        is_real = process.is_ready and not process.is_released and not is_by_itself and code != START_AGAIN
        self.real_deaths += is_real and (is_foreign or process.stopped_at is None)
        process.held.clear()

        def noticed() -> None:
            if self.processes.pop(process.name, None) is not None:
                self.exited(process, code)
                self._machine.exited(process.role, process.epoch, code, "", self._clock.now)

        self._clock.at(self._rng.uniform(0.001, 0.1), noticed)

    def _has_requested_page(self, process: SimulatedProcess) -> bool:
        """Return whether an encoder has a page that requested it, so that no other encoder takes the page over."""
        requests = map(self._machine.core.ledger.requests.get, process.held)
        return any(request is not None and request.submit.encoder is not None for request in requests)

    def signal(self, process: SimulatedProcess, number: int) -> None:
        """Deliver a signal of the runtime to a process."""
        if number != signal.SIGKILL:
            return
        process.has_failed = process.has_failed or (process.hangs and process.stopped_at is None)
        if self._is_undead_due:
            self._is_undead_due, process.hangs = False, True
            self.stop(process, FOREVER_S)  # it waits for a dead disk, and nothing ends it
        elif not (self._plan.is_undead and process.hangs):
            self.die(process, -number)

    def release(self, process: SimulatedProcess) -> None:
        """Close the lifeline of a process, which then ends, if it does."""
        process.is_released = True
        if not self._plan.has_stubborn_ends:
            self.run(process, self._rng.uniform(0, 1), lambda: self.die(process, 0))

    def stop(self, process: SimulatedProcess, duration_s: float) -> None:
        """Stop a process for a while, as SIGSTOP does."""
        if not process.alive or process.stopped_at is not None:
            return
        is_again = self._clock.now - process.resumed_at < RESUMED_S
        process.stopped_at = process.stopped_before if is_again else self._clock.now
        process.last_stop_at = self._clock.now
        if duration_s < FOREVER_S:
            self._clock.at(duration_s, partial(self._resume, process))

    def stop_any(self, duration_s: float) -> None:
        """Stop some process."""
        if running := [process for process in self.processes.values() if process.alive]:
            self.stop(self._rng.choice(running), duration_s)

    def _resume(self, process: SimulatedProcess) -> None:
        process.stopped_before, process.resumed_at = process.stopped_at or 0.0, self._clock.now
        process.stopped_at = None
        deferred, process.deferred = process.deferred, []
        for event in deferred:
            self.act(process, event)

    @property
    def stopped(self) -> set[tuple[Role, int]]:
        """Names of the processes that are stopped."""
        return {p.name for p in self.processes.values() if p.alive and p.stopped_at is not None}

    def run(self, process: SimulatedProcess, delay_s: float, event: Callable[[], None]) -> None:
        """Let a process do something later, unless it is dead by then; a stopped one does it when it resumes."""
        self._clock.at(delay_s, partial(self.act, process, event))

    def act(self, process: SimulatedProcess, event: Callable[[], None]) -> None:
        """Let a process do something now; see :meth:`run`."""
        if process.alive and process.stopped_at is not None:
            process.deferred.append(event)
        elif process.alive:
            event()

    # --- the network -------------------------------------------------------------------------------------------------

    def tell(self, role: Role, epoch: int, message: Message) -> None:
        """Deliver a message of the runtime to a process, if it is still there; those about pages may be lost."""
        process = self.processes.get((role, epoch))
        if process is None or (not isinstance(message, Configure | Stop) and self._rng.random() < self._plan.loss):
            return
        self.run(process, self._delay(("down", role, epoch)), partial(self._work, process, message))

    def _delay(self, channel: tuple[str, Role, int]) -> float:
        """Seconds that a message takes; without reordering it cannot overtake the last one of its channel."""
        arrival = self._clock.now + self._rng.uniform(0, self._plan.delay_s)
        if not self._plan.reorder:
            arrival = self._last_arrival[channel] = max(arrival, self._last_arrival.get(channel, 0.0))
        return arrival - self._clock.now

    def say(self, process: SimulatedProcess, message: Message) -> None:
        """Send a message about a page to the runtime; what was sent arrives even when the sender has died since."""
        if process.alive and self._rng.random() >= self._plan.loss:
            self._clock.at(self._delay(("up", process.role, process.epoch)), partial(self._deliver, process, message))

    def _deliver(self, process: SimulatedProcess, message: Message) -> None:
        self._machine.from_worker(identity_of(process.role, process.epoch), message, self._clock.now)

    def _work(self, process: SimulatedProcess, message: Message) -> None:
        match message:
            case Configure():
                self._load(process, message)
            case Encode():
                self.pages.encode(process, message)
            case Gather():
                self.pages.gather(process, message.for_s)
            case CancelRequest():
                if process.held.get(message.request_id) == message.attempt:
                    del process.held[message.request_id]
                    if process.role is Role.ENCODER:
                        self.say(process, Dropped(message.request_id, message.attempt))
