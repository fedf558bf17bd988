"""The promises of the runtime about its processes and about swaps; see ``simulation.py``.

The checks count by themselves, from commands and processes, so that a supervisor that counts wrongly is noticed.
"""

import signal
from dataclasses import dataclass, field

from dotsctl.client.runtime.delivery import Abandon, Release, Signal, Spawn, ToWorker
from dotsctl.client.runtime.machine import RuntimeMachine
from dotsctl.client.runtime.request import RequestState
from dotsctl.client.runtime.supervisor import COOL_DOWN, KILL_WAIT_S, MAX_BACKOFF_S, STOP_GRACE_S, TRACEBACK_S
from dotsctl.client.runtime.worker_slots import WorkerSlot
from dotsctl.client.runtime.worker_table import LEAVING, WorkerState
from dotsctl.protocol.messages import Configure, Encode
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.shell import START_AGAIN
from dotsctl.tools.dev.chaos.promises import BrokenPromise
from dotsctl.tools.dev.chaos.schedule_plan import Clock, SchedulePlan, TrialEnd
from dotsctl.tools.dev.chaos.simulated_workers import (
    TRIAL_OPTION,
    SimulatedProcess,
    SimulatedWorkers,
)

LATE_MESSAGE_S = 1.0
LATE_S = 3.0
"""Time within which the runtime must do what is due; it looks once a second, and when something happens."""


FINAL = (TrialEnd.REFUSES, TrialEnd.EXITS, TrialEnd.HANGS)
"""Ends of a load after which no other process is started."""


@dataclass
class Deaths:
    """The deaths of one slot since the last page that was settled."""

    in_row: int = 0
    restart_from: float | None = None
    """Time before which the next process must not be started; none: no restart is planned."""


