"""A client's conversation with one runtime: hello, submit, and messages sorted by job."""

import os
import time
from collections import deque

from dotsctl import __version__
from dotsctl.protocol import codec
from dotsctl.protocol.codec import Buffer
from dotsctl.protocol.endpoints import InstanceDirectory, lock_holder
from dotsctl.protocol.errors import CommandFailedError, DotsctlError, ExitCode, ProtocolError, RuntimeLostError
from dotsctl.protocol.link import Links
from dotsctl.protocol.messages import (
    Accepted,
    Busy,
    Bye,
    ClientHello,
    Message,
    PageFailed,
    PageResult,
    PageTokens,
    Refused,
    Restarted,
    Status,
    StatusRequest,
    Welcome,
)

JobMessage = Accepted | Busy | PageTokens | Restarted | PageResult | PageFailed
CHECK_S = 0.5
"""How often a silent runtime is checked for life."""
SILENT_S = 60.0
"""Silence after which a runtime is given up whose process lives; it says something every second."""
LAST_WORDS_S = 0.1
"""For what a runtime that has ended said before."""
SEND_TIMEOUT_S = 30.0
STATUS_TIMEOUT_S = 10.0


class Session:
    """One connection; used by one thread at a time."""

    welcome: Welcome

    def __init__(self, directory: InstanceDirectory, timeout_s: float, *, hello: bool = True) -> None:
        """Connect and wait for the runtime's welcome, which comes when both workers are ready.

        Without ``hello`` there is no welcome and no waiting: for who asks nothing but the status.

        Raises:
            RuntimeLostError: there is no runtime, or it went away.
            CommandFailedError: no welcome within ``timeout_s`` seconds.
        """
        self._directory = directory
        self._pid = lock_holder(directory)
        self._links = Links()
        self._link = self._links.dealer(directory.client_endpoint)
        self._jobs: dict[str, deque[JobMessage]] = {}
        self._status: Status | None = None
        self._end: DotsctlError | None = None
        """Why nothing more will come."""
        self._silence_s = 0.0
        self.is_closed = False
        if not hello:
            return
        try:
            self.send(ClientHello(os.getpid(), __version__))
            self.welcome = self._wait_welcome(timeout_s)
        except BaseException:
            self._links.close()
            raise

    def _wait_welcome(self, timeout_s: float) -> Welcome:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            message = self._receive(min(CHECK_S, deadline - time.monotonic()))
            if isinstance(message, Welcome):
                return message
            if self._end:
                raise self._end
        raise CommandFailedError(f"the runtime {self._directory.name!r} was not ready within {timeout_s:.0f} s")

    def open_job(self, job_id: str) -> None:
        """Keep messages of this job until they are asked for."""
        self._jobs[job_id] = deque()

    def close_job(self, job_id: str) -> None:
        """Forget messages of this job, also those that still come."""
        self._jobs.pop(job_id, None)

    def send(self, message: Message, buffers: tuple[Buffer, ...] = ()) -> None:
        """Send a message; raises RuntimeLostError when the runtime is gone, or takes none for long."""
        self._refuse_closed()
        frames = codec.encode(message, buffers)
        deadline = time.monotonic() + SEND_TIMEOUT_S
        while not self._link.send(frames):
            self._links.wait(CHECK_S, writable=[self._link])
            self._check_alive()
            if self._end:
                raise self._end
            if time.monotonic() > deadline:
                raise RuntimeLostError(f"the runtime took no message for {SEND_TIMEOUT_S:.0f} s")

    def next_of(self, job_id: str, timeout_s: float) -> JobMessage | None:
        """The next message about a job, or none after ``timeout_s`` seconds.

        Raises:
            RuntimeLostError: the runtime is gone.
            DotsctlError: it ended with an error, which is this one.
        """
        self._refuse_closed()
        inbox = self._jobs[job_id]
        deadline = time.monotonic() + timeout_s
        while not inbox:
            if self._end:
                raise self._end
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                return None
            self._receive(min(CHECK_S, remaining_s))
        return inbox.popleft()

    def status(self) -> Status:
        """Ask the runtime for its status."""
        self._status = None
        self.send(StatusRequest())
        deadline = time.monotonic() + STATUS_TIMEOUT_S
        while time.monotonic() < deadline:
            self._receive(CHECK_S)
            if self._status is not None:
                return self._status
            if self._end:
                raise self._end
        raise RuntimeLostError(f"the runtime gave no status within {STATUS_TIMEOUT_S:.0f} s")

    def _receive(self, timeout_s: float) -> Message | None:
        """Take one message and put it where it belongs; after a silence make sure that somebody is there."""
        if not self._links.wait(timeout_s, [self._link]):
            self._silence_s += timeout_s  # and not by the clock: we may have been stopped ourselves
            self._check_alive()
            return None
        self._silence_s = 0.0
        incoming = self._link.receive()
        if incoming is None:
            return None
        message = codec.decode(incoming.frames).message
        match message:
            case Accepted() | Busy() | PageTokens() | Restarted() | PageResult() | PageFailed():
                if (inbox := self._jobs.get(message.job_id)) is not None:
                    inbox.append(message)
            case Status():
                self._status = message
            case Refused():
                self._end = ProtocolError(f"the runtime refused a message: {message.message}", message.code)
            case Bye():
                self._end = _end_of(message)
            case _:
                pass  # a Ping, or a Welcome, which its waiter takes from our return value
        return message

    def _check_alive(self) -> None:
        holder = lock_holder(self._directory)
        self._pid = self._pid or holder  # not yet written when we connected
        if self._links.wait(0.0 if holder else LAST_WORDS_S, [self._link]):
            return  # it has said something, which is to be read first
        # A runtime that was started since then knows nothing of our pages, although it hears us.
        if holder is None or (holder and holder != self._pid):
            self._end = RuntimeLostError(
                f"the runtime {self._directory.name!r} is gone; what was finished is kept. Run the command again, "
                "or look at 'dotsctl logs'"
            )
        elif self._silence_s > SILENT_S:
            self._end = RuntimeLostError(
                f"the runtime {self._directory.name!r} (pid {holder}) has said nothing for {SILENT_S:.0f} s: it is "
                "stopped or hangs. End it with 'dotsctl down --now' and run the command again"
            )

    def close(self) -> None:
        """Close the connection; the runtime then forgets our pages."""
        self.is_closed = True
        self._links.close()

    def _refuse_closed(self) -> None:
        if self.is_closed:
            raise RuntimeLostError("the connection to the runtime was closed here: open a new one")


def _end_of(bye: Bye) -> DotsctlError:
    if bye.exit_code == ExitCode.OK:
        return RuntimeLostError(f"{bye.reason}; what was finished is kept")
    return CommandFailedError(bye.reason)
