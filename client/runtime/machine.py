"""The complete runtime as one state machine: coordinator, supervisor, swaps and the end. Pure.

Events go in with their time, commands come out. There are no sockets, processes or clock here; ``loop.py`` has those,
and the simulation in ``tools/dev/chaos`` plays them.
"""

import logging
from collections.abc import Sequence, Set
from pathlib import Path

from dotsctl import __version__
from dotsctl.client.runtime.auto import auto_choice
from dotsctl.client.runtime.core import Coordinator
from dotsctl.client.runtime.delivery import (
    Announce,
    Command,
    Compared,
    GiveUp,
    Kill,
    ReportStatus,
    Retire,
    ToClient,
    ToWorker,
    Wake,
)
from dotsctl.client.runtime.ending import MAX_REASON_CHARACTERS, Ending
from dotsctl.client.runtime.ledger import Ledger
from dotsctl.client.runtime.one_model import Model
from dotsctl.client.runtime.readiness import Outcome, Readiness
from dotsctl.client.runtime.readiness_page import Judgement
from dotsctl.client.runtime.supervisor import Supervisor
from dotsctl.client.runtime.swap import EncoderSwaps
from dotsctl.client.runtime.timeouts import LONGEST_TICK_S
from dotsctl.client.runtime.views import Limits
from dotsctl.client.runtime.welcome import welcome_of
from dotsctl.client.runtime.worker_process import last_location
from dotsctl.client.runtime.worker_slots import DECODER
from dotsctl.client.runtime.worker_table import LEAVING, Worker, WorkerState
from dotsctl.client.settings.runtime_config import (
    RuntimeConfig,
    decoder_options,
    encoder_options,
    with_encoder,
)
from dotsctl.protocol import is_release, release
from dotsctl.protocol.codec import Buffer
from dotsctl.protocol.errors import OTHER_VERSION, ErrorCode, ExitCode
from dotsctl.protocol.messages import (
    Bye,
    CancelJob,
    ClientHello,
    Configure,
    HintPage,
    LoadFailed,
    Loading,
    Message,
    Ready,
    Refused,
    StatusRequest,
    Stop,
    Submit,
    SwapEncoder,
    WorkerHello,
)
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.shell import START_AGAIN

log = logging.getLogger(__name__)

TICK_S = 1.0
NOT_READ = (
    "the weights are damaged or do not fit together; download the model again with 'dotsctl pull --force', or skip the "
    "page with --no-readiness-page (random weights)"
)
"""Remedy where a model does not read the readiness page."""
RELEASE = release(__version__)


