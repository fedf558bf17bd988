"""A client's conversation with one runtime: hello, status, and the messages of each job; for any thread and task."""

import os
import time
import weakref
from typing import TypeVar

from dotsctl import __version__
from dotsctl.client.connection.inbox import Inbox
from dotsctl.client.connection.waiting import Blocking, Waiting, completed
from dotsctl.client.connection.window import Window
from dotsctl.client.connection.wire import JobMessage, Wire
from dotsctl.protocol import release
from dotsctl.protocol.codec import Buffer
from dotsctl.protocol.endpoints import InstanceDirectory, lock_holder
from dotsctl.protocol.errors import CommandFailedError, DotsctlError, RuntimeLostError
from dotsctl.protocol.messages import (
    CancelJob,
    ClientHello,
    Message,
    Status,
    StatusRequest,
    SwapEncoder,
    SwapResult,
    Welcome,
)

STATUS_TIMEOUT_S = 10.0
LEAVE_S = 5.0
T = TypeVar("T")


class Session:
    """One connection. Any thread may use it, and any task; a job is used by one of them at a time."""

    welcome: Welcome
    encoder_index: int | None = None
    """Place in ``welcome.encoders`` of the encoder for pages of this session; none: the runtime chooses."""

    def __init__(self, directory: InstanceDirectory, timeout_s: float, *, hello: bool = True) -> None:
        """Connect and wait for the runtime's welcome, which comes when all workers are ready.

        Without ``hello`` there is no welcome and no waiting: for a caller that requests only the status, or calls
        :meth:`greet` later.

        Raises:
            RuntimeLostError: there is no runtime, or it went away.
            CommandFailedError: no welcome within ``timeout_s`` seconds.
        """
        self._wire = Wire(directory)
        self._jobs: dict[str, Inbox[JobMessage]] = {}
        weakref.finalize(self, self._wire.leave)  # who forgets a session leaves no thread behind
        if not hello:
            return
        try:
            self.greet(timeout_s)
        except BaseException:
            self.close()
            raise

    def greet(self, timeout_s: float) -> None:
        """Send Hello and wait for the welcome; see the constructor."""
        self.send(ClientHello(os.getpid(), release(__version__)))
        coming = self._within(self._wire.welcomes, Blocking(), timeout_s)
        if (welcome := completed(coming)) is None:
            name = self._wire.directory.name
            raise CommandFailedError(f"the runtime {name!r} was not ready within {timeout_s:.0f} s")
        self.welcome = welcome

    @property
    def window(self) -> Window:
        """Places for pages, shared by all jobs."""
        return self._wire.window

    def is_alive(self) -> bool:
        """Return whether the runtime that sent the welcome still runs, and no successor of it."""
        try:
            self._wire.check()
        except DotsctlError:
            return False
        holder = lock_holder(self._wire.directory)
        return holder is not None and (not holder or holder == (self._wire.pid or holder))

    def open_job(self, job_id: str) -> Inbox[JobMessage]:
        """Keep messages of this job until they are read."""
        self._jobs[job_id] = self._wire.open_job(job_id)
        return self._jobs[job_id]

    def close_job(self, job_id: str, *, cancel: bool = False) -> None:
        """Forget messages of this job, also those that still come; ``cancel`` what is not answered."""
        try:
            if cancel and self._wire.is_open:
                self._wire.send(CancelJob(job_id, None))
        except RuntimeLostError:
            pass  # it has ended just now, and with it all requests
        finally:
            self._jobs.pop(job_id, None)
            self._wire.close_job(job_id)

    def send(self, message: Message, buffers: tuple[Buffer, ...] = ()) -> None:
        """Send a message; raises RuntimeLostError when the runtime is gone."""
        self._wire.send(message, buffers)

    async def message(self, inbox: Inbox[T], waiting: Waiting, timeout_s: float) -> T | None:
        """The next message of an inbox; none when it was poked, or after ``timeout_s`` seconds.

        Raises:
            RuntimeLostError: the runtime is gone, or this session was closed.
            DotsctlError: it ended with an error, which is this one.
        """
        self._wire.refuse_closed()
        if (found := inbox.take()) is not None:
            return found
        self._wire.check()
        await waiting.until(inbox, timeout_s)
        self._wire.refuse_closed()
        if (found := inbox.take()) is None:
            self._wire.check()
        return found

    async def _within(self, inbox: Inbox[T], waiting: Waiting, timeout_s: float) -> T | None:
        """The next message of an inbox, however often it is poked; none after ``timeout_s`` seconds."""
        deadline = time.monotonic() + timeout_s
        while (remaining_s := deadline - time.monotonic()) > 0:
            if (found := await self.message(inbox, waiting, remaining_s)) is not None:
                return found
        return None

    def next_of(self, job_id: str, timeout_s: float) -> JobMessage | None:
        """The next message about a job, or none after ``timeout_s`` seconds; errors as of :meth:`message`."""
        coming = self.message(self._jobs[job_id], Blocking(), timeout_s)
        return completed(coming)

    def status(self) -> Status:
        """Request the status of the runtime, and wait in this thread."""
        return completed(self.query_status(Blocking()))

    async def query_status(self, waiting: Waiting) -> Status:
        """Request the status of the runtime. Raises RuntimeLostError when it gives none."""
        inbox = self._wire.query(StatusRequest())
        if (status := await self._within(inbox, waiting, STATUS_TIMEOUT_S)) is None:
            raise RuntimeLostError(f"the runtime gave no status within {STATUS_TIMEOUT_S:.0f} s")
        return status

    def swap(self, question: SwapEncoder, timeout_s: float) -> SwapResult | None:
        """Request another encoder and wait in this thread; none: there was no answer within ``timeout_s`` seconds."""
        coming = self._within(self._wire.query(question), Blocking(), timeout_s)
        return completed(coming)

    def close(self) -> None:
        """Close the connection, and with it the thread that owns it; the runtime then forgets our pages."""
        self._wire.leave()
        self._wire.thread.join(LEAVE_S)
