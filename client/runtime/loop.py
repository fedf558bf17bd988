"""Connects the runtime machine to sockets, child processes and the clock. One thread, no model, no numpy."""

import logging
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from dotsctl.client.runtime.client_listener import ClientListener
from dotsctl.client.runtime.delivery import (
    Abandon,
    Announce,
    Command,
    Compared,
    Release,
    ReportStatus,
    Signal,
    Spawn,
    ToClient,
    ToWorker,
)
from dotsctl.client.runtime.machine import RELEASE, RuntimeMachine
from dotsctl.client.runtime.peers import ClientPeers
from dotsctl.client.runtime.power import SleepPrevention
from dotsctl.client.runtime.processes import WorkerProcesses
from dotsctl.client.runtime.runtime_files import RuntimeFiles
from dotsctl.client.runtime.status import status_of
from dotsctl.client.runtime.supervisor import STOP_GRACE_S
from dotsctl.client.runtime.worker_slots import DECODER, identity_of
from dotsctl.client.settings.runtime_config import RuntimeConfig
from dotsctl.protocol import codec
from dotsctl.protocol.endpoints import InstanceDirectory, InstanceLock, RuntimeFacts, socket_of
from dotsctl.protocol.errors import ErrorCode, ExitCode, ProtocolError
from dotsctl.protocol.link import Incoming, Links, PeerGoneError
from dotsctl.protocol.machine.identity import this_machine
from dotsctl.protocol.machine.measured_costs import Preference, remember
from dotsctl.protocol.messages import Bye, Encode, Refused, RequestFailed, Stop
from dotsctl.protocol.model.files import json_bytes, write_file

log = logging.getLogger(__name__)

BACKLOG_TICK_S = 0.02
KEEP_COSTS_S = 60.0
"""The interval between two writings of what pages cost."""
BAD_MESSAGES_LOGGED_EVERY_S = 10.0
STOP_NOW_GRACE_S = 1.0
GOODBYE_S = 0.5
"""The time for clients to take the last message; a client that does not read must not delay the end."""


