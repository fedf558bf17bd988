"""What both worker processes do before and beside their work: arguments, lifeline, handshake, plugin lookup.

A worker is told by its standard input when its runtime is gone: nothing is ever written to that pipe, and its end
means leave. A thread waits for it, so that a long computation does not delay the answer.
"""

import argparse
import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from dotsctl.protocol import codec
from dotsctl.protocol.codec import Buffer, Decoded
from dotsctl.protocol.errors import CommandFailedError, DotsctlError, ExitCode, MissingError, UsageError
from dotsctl.protocol.link import Link, Links
from dotsctl.protocol.messages import Configure, LoadFailed, Loading, Message, Ready, WorkerHello
from dotsctl.protocol.parts import Role

log = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S = 30.0
SEND_TIMEOUT_S = 30.0
TRACEBACK_SIGNAL = signal.SIGUSR2
"""Makes a worker write the stacks of all its threads into its log, and go on."""


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
    """Log to standard error (the worker's log file), show tracebacks of crashes, and leave with the runtime.

    Tracebacks come from handlers in C, so they come also while a computation holds the interpreter's lock.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    faulthandler.enable()
    faulthandler.register(TRACEBACK_SIGNAL, all_threads=True)
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
                log.info("loading plugin %r, model %r", received.message.plugin, received.message.model_name)
                return received.message
        raise CommandFailedError(f"the coordinator did not answer within {HANDSHAKE_TIMEOUT_S:.0f} s")

    def report(self, note: str) -> None:
        """Tell that loading goes on, here and in the log."""
        log.info("%s", note)
        self.send(Loading(note))

    def ready(self, message: Ready) -> None:
        """Tell that pages may come."""
        log.info("ready after %.1f s", message.load_s)
        self.send(message)

    def load_failed(self, error: DotsctlError) -> None:
        """Tell that another start would not help."""
        log.error("%s", error)
        self.send(LoadFailed(error.exit_code, str(error)))


def find_plugin(group: str, name: str) -> Any:
    """Import the plugin class that is registered under ``name`` in an entry-point group.

    Raises:
        UsageError: there is none, or two distributions register the name.
        MissingError: something that the plugin imports is not installed.
        CommandFailedError: its import fails for another reason.
    """
    entries = {(e.name, e.value, e.dist.name if e.dist else ""): e for e in metadata.entry_points(group=group)}
    named = [(value, dist, entry) for (key, value, dist), entry in entries.items() if key == name]
    if not named:
        known = ", ".join(sorted({key for key, _, _ in entries}))
        raise UsageError(f"there is no plugin {name!r} in {group}; installed are: {known}")
    if len(named) > 1:
        owners = " and ".join(f"{dist} ({value})" for value, dist, _ in named)
        raise UsageError(f"plugin {name!r} in {group} is registered by {owners}: uninstall one")
    value, dist, entry = named[0]
    where = f"plugin {name!r} of {dist or 'an unnamed distribution'} ({value})"
    with import_errors(where):
        try:
            return entry.load()
        except ImportError:
            raise
        except Exception as error:  # somebody else's code, which may raise anything; another start would not help
            log.exception("%s", where)
            raise CommandFailedError(
                f"{where} raises {type(error).__name__} when it is imported ({error}): repair it, uninstall it, or "
                "choose another one"
            ) from None


@contextmanager
def import_errors(where: str) -> Iterator[None]:
    """Turn a failing import into an error that says what to install; another start of the worker would not help.

    Args:
        where: what is imported, for the user.

    Raises:
        MissingError: a module is not installed, or cannot be imported.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingError(
            f"{where} needs the module {error.name!r}, which is not installed: pip install 'dotsctl[all]', or what "
            "the plugin's own documentation names"
        ) from error
    except ImportError as error:
        raise MissingError(f"{where} cannot be imported ({error}): install its latest version, or repair it") from error