class RuntimeMachine:
    """One instance, from its first worker to its last page."""

    def __init__(self, config: RuntimeConfig, log_folder: Path, instance: str, now: float, first_id: int = 1) -> None:
        """Start the workers that are needed first.

        Args:
            config: the plugins and all limits.
            log_folder: the folder of the workers' logs.
            instance: the text that identifies this run of the runtime to clients.
            now: seconds of a monotonic clock.
            first_id: number of the first request.
        """
        self.config, self.instance = config, instance
        limits = Limits(config.credits, config.credit_bytes, config.stall_timeout_s, config.page_timeout_s)
        names = [str(choice) for choice in config.encoders]
        self.core = Coordinator(limits, names, str(config.decoder), Ledger(first_id), auto_choice(config))
        self.table = self.core.table
        self.ending = Ending(self.core)
        self._commands: list[Command] = []
        self._supervisor = Supervisor(self.table, config, log_folder, self._commands)
        self._swaps = EncoderSwaps(self._supervisor, self.core, self._to_client)
        self._readiness = Readiness(
            self.table, self.core.ledger.new_id, is_enabled=config.readiness_page, stall_s=config.stall_timeout_s
        )
        self._waiting: list[bytes] = []
        """Clients that sent their hello before the workers were ready."""
        self._model: Model | None = None
        """The model that all workers have; a worker that comes back with another one is refused."""
        self._settled = 0
        self._ticked = now
        self._was_ready = False
        for slot in self.table.slots:
            if slot == DECODER or self.core.choice.is_started_first(slot.index):
                self._supervisor.start(slot, now)

    # --- queries of the loop -----------------------------------------------------------------------------------------

    def take_commands(self, now: float) -> list[Command]:
        """Commands since the last call, in the order in which they are to be carried out."""
        for command in [*self.core.take_commands(), *self._readiness.take_commands()]:
            match command:
                case Kill():
                    log.warning("killing the %s: %s", command.role, command.reason)
                    if worker := self.table.find(command.role, command.epoch):
                        self._supervisor.kill(worker, now, command.reason)
                case Retire():
                    self._commands.append(ToWorker(Role.ENCODER, command.epoch, Stop()))
                    if worker := self.table.find(Role.ENCODER, command.epoch):
                        self._supervisor.retire(worker, now)
                case Wake():
                    log.info("%s is started: %s", command.slot, self.core.encoder_names[command.slot.index])
                    self._supervisor.start(command.slot, now)
                case GiveUp():
                    name = self.core.encoder_names[command.slot.index]
                    log.warning("encoder %s is no longer used: %s", name, command.reason)
                    self._supervisor.give_up(self.table.in_slot(command.slot), command.reason, now)
                case Compared() | ToClient() | ToWorker():
                    self._commands.append(command)
        if not self._was_ready and self.core.all_ready:
            self._was_ready = True
            self._commands.append(Announce())
        commands = list(self._commands)
        self._commands.clear()
        return commands

    @property
    def next_due(self) -> float:
        """Time at which :meth:`advance` or :meth:`tick` has something to do."""
        return min(self.next_tick, self._supervisor.next_due())

    @property
    def next_tick(self) -> float:
        """Time of the next :meth:`tick`."""
        return self._ticked + TICK_S

    # --- time --------------------------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Do what is due: restarts, ends of loads that hang, SIGKILLs."""
        for worker in self._supervisor.undead(now):
            self._ended(worker, None, "", now)
        if self.core.outcomes.settled != self._settled:
            self._settled = self.core.outcomes.settled
            self._supervisor.progress()
        if not self.ending.is_complete:  # while accepted pages are finished, a worker may be needed once more
            self._supervisor.start_due(now)
        if now - self._ticked > LONGEST_TICK_S:  # the machine has slept, or we were stopped
            self._supervisor.restart_after_sleep(now)
        self._supervisor.end_silent_loads(now)
        self._supervisor.kill_due(now)

    def tick(self, stopped: Set[tuple[Role, int]], now: float) -> None:
        """Look for what does not move; to be called about once a second, after :meth:`advance`.

        Args:
            stopped: role and epoch of the processes that the kernel has stopped.
            now: seconds of a monotonic clock.
        """
        self._ticked = now
        self._supervisor.watch_stopped(stopped, now)
        self._settle(self._readiness.tick(now), now)
        self.core.tick(now)

    # --- processes ---------------------------------------------------------------------------------------------------

    def exited(self, role: Role, epoch: int, code: int, tail: str, now: float) -> None:
        """A process has ended, with the last lines of its log."""
        worker = self.table.find(role, epoch)
        if worker is not None and worker.is_alive:
            self._ended(worker, code, tail, now)

    def not_started(self, role: Role, epoch: int, problem: str, now: float) -> None:
        """A process could not be started."""
        worker = self.table.find(role, epoch)
        if worker is None:
            return
        worker.is_alive = False
        if worker.trial is not None:
            self._swaps.not_started(worker, worker.trial, problem, now)
            self.table.remove(worker)
        else:
            self.ending.failed(f"a worker cannot be started: {problem}", ExitCode.COMMAND, now)

    def _ended(self, worker: Worker, code: int | None, tail: str, now: float) -> None:
        """Carry the end of a process through all parts; with no ``code`` it is given up."""
        trial, is_in_slot = worker.trial, worker.state not in LEAVING
        reason = self._supervisor.exit_reason(worker, code)
        log.warning("%s (epoch %d) ended: %s", worker.slot, worker.epoch, reason)
        was_readiness = self._readiness.ended(worker.role, worker.epoch, now)
        is_gpu_fault = code == START_AGAIN
        by_page = not (worker.was_stopped or was_readiness or is_gpu_fault)
        self.core.worker_dead(worker.role, worker.epoch, reason, now, by_page=by_page, is_gpu_fault=is_gpu_fault)
        self._supervisor.ended(worker, code, reason, now)
        if trial is not None:
            self._swaps.died(worker, trial, tail, now)
        elif is_in_slot:
            if worker.role is Role.ENCODER and not worker.was_ready:
                self.core.encoder_died_loading(worker.slot, reason, now)
            if worker.state is WorkerState.FATAL and not self._is_dispensable(worker, now):
                self.ending.failed(self._why_given_up(worker, reason, tail), ExitCode.COMMAND, now)

    def _why_given_up(self, worker: Worker, reason: str, tail: str) -> str:
        """One line where a load failed for good, with the place in the code; else the last lines of the log."""
        name = self.core.decoder_name if worker.slot == DECODER else self.core.encoder_names[worker.slot.index]
        problem = f"{name}: {worker.verdict or f'the {worker.slot} worker ended: {reason}'}"
        if worker.failed_loading:
            return f"{problem}{last_location(tail)}"
        if not tail:
            return f"{problem}. Its log {worker.log} is empty"
        return f"{problem}. Its last lines:\n{tail[-MAX_REASON_CHARACTERS // 2 :]}"

    # --- messages ----------------------------------------------------------------------------------------------------

    def from_client(self, client: bytes, message: Message, buffers: Sequence[Buffer], now: float) -> None:
        """A client has sent a message."""
        match message:
            case ClientHello() if self.core.stopping:
                self._to_client(client, Bye(f"the runtime is stopping: {self.core.stopping}", ExitCode.OK))
            case ClientHello() if is_release(message.version) and message.version != RELEASE:
                text = f"the runtime is dotsctl {RELEASE}, the client is dotsctl {message.version}: {OTHER_VERSION}"
                self._to_client(client, Refused(ErrorCode.PROTO, text))
            case ClientHello():
                self._waiting.append(client)
                self._welcome()
            case Submit():
                self.core.submit(client, message, buffers, now)
            case CancelJob():
                self.core.cancel(client, message, now)
            case HintPage():
                self.core.hint(client, message, now)
            case StatusRequest():
                self._commands.append(ReportStatus(client))
            case SwapEncoder():
                self._swaps.begin(client, message, now)
            case _:
                text = f"{type(message).__name__} is not a message of a client"
                self._to_client(client, Refused(ErrorCode.UNKNOWN_TYPE, text))

    def client_gone(self, client: bytes, now: float) -> None:
        """Handle the end of a client."""
        self._waiting = [waiting for waiting in self._waiting if waiting != client]
        self.core.client_gone(client, now)

    def from_worker(self, identity: bytes, message: Message, now: float) -> None:
        """Handle a message of a worker; those of dead or foreign workers are ignored."""
        worker = self.table.by_identity(identity)
        if worker is None:
            return
        worker.load_progress_at = now
        match message:
            case WorkerHello():
                worker.has_greeted = True
                if worker.state is WorkerState.STARTING:
                    worker.state = WorkerState.LOADING
                if message.version == RELEASE:
                    self._configure(worker)
                else:
                    self._refuse_version(worker, f"the worker is dotsctl {message.version}", now)
            case Loading():
                log.info("%s: %s", worker.slot, message.note)
            case Ready():
                self._ready(worker, message, now)
            case LoadFailed():
                self.failed_for_good(worker, message.message, message.exit_code, now)
            case _:
                outcomes = self._readiness.message(worker.role, worker.epoch, message, now)
                if outcomes is None:
                    self.core.worker_message(worker.role, worker.epoch, message, now)
                else:
                    self._settle(outcomes, now)

    def not_understood(self, identity: bytes, problem: str, now: float) -> None:
        """A worker has sent a message of another version of the protocol."""
        if worker := self.table.by_identity(identity):
            self._refuse_version(worker, problem, now)

    def _refuse_version(self, worker: Worker, problem: str, now: float) -> None:
        self.failed_for_good(
            worker, f"the runtime is dotsctl {RELEASE}, {problem}: {OTHER_VERSION}", ExitCode.COMMAND, now
        )

    def failed_for_good(
        self, worker: Worker, problem: str, exit_code: int, now: float, *, has_loaded: bool = False
    ) -> None:
        """A process has a fault that a restart does not help against: it is not started again.

        A swap fails with it; an encoder that the runtime can do without is not used; else the runtime ends.
        """
        if worker.trial is not None:
            self._swaps.failed(worker, worker.trial, problem, now)
        elif worker.state not in LEAVING:
            worker.state, worker.verdict = WorkerState.FATAL, problem
            if not self._is_dispensable(worker, now):
                what = "" if has_loaded else f"the {worker.slot} worker cannot load: "
                self.ending.failed(f"{what}{problem}", exit_code, now)

    def _configure(self, worker: Worker) -> None:
        """Send a worker what to load."""
        config, index = self.config, worker.slot.index
        if worker.trial is not None:
            config = with_encoder(config, worker.trial.choice, index)
        choice, options = decoder_options(config) if worker.slot == DECODER else encoder_options(config, index)
        if worker.role is Role.ENCODER:
            options = {**options, **self.core.choice.options(index)}
        faults = max(worker.gpu_faults, self.core.gpu_faults)
        configure = Configure(choice.name, options, config.model, config.model_name, config.render_timeout_s, faults)
        self._commands.append(ToWorker(worker.role, worker.epoch, configure))

    def _ready(self, worker: Worker, message: Ready, now: float) -> None:
        """A worker has loaded its model; workers with different models never talk."""
        if worker.is_retired:
            return
        self._model = self._model or Model(worker.slot, message.fingerprint, message.width)
        difference = self._model.difference(message)
        if difference and worker.trial is not None:
            problem = f"{worker.trial.choice} {difference}: it must be converted from the same model"
            self._swaps.failed(worker, worker.trial, problem, now)
        elif difference:
            worker.verdict = (
                f"{ErrorCode.MODEL_MISMATCH}: the {worker.slot} {difference}: stop the runtime and start all workers "
                "with one model"
            )
            if not self._is_dispensable(worker, now):
                self.ending.failed(worker.verdict, ExitCode.COMMAND, now)
        else:
            log.info("%s (epoch %d) loaded after %.1f s", worker.slot, worker.epoch, message.load_s)
            self._settle(self._readiness.loaded(worker, message, now), now)

    def _settle(self, outcomes: list[Outcome], now: float) -> None:
        """Admit or refuse the workers that have read the readiness page, or need not."""
        for outcome in outcomes:
            worker, verdict = outcome.worker, outcome.verdict
            if worker.is_retired:  # another encoder took its slot while it read
                continue
            if verdict.judgement is Judgement.REFUSED:
                self.failed_for_good(worker, f"{verdict.reason}: {NOT_READ}", ExitCode.COMMAND, now, has_loaded=True)
                continue
            if outcome.seconds:
                worker.readiness, worker.readiness_at = f"{verdict.judgement} in {outcome.seconds:.1f} s", now
            if verdict.reason:
                worker.warning = f"the model may not read pages well: {verdict.reason}"
                log.warning("%s: %s", worker.slot, worker.warning)
            self._admit(worker, outcome.ready, now)

    def _admit(self, worker: Worker, ready: Ready, now: float) -> None:
        """Send pages of clients to a worker from now on."""
        if worker.trial is not None:
            choice = worker.trial.choice
            self._swaps.ready(worker, worker.trial, ready, now)
            self.config = with_encoder(self.config, choice, worker.slot.index)
            self._commands.append(Announce())
        else:
            log.info("%s (epoch %d) ready; readiness page: %s", worker.slot, worker.epoch, worker.readiness or "none")
            self.core.worker_ready(worker.slot, worker.epoch, ready, now)
            self._welcome()

    def _is_dispensable(self, worker: Worker, now: float) -> bool:
        """Return whether the runtime can do without a worker that is not started again."""
        reason = worker.verdict or f"it ended: {worker.last_exit}"
        return worker.role is Role.ENCODER and self.core.encoder_lost(worker.slot, reason, now)

    def _welcome(self) -> None:
        if not self.core.all_ready:
            return
        for client in self._waiting:
            self._to_client(client, welcome_of(self.config, self.core, self.instance))
        self._waiting.clear()

    def _to_client(self, client: bytes, message: Message) -> None:
        self._commands.append(ToClient(client, message))
