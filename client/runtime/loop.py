"""Connects the coordinator core to sockets, child processes and the clock. One thread, no model, no numpy."""

import logging
import os
import secrets
import signal
import time
from collections.abc import Callable

from dotsctl.client.config import RuntimeConfig, decoder_options, encoder_options, with_encoder
from dotsctl.client.runtime.auto import auto_choice
from dotsctl.client.runtime.core import Coordinator
from dotsctl.client.runtime.delivery import Compared, GiveUp, Kill, Retire, ToClient, ToWorker, Wake
from dotsctl.client.runtime.ledger import Ledger
from dotsctl.client.runtime.patience import LONGEST_TICK_S
from dotsctl.client.runtime.peers import ClientPeers
from dotsctl.client.runtime.power import SleepPrevention
from dotsctl.client.runtime.reporting import status_of, welcome_of
from dotsctl.client.runtime.seats import DECODER, Seat
from dotsctl.client.runtime.supervisor import STOP_GRACE_S, STOP_NOW_GRACE_S, Supervisor
from dotsctl.client.runtime.swap import EncoderSwaps
from dotsctl.client.runtime.views import Limits
from dotsctl.client.runtime.worker_process import Worker, WorkerState, log_tail
from dotsctl.protocol import codec
from dotsctl.protocol.endpoints import InstanceDirectory, RuntimeFacts
from dotsctl.protocol.errors import ErrorCode, ExitCode, ProtocolError
from dotsctl.protocol.link import Incoming, Links, PeerGoneError
from dotsctl.protocol.machine import this_machine
from dotsctl.protocol.measured_costs import Preference, remember
from dotsctl.protocol.messages import (
    Bye,
    CancelJob,
    ClientHello,
    Configure,
    Encode,
    LoadFailed,
    Loading,
    Ready,
    Refused,
    RequestFailed,
    Shutdown,
    Status,
    StatusRequest,
    Stop,
    Submit,
    SwapEncoder,
    WorkerHello,
)
from dotsctl.protocol.parts import Role

log = logging.getLogger(__name__)

TICK_S = 1.0
BACKLOG_TICK_S = 0.02
KEEP_COSTS_S = 60.0
"""Between two writings of what pages cost."""
BAD_MESSAGES_LOGGED_EVERY_S = 10.0
MAX_REASON_CHARACTERS = 16_000
GOODBYE_S = 0.5
"""For clients to take the last message; a client that does not read must not hold the end up."""


