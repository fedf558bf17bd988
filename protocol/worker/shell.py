"""The work that both worker processes do besides computing: arguments, lifeline, handshake.

The standard input of a worker ends when its runtime is gone: nothing is ever written to that pipe, and its end
means leave. A thread waits for it, so that a long computation does not delay the answer.
"""

import argparse
import faulthandler
import logging
import os
import signal
import sys
import threading
from dataclasses import dataclass

from dotsctl.protocol import codec, left_workers
from dotsctl.protocol.codec import Buffer, IncomingMessage
from dotsctl.protocol.descriptors import raise_limit
from dotsctl.protocol.endpoints import socket_of
from dotsctl.protocol.errors import CommandFailedError, DotsctlError, ExitCode
from dotsctl.protocol.link import Link, Links
from dotsctl.protocol.messages import Configure, LoadFailed, Loading, Message, Ready, WorkerHello
from dotsctl.protocol.parts import Role

log = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S = 30.0
SEND_TIMEOUT_S = 30.0
START_AGAIN = 75
"""Exit code of a worker whose work on the GPU macOS ended or refused (EX_TEMPFAIL): another start may help."""
TRACEBACK_SIGNAL = signal.SIGUSR2
"""The signal that makes a worker write the stacks of all its threads into its log, and continue."""


@dataclass(frozen=True)
class WorkerArguments:
    """The command line of a worker."""

    endpoint: str
    epoch: int


def read_arguments(role: Role) -> WorkerArguments:
    """Parse the command line; the supervisor writes it, not a user."""
    parser = argparse.ArgumentParser(
        prog=f"dotsctl.{role}_worker", description="Started by the runtime of dotsctl, not by hand."
    )
    parser.add_argument("--endpoint", required=True, help="control socket of the coordinator")
    parser.add_argument("--epoch", type=int, required=True, help="number of this process among those of its role")
    arguments = parser.parse_args()
    return WorkerArguments(arguments.endpoint, arguments.epoch)


def prepare_process(arguments: WorkerArguments) -> None:
    """Log to standard error (the worker's log file), show tracebacks of crashes, and leave with the runtime.

    Tracebacks come from handlers in C, so they come also while a computation holds the interpreter's lock.
    """
    left_workers.end_with_parent()
    raise_limit()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    faulthandler.enable()
    faulthandler.register(TRACEBACK_SIGNAL, all_threads=True)
    left_workers.mark(socket_of(arguments.endpoint).parent, os.getppid())
    threading.Thread(target=_leave_with_runtime, name="lifeline", daemon=True).start()


def _leave_with_runtime() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(ExitCode.OK)


class Control:
    """A worker's end of the control socket; used by the thread that made it."""

    def __init__(self, links: Links, arguments: WorkerArguments, role: Role) -> None:
        self._links = links
        self._role, self._arguments = role, arguments
        self.link: Link = links.dealer(arguments.endpoint, f"{role}.{arguments.epoch}")

    def send(self, message: Message, buffers: tuple[Buffer, ...] = ()) -> None:
        """Send, waiting a while for a coordinator that is slow to read."""
        frames = codec.encode(message, buffers)
        while not self.link.send(frames):
            if not self._links.wait(SEND_TIMEOUT_S, writable=[self.link]):
                raise CommandFailedError(f"the coordinator accepted no message for {SEND_TIMEOUT_S:.0f} s")

    def receive(self) -> IncomingMessage | None:
        """The next message of the coordinator, or none when there is none now."""
        incoming = self.link.receive()
        return codec.decode(incoming.frames) if incoming else None

    def handshake(self, version: str) -> Configure:
        """Send Hello and wait for what to load; without a valid answer, log why and exit."""
        self.send(WorkerHello(self._role, self._arguments.epoch, os.getpid(), version))
        try:
            return self._configured()
        except DotsctlError as error:
            log.error("%s", error)
            sys.exit(error.exit_code)

    def _configured(self) -> Configure:
        while self._links.wait(HANDSHAKE_TIMEOUT_S, [self.link]):
            received = self.receive()
            if received and isinstance(received.message, Configure):
                log.info("loading plugin %r, model %r", received.message.plugin, received.message.model_name)
                return received.message
        raise CommandFailedError(f"the coordinator did not answer within {HANDSHAKE_TIMEOUT_S:.0f} s")

    def report(self, note: str) -> None:
        """Report the progress of loading, here and in the log."""
        log.info("%s", note)
        self.send(Loading(note))

    def ready(self, message: Ready) -> None:
        """Report that pages may come."""
        log.info("ready after %.1f s", message.load_s)
        self.send(message)

    def load_failed(self, error: DotsctlError) -> None:
        """Report that another start would not help."""
        log.error("%s", error, exc_info=error.__cause__)
        self.send(LoadFailed(error.exit_code, str(error)))