@dataclass
class SupervisionPromises:
    """Processes are started, restarted, killed and released as promised."""

    plan: SchedulePlan
    clock: Clock
    machine: RuntimeMachine
    workers: SimulatedWorkers
    deaths: dict[WorkerSlot, Deaths] = field(default_factory=dict)
    has_slept: bool = False
    _has_failed: bool = False
    """Whether the processes of a slot died too often in a row."""
    _settled: int = 0
    _failed_for_good: set[WorkerSlot] = field(default_factory=set)
    """Slots whose process reported that it cannot be loaded."""
    _asked_at: dict[tuple[Role, int], float] = field(default_factory=dict)
    """Times of the requests for a traceback."""
    _released_at: dict[tuple[Role, int], float] = field(default_factory=dict)
    _killed_at: dict[tuple[Role, int], float] = field(default_factory=dict)
    _killed_in_slot: dict[tuple[Role, int], WorkerSlot] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.deaths = {slot: Deaths() for slot in self.plan.slots}
        self.workers.exited = self.exited

    # --- commands ----------------------------------------------------------------------------------------------------

    def spawn(self, command: Spawn) -> None:
        """A process is to be started."""
        worker = self.machine.table.find(command.slot.role, command.epoch)
        if self.machine.ending.is_complete and not self.plan.unstartable:
            raise BrokenPromise(f"{command.slot} is started although the runtime has ended")
        if worker is not None and worker.state is WorkerState.TRIAL:
            return
        if command.slot in self._failed_for_good:
            raise BrokenPromise(f"{command.slot} is started again, and no start helps against its fault")
        rival = self._in_slot(command.slot)
        if rival is not None:
            raise BrokenPromise(f"{command.slot} is started while its process of epoch {rival.epoch} runs")
        deaths = self.deaths[command.slot]
        if deaths.restart_from is not None and self.clock.now < deaths.restart_from - 1e-6:
            early_s = deaths.restart_from - self.clock.now
            raise BrokenPromise(f"{command.slot} is started {early_s:.3f} s before its pause is over")
        deaths.restart_from = None

    def _in_slot(self, slot: WorkerSlot) -> SimulatedProcess | None:
        """The running process that the runtime must release before it starts another one in a slot."""
        for process in self.workers.processes.values():
            row = self.machine.table.find(*process.name)
            is_leaving = process.is_released or (row is not None and row.state in LEAVING)
            if process.slot == slot and process.alive and not is_leaving and process.name not in self._killed_at:
                return process
        return None

    def signal(self, command: Signal, process: SimulatedProcess) -> None:
        """A signal is sent to a process."""
        now = self.clock.now
        if command.number != signal.SIGKILL:
            if not process.has_greeted:
                raise BrokenPromise(f"{process.slot} gets a request for a traceback before it can write one")
            self._asked_at[process.name] = now
            return
        self._killed_at[process.name] = now
        row = self.machine.table.find(*process.name)
        if row is not None and row.state not in LEAVING:
            self._killed_in_slot[process.name] = process.slot
        asked_at = self._asked_at.get(process.name)
        if asked_at is not None and now < asked_at + TRACEBACK_S - 1e-6:
            raise BrokenPromise(f"{process.slot} is killed {now - asked_at:.3f} s after its traceback was requested")
        if reason := self._innocence(process):
            raise BrokenPromise(f"{process.slot} (epoch {process.epoch}) is killed: {reason}")

    def _innocence(self, process: SimulatedProcess) -> str:
        """Return why a process must not be killed; empty: there may be a reason to."""
        now = self.clock.now
        released_at = self._released_at.get(process.name)
        if released_at is not None and now < released_at + STOP_GRACE_S - 1e-6 and process.stopped_at is None:
            return f"it was requested to stop {now - released_at:.1f} s ago"
        is_doubtful = self.plan.loss or self.plan.alternative or process.hangs or released_at is not None
        if is_doubtful or process.trial is not TrialEnd.SOUND or not process.alive:
            return ""
        if process.stopped_at is None:
            return "nothing is wrong with it"
        stopped_s = now - process.stopped_at
        return "" if stopped_s >= self.machine.config.stopped_timeout_s else f"it is stopped for only {stopped_s:.1f} s"

    def release(self, command: Release) -> None:
        """The lifeline of a process is closed."""
        self._released_at[command.role, command.epoch] = self.clock.now
        for request in self.machine.core.ledger.in_flight():
            is_with_it = request.state in (RequestState.ENCODING, RequestState.SENT)
            if command.role is Role.ENCODER and request.encoder_epoch == command.epoch and is_with_it:
                raise BrokenPromise(f"encoder {command.epoch} is released with request {request.request_id}")

    def abandon(self, command: Abandon, process: SimulatedProcess | None) -> None:
        """A process is left alone."""
        killed_at = self._killed_at.get((command.role, command.epoch))
        if killed_at is None or self.clock.now < killed_at + KILL_WAIT_S - 1e-6:
            raise BrokenPromise(f"{command.role} {command.epoch} is left alone although it was not killed long ago")
        if process is not None:
            self._died(process, process.name in self._killed_in_slot)  # its row has the next process by now

    # --- what happens ------------------------------------------------------------------------------------------------

    def exited(self, process: SimulatedProcess, code: int) -> None:
        """The end of a process is about to be reported."""
        row = self.machine.table.find(*process.name)
        if row is None or not row.is_alive:
            raise BrokenPromise(f"{process.slot} (epoch {process.epoch}) ran and the runtime had forgotten it")
        self._died(process, row.state not in LEAVING, is_gpu_fault=code == START_AGAIN)
        if row.state not in LEAVING and process.trial in FINAL and process.has_failed:
            self._failed_for_good.add(process.slot)

    def _died(self, process: SimulatedProcess, is_in_slot: bool, *, is_gpu_fault: bool = False) -> None:
        if not is_in_slot or process.is_released:
            return
        deaths, config = self.deaths[process.slot], self.machine.config
        deaths.in_row += 1
        self._has_failed = self._has_failed or deaths.in_row >= config.max_starts
        pause = 0.0 if deaths.in_row == 1 else min(MAX_BACKOFF_S, config.backoff_s * 2 ** (deaths.in_row - 2))
        cool_down = COOL_DOWN * config.backoff_s if is_gpu_fault else 0.0
        deaths.restart_from = self.clock.now + min(MAX_BACKOFF_S, max(pause, cool_down))

    def replaced(self, index: int) -> None:
        """Note that another encoder has a slot: deaths of the old one do not count against it."""
        slot = WorkerSlot(Role.ENCODER, index)
        self.deaths[slot] = Deaths()
        self._killed_in_slot = {name: other for name, other in self._killed_in_slot.items() if other != slot}
        self._failed_for_good.discard(slot)

    def after_turn(self) -> None:
        """Check what must hold after every turn of the loop."""
        machine, now = self.machine, self.clock.now
        if machine.core.outcomes.settled != self._settled:
            self._settled = machine.core.outcomes.settled
            for deaths in self.deaths.values():
                deaths.in_row = 0
        if machine.ending.bye is not None and machine.ending.bye.exit_code:
            return
        known = {(row.role, row.epoch) for row in machine.table if row.is_alive}
        if known != self.workers.processes.keys():
            raise BrokenPromise(f"processes {list(self.workers.processes)} run, and the runtime knows {list(known)}")
        for slot, deaths in self.deaths.items():
            is_due = deaths.restart_from is not None and now > deaths.restart_from + LATE_S
            if is_due and not machine.ending.is_complete and machine.table.in_slot(slot).state is WorkerState.BACKOFF:
                raise BrokenPromise(f"{slot} is not started again {now - (deaths.restart_from or now):.1f} s late")
            if deaths.in_row >= machine.config.max_starts and self.plan.alternative is None:
                raise BrokenPromise(f"{slot} died {deaths.in_row} times in a row and is started again")
        for process in self.workers.processes.values():
            self._check_process(process)

    def _check_process(self, process: SimulatedProcess) -> None:
        """Check that no process stays stopped, or stays after it was released."""
        now, config = self.clock.now, self.machine.config
        limit_s = config.stopped_timeout_s + LATE_S + KILL_WAIT_S
        if self.has_slept or not process.alive:
            return
        if process.stopped_at is not None and now > process.last_stop_at + limit_s:
            raise BrokenPromise(f"{process.slot} is stopped for {now - process.last_stop_at:.1f} s and still there")
        released_at = self._released_at.get(process.name)
        if released_at is not None and now > released_at + STOP_GRACE_S + LATE_S + KILL_WAIT_S:
            raise BrokenPromise(f"{process.slot} is still there {now - released_at:.1f} s after it was let go")

    def may_have_failed(self) -> bool:
        """Return whether the runtime has a reason to end with an error; pages that kill their worker are none."""
        plan = self.plan
        # A message that comes long after its sender's death no longer identifies which page the sender had.
        is_blind = plan.loss or plan.delay_s > LATE_MESSAGE_S
        is_disturbed = is_blind or plan.deaths or plan.load_deaths or plan.stops or plan.is_undead or plan.alternative
        return bool((self._has_failed and is_disturbed) or plan.unstartable or plan.bad_load)