class RuntimeLoop:
    """One instance, from its first socket to its last process."""

    def __init__(
        self, config: RuntimeConfig, directory: InstanceDirectory, supervisor: Supervisor, links: Links
    ) -> None:
        """Bind the sockets; the caller holds the instance's lock."""
        self._config, self._directory, self._supervisor, self._links = config, directory, supervisor, links
        self._clients = links.router(directory.client_endpoint)
        self._workers = links.router(directory.worker_endpoint(os.getpid()))
        limits = Limits(config.credits, config.credit_bytes, config.stall_timeout_s, config.page_timeout_s)
        names = [str(choice) for choice in config.encoders]
        ledger = Ledger(1 + secrets.randbits(48))
        self._core = Coordinator(limits, names, str(config.decoder), ledger, auto_choice(config))
        self._instance = secrets.token_hex(8)
        self._started = self._ticked = self._costs_kept = time.monotonic()
        self._waiting: list[bytes] = []
        """Clients that said hello before the workers were ready."""
        self._peers = ClientPeers(self._clients, self._client_gone)
        self._swaps = EncoderSwaps(supervisor, self._core, self._peers.send)
        self._sleep_prevention = SleepPrevention()
        self._bad_messages = 0
        self._bad_logged = -BAD_MESSAGES_LOGGED_EVERY_S
        self._settled = 0
        self._end: Bye | None = None
        self._end_now = False

    def run(
        self, lifeline: int | None, wakeup: int, signals: Callable[[], list[int]], ready: Callable[[], None]
    ) -> Bye:
        """Serve until the end; every process is gone when this returns.

        Args:
            lifeline: descriptor whose end means that the owner of a private runtime is gone; none for a named one.
            wakeup: descriptor that becomes readable when a signal has come.
            signals: takes the signals that have come.
            ready: called once, when all workers are ready for the first time.
        """
        for seat in self._supervisor.workers:
            if seat == DECODER or self._core.choice.is_started_first(seat.place):
                self._supervisor.start(seat, self._started)
        announced = False
        fds = [wakeup] if lifeline is None else [wakeup, lifeline]
        while not self._finished():
            readable = self._links.wait(self._timeout(), [self._clients, self._workers], fds)
            now = time.monotonic()
            if lifeline in readable and not os.read(lifeline, 1):
                self._stop("the owner of the runtime is gone", now=True)
            if wakeup in readable:
                self._signalled(signals())
            self._drain(self._workers.receive, self._from_worker)
            self._drain(self._clients.receive, self._from_client)
            self._watch_processes(now)
            self._carry_out()
            if not announced and self._core.all_ready:
                announced = True
                self._announce()
                ready()
        return self._shut_down()

    # --- time --------------------------------------------------------------------------------------------------------

    def _timeout(self) -> float:
        """Seconds until something is due."""
        now = time.monotonic()
        due = [self._ticked + TICK_S, self._supervisor.next_due(self._config.load_timeout_s)]
        if self._peers.lagging:
            due.append(now + BACKLOG_TICK_S)
        return max(0.0, min(due) - now)

    def _watch_processes(self, now: float) -> None:
        """Deaths, restarts, loads that hang, and once a second everything that the core looks after by time."""
        for worker, epoch, reason in self._supervisor.reap(now):
            log.warning("%s (epoch %d) ended: %s", worker.seat, epoch, reason)
            self._core.worker_dead(worker.role, epoch, reason, now, by_page=not worker.was_stopped)
            if worker.role is Role.ENCODER and not (worker.was_ready or worker.is_beside):
                self._core.encoder_died_loading(worker.seat, reason, now)
            if self._swaps.choice_of(worker):
                self._swaps.died(worker, reason, now)
            elif worker.state is WorkerState.FATAL and not worker.is_beside and not self._is_dispensable(worker, now):
                self._give_up(worker)
        if self._core.settled != self._settled:
            self._settled = self._core.settled
            self._supervisor.progress()
        if not self._end_now:  # while accepted pages are finished, a worker may be needed once more
            self._start_workers(now)
        if now - self._ticked > LONGEST_TICK_S:  # the machine has slept, or we were stopped
            self._supervisor.forgive_sleep(now)
        self._supervisor.end_silent_loads(now, self._config.load_timeout_s)
        self._supervisor.kill_due(now)
        if now - self._ticked >= TICK_S:
            self._ticked = now
            self._supervisor.watch_stopped(now, self._config.stopped_timeout_s)
            self._core.tick(now)
            self._peers.ping_all()
            self._supervisor.look_after(now)
            if now - self._costs_kept >= KEEP_COSTS_S:
                self._costs_kept = now
                self._keep_costs()
            self._sleep_prevention.update(bool(self._core.ledger.requests), now)

    def _start_workers(self, now: float) -> None:
        try:
            self._supervisor.start_due(now)
        except OSError as error:  # the disk is full, or somebody removed our folders
            self._finish(f"a worker cannot be started: {error}", ExitCode.COMMAND)

    def _start_worker(self, seat: Seat) -> None:
        """Start an encoder that pages need now."""
        log.info("%s is started: %s", seat, self._core.encoder_names[seat.place])
        try:
            self._supervisor.start(seat, time.monotonic())
        except OSError as error:
            self._finish(f"a worker cannot be started: {error}", ExitCode.COMMAND)

    def _remember(self, preference: Preference) -> None:
        """Log a comparison of encoders and keep it for the next start on this machine."""
        log.info("encoder %s %s", preference.encoder, preference)
        decoder = self._core.workers.get(DECODER)
        if decoder is not None and self._config.model:
            remember(decoder.ready.fingerprint, this_machine(), preferences=[preference])

    def _keep_costs(self) -> None:
        """Remember what pages cost on this machine; fakes without a model are no measurement."""
        decoder = self._core.workers.get(DECODER)
        if decoder is not None and self._config.model and not self._core.costs.is_empty:
            remember(decoder.ready.fingerprint, this_machine(), *self._core.costs.take(decoder))

    # --- messages ----------------------------------------------------------------------------------------------------

    def _drain(self, receive: Callable[[], Incoming | None], handle: Callable[[bytes, codec.Decoded], None]) -> None:
        """Handle what has come, but not for ever: the other socket must have its turn."""
        for _ in range(64):
            incoming = receive()
            if incoming is None:
                return
            try:
                handle(incoming.sender, codec.decode(incoming.frames))
            except ProtocolError as error:
                self._refuse(incoming.sender, error, from_client=handle == self._from_client)
            self._carry_out()

    def _refuse(self, sender: bytes, error: ProtocolError, *, from_client: bool) -> None:
        """Count a message that breaks the specification, and tell a client why."""
        self._bad_messages += 1
        now = time.monotonic()
        if now - self._bad_logged > BAD_MESSAGES_LOGGED_EVERY_S:
            self._bad_logged = now
            log.warning("bad message number %d, from %r: %s", self._bad_messages, sender, error)
        if from_client:
            self._peers.send(sender, Refused(error.code, str(error)))

    def _from_client(self, client: bytes, received: codec.Decoded) -> None:
        now, message = time.monotonic(), received.message
        match message:
            case ClientHello() if self._core.stopping:
                self._peers.send(client, Bye(f"the runtime is stopping: {self._core.stopping}", ExitCode.OK))
            case ClientHello():
                self._peers.known.add(client)
                self._waiting.append(client)
                self._welcome()
            case Submit():
                self._peers.known.add(client)
                self._core.submit(client, message, received.buffers, now)
            case CancelJob():
                self._core.cancel(client, message, now)
            case StatusRequest():
                self._peers.send(client, self._status())
            case SwapEncoder():
                self._peers.known.add(client)
                self._swaps.begin(client, message, now)
            case Shutdown():
                self._stop("the runtime was stopped by a client", now=message.now)
            case _:
                text = f"{type(message).__name__} is not a message of a client"
                self._peers.send(client, Refused(ErrorCode.UNKNOWN_TYPE, text))

    def _from_worker(self, identity: bytes, received: codec.Decoded) -> None:
        now, message = time.monotonic(), received.message
        worker = self._supervisor.by_identity(identity)
        if worker is None:
            return  # a process that is dead already, or never was ours
        worker.heard_at = now
        match message:
            case WorkerHello():
                worker.state = WorkerState.LOADING
                self._configure(worker)
            case Loading():
                log.info("%s: %s", worker.seat, message.note)
            case Ready() if self._swaps.choice_of(worker):
                if swapped := self._swaps.ready(worker, message, now):
                    self._config = with_encoder(self._config, swapped, worker.seat.place)
                    self._announce()
            case Ready() if not worker.is_beside:
                self._ready(worker, message, now)
            case Ready():
                pass  # it is about to end
            case LoadFailed() if self._swaps.choice_of(worker):
                self._swaps.failed(message.message, now)
            case LoadFailed():
                worker.state, worker.verdict = WorkerState.FATAL, message.message
                if self._is_dispensable(worker, now):
                    return
                self._finish(f"the {worker.seat} worker cannot load: {message.message}", message.exit_code)
            case _:
                self._core.worker_message(worker.role, worker.epoch, message, now)

    def _configure(self, worker: Worker) -> None:
        """Tell a worker what to load."""
        config, place = self._config, worker.seat.place
        if on_trial := self._swaps.choice_of(worker):
            config = with_encoder(config, on_trial, place)
        choice, options = decoder_options(config) if worker.seat == DECODER else encoder_options(config, place)
        if worker.role is Role.ENCODER:
            options = {**options, **self._core.choice.options(place)}
        configure = Configure(choice.name, options, config.model, config.model_name)
        self._send_worker(ToWorker(worker.role, worker.epoch, configure))

    def _ready(self, worker: Worker, message: Ready, now: float) -> None:
        """A worker is ready; workers with different models never talk."""
        for other in self._core.workers.values():
            if (other.ready.fingerprint, other.ready.width) != (message.fingerprint, message.width):
                worker.verdict = (
                    f"{ErrorCode.MODEL_MISMATCH}: the {worker.seat} has model {message.fingerprint[:12]} of width "
                    f"{message.width}, the {other.seat} {other.ready.fingerprint[:12]} of width {other.ready.width}: "
                    "stop the runtime and start all workers with one model"
                )
                if not self._is_dispensable(worker, now):
                    self._finish(worker.verdict, ExitCode.COMMAND)
                return
        worker.state, worker.was_ready = WorkerState.READY, True
        log.info("%s (epoch %d) ready after %.1f s", worker.seat, worker.epoch, message.load_s)
        self._core.worker_ready(worker.seat, worker.epoch, message, now)
        self._welcome()

    def _is_dispensable(self, worker: Worker, now: float) -> bool:
        """Whether the runtime can do without a worker that is not started again."""
        reason = worker.verdict or f"it ended: {worker.last_exit}"
        return worker.role is Role.ENCODER and self._core.encoder_lost(worker.seat, reason, now)

    def _welcome(self) -> None:
        if not self._core.all_ready:
            return
        for client in self._waiting:
            self._peers.send(client, welcome_of(self._config, self._core, self._instance))
        self._waiting.clear()

    # --- commands ----------------------------------------------------------------------------------------------------

    def _carry_out(self) -> None:
        """Carry out what the core wants, and what clients could not take before."""
        self._peers.flush()
        while commands := self._core.take_commands():
            for command in commands:
                match command:
                    case ToClient():
                        self._peers.send(command.client, command.message)
                    case ToWorker():
                        self._send_worker(command)
                    case Kill():
                        log.warning("killing the %s: %s", command.role, command.reason)
                        if worker := self._supervisor.find(command.role, command.epoch):
                            self._supervisor.kill(worker, time.monotonic(), command.reason)
                    case Retire():
                        self._send_worker(ToWorker(Role.ENCODER, command.epoch, Stop()))
                        if worker := self._supervisor.find(Role.ENCODER, command.epoch):
                            self._supervisor.retire(worker, time.monotonic())
                    case Wake():
                        self._start_worker(command.seat)
                    case GiveUp():
                        name = self._core.encoder_names[command.seat.place]
                        log.warning("encoder %s is not used any more: %s", name, command.reason)
                        self._supervisor.give_up(command.seat, command.reason, time.monotonic())
                    case Compared():
                        self._remember(command.preference)

    def _client_gone(self, client: bytes) -> None:
        self._waiting = [waiting for waiting in self._waiting if waiting != client]
        self._core.client_gone(client, time.monotonic())

    def _send_worker(self, command: ToWorker) -> None:
        worker = self._supervisor.find(command.role, command.epoch)
        if worker is None:
            return
        message = command.message
        try:
            self._workers.send(codec.encode(message, command.buffers), worker.identity.encode())
        except PeerGoneError:
            return  # noticed by its process or its silence; both give its pages a new attempt
        except ProtocolError as error:
            if not isinstance(message, Encode):
                raise
            failed = RequestFailed(message.request_id, message.attempt, error.code, str(error))
            self._core.worker_message(command.role, command.epoch, failed, time.monotonic())

    # --- the end -----------------------------------------------------------------------------------------------------

    def _signalled(self, numbers: list[int]) -> None:
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
                at_once = bool(self._core.stopping) or number == signal.SIGQUIT
                self._stop(f"the runtime was stopped by {signal.Signals(number).name}", now=at_once)

    def _stop(self, reason: str, *, now: bool) -> None:
        """Finish the accepted pages and end; or end now."""
        log.info("stopping%s: %s", " now" if now else "", reason)
        self._core.stop(reason, ErrorCode.CANCELLED if now else None, time.monotonic())
        self._end_now = self._end_now or now
        self._end = self._end or Bye(reason, ExitCode.OK)

    def _give_up(self, worker: Worker) -> None:
        problem = worker.verdict or f"the {worker.seat} worker ended: {worker.last_exit}"
        tail = log_tail(worker.log)[-MAX_REASON_CHARACTERS // 2 :]
        text = f"{problem}. Its last lines:\n{tail}" if tail else f"{problem}. Its log {worker.log} is empty"
        self._finish(text, ExitCode.COMMAND)

    def _finish(self, problem: str, exit_code: int) -> None:
        """End because of an error: all pages fail with it."""
        if self._end is not None and self._end.exit_code:
            return
        log.error("%s", problem)
        problem = problem[:MAX_REASON_CHARACTERS]
        self._core.stop(problem, ErrorCode.WORKER_FATAL, time.monotonic())
        self._end, self._end_now = Bye(problem, exit_code), True

    def _finished(self) -> bool:
        return self._end is not None and (self._end_now or not self._core.ledger.requests)

    def _shut_down(self) -> Bye:
        """Say goodbye, end the workers, and return how it ended."""
        self._carry_out()
        self._sleep_prevention.close()
        end = self._end or Bye("finished", ExitCode.OK)
        self._keep_costs()
        for worker in self._supervisor.workers.values():
            self._send_worker(ToWorker(worker.role, worker.epoch, Stop()))
        self._directory.facts_path.unlink(missing_ok=True)
        self._supervisor.stop_all(STOP_NOW_GRACE_S if self._end_now else STOP_GRACE_S)
        for client in list(self._peers.known):
            self._peers.send(client, end)
        self._links.close(GOODBYE_S)
        return end

    # --- facts -------------------------------------------------------------------------------------------------------

    def _announce(self) -> None:
        config = self._config
        fingerprint = self._core.workers[DECODER].ready.fingerprint
        facts = RuntimeFacts(
            self._instance, os.getpid(), config.model_name, fingerprint, config.encoder_name, str(config.decoder)
        )
        self._directory.write_facts(facts)

    def _status(self) -> Status:
        return status_of(
            self._config,
            self._core,
            self._supervisor,
            instance=self._instance,
            started=self._started,
            clients=len(self._peers.known),
            bad_messages=self._bad_messages,
        )
