"""The one table of workers: each process of the runtime, and each slot that waits for one. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from dotsctl.client.runtime.worker_slots import DECODER, WorkerSlot, identity_of
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.protocol.messages import Ready
from dotsctl.protocol.parts import Role


class WorkerState(StrEnum):
    """Life of a worker."""

    DORMANT = "dormant"
    """The worker is not started, because nothing needs it."""
    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    BACKOFF = "backoff"
    """Its process has ended; another one is started when the pause is over."""
    FATAL = "fatal"
    """Failed for good: no process is started in this slot again."""
    TRIAL = "on trial"
    """An encoder that is to replace the one in its slot, and loads."""
    RETIRING = "retiring"
    """Replaced or not needed: it finishes its pages, and then ends."""
    SUSPECTED = "suspected"
    """The kernel has stopped the process, whatever it was about to do; only in reports."""


LEAVING = (WorkerState.TRIAL, WorkerState.RETIRING)
"""States outside of the slot; such a worker is not started again when it dies."""


@dataclass(frozen=True)
class SwapTrial:
    """The reason why an encoder is on trial."""

    client: bytes
    """The client that requested it."""
    choice: PluginChoice


@dataclass(eq=False)
class Worker:
    """One row: a slot with the process that fills it at the moment, or an additional process."""

    slot: WorkerSlot
    state: WorkerState = WorkerState.DORMANT
    epoch: int = 0
    is_alive: bool = False
    """Whether the process of this epoch runs."""
    has_greeted: bool = False
    """Whether the present process has sent its hello; before, a signal for a traceback would end it."""
    starts: int = 0
    """Processes so far."""
    load_progress_at: float = 0.0
    """Last sign of life while it loads."""
    start_at: float = 0.0
    """The time to start it again, in BACKOFF."""
    failures: int = 0
    """Deaths in a row without a finished page between them."""
    gpu_faults: int = 0
    """Processes in a row that ended because macOS ended or refused their work on the GPU."""
    last_exit: str = ""
    ended_for: str = ""
    """The reason why we ended the present process, or the last one; empty: it died by itself."""
    kill_at: float | None = None
    """The time when SIGKILL follows the request to end; infinite: it was sent."""
    undead_at: float | None = None
    """The time when a process that SIGKILL did not end is given up."""
    stopped_at: float | None = None
    """The time since which the process is stopped; none: it is not."""
    was_stopped: bool = False
    """Whether the last process was ended because it stayed stopped, so that no page is suspected."""
    was_ready: bool = False
    """Whether the present process, or the last one, came through its load."""
    failed_loading: bool = False
    """Whether the last process hung while it loaded, or ended itself with an exit code: another one would do the same.
    A signal may come from outside, as when memory runs out."""
    is_leaving: bool = False
    """Whether the process was requested to stop or is being killed."""
    verdict: str = ""
    """The reason why it is given up, in FATAL."""
    log: Path = field(default_factory=Path)
    trial: SwapTrial | None = None
    """Set exactly in TRIAL."""
    ready: Ready | None = None
    """The report of the process when it was ready; none: no page may be sent to it or comes from it."""
    since: float = 0.0
    """The time when it became ready."""
    progress_at: float = 0.0
    """The time when it last reported something about a request, or had no work."""
    busy_s: float = 0.0
    """Time with work since it became ready."""
    readiness: str = ""
    """The verdict on the readiness page of the present process; empty: there is none."""
    readiness_at: float = 0.0
    """The time of that verdict."""
    warning: str = ""
    """The doubt that the readiness page raised; goes into the results of its pages."""
    name: str = ""
    """Plugin and options of the process, once it is ready."""

    @property
    def role(self) -> Role:
        """The role of its slot."""
        return self.slot.role

    @property
    def is_retired(self) -> bool:
        """Return whether it is in no slot and will not get one: what it still says counts no more."""
        return self.state in LEAVING and self.trial is None

    @property
    def is_loading(self) -> bool:
        """Return whether a process runs that is not ready yet and is not being ended."""
        is_before_ready = self.state in (WorkerState.STARTING, WorkerState.LOADING, WorkerState.TRIAL)
        return is_before_ready and self.is_alive and not self.is_leaving


class WorkerTable:
    """All workers. Every slot has exactly one row that is in it; others are on trial or retiring."""

    def __init__(self, encoders: int) -> None:
        """Begin with one dormant worker a slot."""
        self.slots = (*(WorkerSlot(Role.ENCODER, index) for index in range(encoders)), DECODER)
        self.rows = [Worker(slot) for slot in self.slots]
        self._epochs = dict.fromkeys(Role, 0)

    def __iter__(self) -> Iterator[Worker]:
        return iter(list(self.rows))

    def in_slot(self, slot: WorkerSlot) -> Worker:
        """The worker of a slot."""
        return next(worker for worker in self.rows if worker.slot == slot and worker.state not in LEAVING)

    def find(self, role: Role, epoch: int) -> Worker | None:
        """Return the worker of a role whose present or last process has this epoch."""
        return next((worker for worker in self.rows if (worker.role, worker.epoch) == (role, epoch)), None)

    def by_identity(self, identity: bytes) -> Worker | None:
        """Return the worker whose running process has this name on the control socket."""
        return next((w for w in self.rows if w.is_alive and identity_of(w.role, w.epoch) == identity), None)

    @property
    def serving(self) -> list[Worker]:
        """The workers that answer for pages, those included that are retiring."""
        return [worker for worker in self.rows if worker.ready is not None]

    @property
    def ready(self) -> dict[WorkerSlot, Worker]:
        """The workers that new pages go to."""
        return {worker.slot: worker for worker in self.serving if worker.state is WorkerState.READY}

    @property
    def retiring(self) -> list[Worker]:
        """Return the workers that retire and were not requested to stop yet."""
        return [w for w in self.rows if w.state is WorkerState.RETIRING and w.is_alive and not w.is_leaving]

    @property
    def on_trial(self) -> Worker | None:
        """The encoder that is to replace another one, if there is one."""
        return next((worker for worker in self.rows if worker.state is WorkerState.TRIAL), None)

    def launch(self, slot: WorkerSlot, trial: SwapTrial | None = None) -> Worker:
        """Record a process started in a slot, or an additional one for a trial; one still in the slot retires."""
        if trial is not None:
            worker = Worker(slot, WorkerState.TRIAL, trial=trial)
            self.rows.append(worker)
        else:
            if self.in_slot(slot).is_alive:
                self.vacate(slot)
            worker = self.in_slot(slot)
            worker.state = WorkerState.STARTING
        worker.epoch = self._epochs[slot.role] = self._epochs[slot.role] + 1
        worker.is_alive, worker.has_greeted, worker.is_leaving = True, False, False
        worker.starts += 1
        worker.ended_for, worker.was_stopped, worker.was_ready = "", False, False
        worker.readiness, worker.warning = "", ""
        return worker

    def vacate(self, slot: WorkerSlot) -> None:
        """The worker of a slot retires; the slot is empty from now on."""
        worker = self.in_slot(slot)
        worker.state = WorkerState.RETIRING
        self.rows.append(Worker(slot, log=worker.log))

    def promote(self, worker: Worker) -> None:
        """The encoder on trial takes its slot; the one that filled it retires if its process runs."""
        old = self.in_slot(worker.slot)
        if old.is_alive:
            old.state = WorkerState.RETIRING
        else:
            self.rows.remove(old)
        worker.state, worker.trial = WorkerState.STARTING, None

    def remove(self, worker: Worker) -> None:
        """Forget a worker that is in no slot."""
        self.rows.remove(worker)