@dataclass
class SwapPromises:
    """Encoders are replaced as promised."""

    plan: SchedulePlan
    machine: RuntimeMachine
    workers: SimulatedWorkers
    names: list[str] = field(default_factory=list)
    """The encoders that pages go to, as reported to clients."""
    num_answers: int = 0

    def answered(self, swapped: bool, name: str) -> int | None:
        """Check the report to a client of how its swap ended; return the slot that changed, or none."""
        self.num_answers += 1
        if not swapped:
            if name not in self.names:
                raise BrokenPromise(f"{name} is said to go on; pages go to {self.names}")
            return None
        if f"{TRIAL_OPTION}={TrialEnd.SOUND}" not in name:
            raise BrokenPromise(f"a swap to {name}, which cannot be loaded, is reported as done")
        changed = [index for index, now in enumerate(self.machine.core.encoder_names) if now == name]
        if not changed:
            raise BrokenPromise(f"a swap to {name} is reported as done, and no slot has it")
        self.names[changed[0]] = name
        return changed[0]

    def tell(self, command: ToWorker) -> None:
        """Check that a worker receives what to load, or a page."""
        process = self.workers.processes.get((command.role, command.epoch))
        if command.role is not Role.ENCODER or process is None:
            return
        index = process.slot.index
        row = self.machine.table.find(command.role, command.epoch)
        if isinstance(command.message, Configure) and row is not None and row.state is not WorkerState.TRIAL:
            choice = str(self.machine.config.encoders[index])
            if choice != self.machine.core.encoder_names[index]:
                raise BrokenPromise(f"a process for {self.machine.core.encoder_names[index]} is told to load {choice}")
        ledger = self.machine.core.ledger
        is_page = isinstance(command.message, Encode) and command.message.request_id in ledger.requests
        if is_page and process.choice != self.machine.core.encoder_names[index]:
            raise BrokenPromise(f"a page for {self.machine.core.encoder_names[index]} goes to {process.choice}")

    def after_turn(self) -> None:
        """Check what must hold after every turn of the loop."""
        trials = [row for row in self.machine.table if row.state is WorkerState.TRIAL]
        if len(trials) > 1 or any(row.trial is None or row.ready is not None for row in trials):
            raise BrokenPromise(f"{len(trials)} encoders are on trial, or one of them has pages")

    def settled(self, asked: int) -> None:
        """Check the end of a schedule: every swap was answered, and no encoder is on trial or left over."""
        if self.num_answers != asked:
            raise BrokenPromise(f"{asked} swaps were asked for and {self.num_answers} answered")
        left = [row.slot for row in self.machine.table if row.state in LEAVING]
        if left:
            raise BrokenPromise(f"{left} are left over from a swap")