class RuntimeLoop:
    """One instance, from its first socket to its last process."""

    def __init__(
        self,
        config: RuntimeConfig,
        directory: InstanceDirectory,
        lock: InstanceLock,
        processes: WorkerProcesses,
        links: Links,
    ) -> None:
        """Bind the sockets; ``lock`` is that of the instance."""
        self._directory, self._lock, self._processes, self._links = directory, lock, processes, links
        self._listener = ClientListener(directory)
        self._clients = links.router(directory.client_endpoint, self._listener.descriptor())
        self._workers = links.router(directory.worker_endpoint(os.getpid()))
        self._files = RuntimeFiles(directory, lock, self._listener, directory.worker_socket(os.getpid()))
        self._now = self._started = self._costs_kept = time.monotonic()
        """Time of the present turn."""
        self._machine = RuntimeMachine(
            config, processes.log_folder, secrets.token_hex(8), self._now, 1 + secrets.randbits(48)
        )
        self._peers = ClientPeers(self._clients, lambda client: self._machine.client_gone(client, self._now))
        self._sleep_prevention = SleepPrevention()
        self._bad_messages = 0
        self._bad_logged = -BAD_MESSAGES_LOGGED_EVERY_S
        self._ready: Callable[[], None] | None = None

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
        self._ready = ready
        machine = self._machine
        fds = [wakeup] if lifeline is None else [wakeup, lifeline]
        self._carry_out()
        while not machine.ending.is_complete:
            readable = self._links.wait(self._timeout(), [self._clients, self._workers], fds)
            self._now = time.monotonic()
            if lifeline in readable and not os.read(lifeline, 1):
                machine.ending.stop("the owner of the runtime has exited", self._now, at_once=True)
            if wakeup in readable:
                for number in signals():
                    machine.ending.signalled(number, self._now)
            self._drain(self._workers.receive, self._from_worker)
            self._drain(self._clients.receive, self._from_client)
            for end in self._processes.ended():
                machine.exited(end.role, end.epoch, end.code, end.tail, self._now)
            machine.advance(self._now)
            if self._now >= machine.next_tick:
                machine.tick(self._processes.stopped(), self._now)
                self._run_checks()
            self._carry_out()
        return self._shut_down()

    # --- time --------------------------------------------------------------------------------------------------------

    def _timeout(self) -> float:
        """Seconds until something is due."""
        due = min(self._machine.next_due, self._now + BACKLOG_TICK_S if self._peers.lagging else float("inf"))
        return max(0.0, due - self._now)

    def _run_checks(self) -> None:
        """Do what is done about once a second in addition to the machine's tick."""
        self._peers.ping_all()
        self._listener.check()
        self._processes.logs.rotate(self._now)
        if problem := self._files.missing(self._data_socket):
            if self._machine.ending.bye is None:
                self._machine.ending.unreachable(problem, self._now)
        else:
            self._processes.logs.restore_own(self._now)
        if self._now - self._costs_kept >= KEEP_COSTS_S:
            self._costs_kept = self._now
            self._keep_costs()
        self._sleep_prevention.update(bool(self._machine.core.ledger.requests), self._now)

    # --- messages ----------------------------------------------------------------------------------------------------

    def _drain(
        self, receive: Callable[[], Incoming | None], handle: Callable[[bytes, codec.IncomingMessage], None]
    ) -> None:
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

    def _from_client(self, client: bytes, received: codec.IncomingMessage) -> None:
        self._peers.known.add(client)
        self._machine.from_client(client, received.message, received.buffers, self._now)

    def _from_worker(self, identity: bytes, received: codec.IncomingMessage) -> None:
        self._machine.from_worker(identity, received.message, self._now)

    def _refuse(self, sender: bytes, error: ProtocolError, *, from_client: bool) -> None:
        """Count a message that breaks the specification, and send a client the reason."""
        self._bad_messages += 1
        if self._now - self._bad_logged > BAD_MESSAGES_LOGGED_EVERY_S:
            self._bad_logged = self._now
            log.warning("bad message number %d, from %r: %s", self._bad_messages, sender, error)
        if from_client:
            self._peers.send(sender, Refused(error.code, str(error)))
        elif error.code == ErrorCode.PROTO:
            self._machine.not_understood(sender, error.problem, self._now)

    # --- commands ----------------------------------------------------------------------------------------------------

    def _carry_out(self) -> None:
        """Carry out the commands of the machine, and send what clients could not take before."""
        self._peers.flush()
        while commands := self._machine.take_commands(self._now):
            for command in commands:
                self._obey(command)

    def _obey(self, command: Command) -> None:
        match command:
            case ToClient():
                self._peers.send(command.client, command.message)
            case ToWorker():
                self._send_worker(command)
            case Spawn():
                try:
                    self._processes.spawn(command.slot, command.epoch, command.log)
                except OSError as error:
                    self._machine.not_started(command.slot.role, command.epoch, str(error), self._now)
            case Signal():
                self._processes.signal(command.role, command.epoch, command.number)
            case Release():
                self._processes.release(command.role, command.epoch)
            case Abandon():
                self._processes.abandon(command.role, command.epoch)
            case Announce():
                self._announce()
            case ReportStatus():
                self._report(command.client)
            case Compared():
                self._remember(command.preference)

    def _send_worker(self, command: ToWorker) -> None:
        message, name = command.message, identity_of(command.role, command.epoch)
        try:
            self._workers.send(codec.encode(message, command.buffers), name)
        except PeerGoneError:
            return  # noticed by its process or its silence; both give its pages a new attempt
        except ProtocolError as error:
            if not isinstance(message, Encode):
                raise
            failed = RequestFailed(message.request_id, message.attempt, error.code, str(error))
            self._machine.from_worker(name, failed, self._now)

    def _remember(self, preference: Preference) -> None:
        """Log a comparison of encoders and keep it for the next start on this machine."""
        log.info("encoder %s %s", preference.encoder, preference)
        if fingerprint := self._fingerprint:
            remember(fingerprint, this_machine(), preferences=[preference])

    def _keep_costs(self) -> None:
        """Remember what pages cost on this machine; fakes without a model are no measurement."""
        core, fingerprint = self._machine.core, self._fingerprint
        if fingerprint and not core.outcomes.costs.is_empty:
            remember(fingerprint, this_machine(), *core.outcomes.costs.take(core.workers[DECODER]))

    @property
    def _data_socket(self) -> Path | None:
        """Return the socket of the decoder that is ready."""
        decoder = self._machine.core.workers.get(DECODER)
        return socket_of(decoder.ready.data_endpoint) if decoder and decoder.ready else None

    @property
    def _fingerprint(self) -> str:
        """Return the fingerprint of the model that the decoder has; empty: no decoder is ready, or it has no model."""
        decoder = self._machine.core.workers.get(DECODER)
        return decoder.ready.fingerprint if decoder and decoder.ready and self._machine.config.model else ""

    # --- the end -----------------------------------------------------------------------------------------------------

    def _shut_down(self) -> Bye:
        """Send the last messages, end the workers, and return how it ended."""
        machine = self._machine
        self._carry_out()
        self._sleep_prevention.close()
        end = machine.ending.bye or Bye("finished", ExitCode.OK)
        self._keep_costs()
        for slot in machine.table.slots:
            worker = machine.table.in_slot(slot)
            self._send_worker(ToWorker(worker.role, worker.epoch, Stop()))
        if self._lock.is_current:
            self._directory.facts_path.unlink(missing_ok=True)
        self._processes.stop_all(STOP_NOW_GRACE_S if machine.ending.is_now else STOP_GRACE_S)
        for client in list(self._peers.known):
            self._peers.send(client, end)
        self._links.close(GOODBYE_S)
        self._listener.close()
        return end

    # --- facts -------------------------------------------------------------------------------------------------------

    def _announce(self) -> None:
        """Write down what this runtime is; the first time, its starter waits for it.

        Raises:
            OSError: the first time: nothing can be written.
        """
        if not self._lock.is_current:
            return  # the folder may be another runtime's by now; the next check of the files ends this one
        config, decoder = self._machine.config, self._machine.core.workers.get(DECODER)
        fingerprint = decoder.ready.fingerprint if decoder and decoder.ready else ""
        name, decoder_name = config.encoder_name, str(config.decoder)
        facts = RuntimeFacts(
            self._machine.instance, os.getpid(), config.model_name, fingerprint, name, decoder_name, RELEASE
        )
        try:
            write_file(self._directory.facts_path, json_bytes(facts), is_flushed=False)
        except OSError as error:
            if self._ready is not None:
                raise
            log.warning("%s cannot be written: %s", self._directory.facts_path, error)
        if self._ready is not None:
            self._ready()
            self._ready = None

    def _report(self, client: bytes) -> None:
        status = status_of(
            self._machine,
            self._processes,
            started=self._started,
            now=self._now,
            clients=len(self._peers.known),
            bad_messages=self._bad_messages,
        )
        self._peers.send(client, status)
