"""What both worker processes do before and beside their work: arguments, lifeline, handshake, plugin lookup.

A worker is told by its standard input when its runtime is gone: nothing is ever written to that pipe, and its end
means leave. A thread waits for it, so that a long computation does not delay the answer.
"""

import argparse
import faulthandler
import logging
import os
import sys
import threading
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from dotsctl.protocol import codec
from dotsctl.protocol.codec import Buffer, Decoded
from dotsctl.protocol.errors import CommandFailedError, DotsctlError, ExitCode, UsageError
from dotsctl.protocol.link import Link, Links
from dotsctl.protocol.messages import Configure, LoadFailed, Loading, Message, Role, WorkerHello

HANDSHAKE_TIMEOUT_S = 30.0
SEND_TIMEOUT_S = 30.0


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


def prepare_process() -> None:
    """Log to standard error (the worker's log file), show tracebacks of crashes, and leave with the runtime."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    faulthandler.enable()
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
                raise CommandFailedError(f"the coordinator took no message for {SEND_TIMEOUT_S:.0f} s")

    def receive(self) -> Decoded | None:
        """The next message of the coordinator, or none when there is none now."""
        incoming = self.link.receive()
        return codec.decode(incoming.frames) if incoming else None

    def handshake(self, version: str) -> Configure:
        """Say hello and wait for what to load."""
        self.send(WorkerHello(self._role, self._arguments.epoch, os.getpid(), version))
        while self._links.wait(HANDSHAKE_TIMEOUT_S, [self.link]):
            received = self.receive()
            if received and isinstance(received.message, Configure):
                return received.message
        raise CommandFailedError(f"the coordinator did not answer within {HANDSHAKE_TIMEOUT_S:.0f} s")

    def report(self, note: str) -> None:
        """Tell that loading goes on."""
        self.send(Loading(note))

    def load_failed(self, error: DotsctlError) -> None:
        """Tell that another start would not help."""
        self.send(LoadFailed(error.exit_code, str(error)))


def find_plugin(group: str, name: str) -> Any:
    """Import the plugin class that is registered under ``name`` in an entry-point group.

    Raises:
        UsageError: there is none, or two distributions register the name.
    """
    entries = {(e.name, e.value, e.dist.name if e.dist else ""): e for e in metadata.entry_points(group=group)}
    named = [(value, dist, entry) for (key, value, dist), entry in entries.items() if key == name]
    if not named:
        known = ", ".join(sorted({key for key, _, _ in entries}))
        raise UsageError(f"there is no plugin {name!r} in {group}; installed are: {known}")
    if len(named) > 1:
        owners = " and ".join(f"{dist} ({value})" for value, dist, _ in named)
        raise UsageError(f"plugin {name!r} in {group} is registered by {owners}: uninstall one")
    return named[0][2].load()
