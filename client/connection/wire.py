"""The thread that owns a client's socket: sends what others hand over, and sorts what comes into their inboxes.

ZeroMQ's sockets belong to one thread, and the messages of all calls come through one of them. So this thread alone
touches the socket, and calls from any number of threads and tasks wait for their own inboxes.
"""

import contextlib
import copy
import os
import threading
import time
from collections import deque
from itertools import chain
from typing import Any, overload

from dotsctl.client.connection.inbox import Inbox
from dotsctl.client.connection.window import Window
from dotsctl.protocol import codec
from dotsctl.protocol.codec import Buffer
from dotsctl.protocol.descriptors import naming_shortage
from dotsctl.protocol.endpoints import InstanceDirectory, exists, lock_holder
from dotsctl.protocol.errors import (
    CommandFailedError,
    DotsctlError,
    ErrorCode,
    ExitCode,
    ProtocolError,
    RuntimeLostError,
    UsageError,
)
from dotsctl.protocol.link import Links
from dotsctl.protocol.messages import (
    Accepted,
    Busy,
    Bye,
    Message,
    PageFailed,
    PageResult,
    PageTokens,
    Refused,
    Restarted,
    Status,
    StatusRequest,
    SwapEncoder,
    SwapResult,
    Welcome,
)

JobMessage = Accepted | Busy | PageTokens | Restarted | PageResult | PageFailed
CHECK_S = 0.5
"""The interval between two checks whether a silent runtime still runs."""
SILENT_S = 60.0
"""The silence after which a runtime is given up whose process runs; it sends something every second."""
FINISHING_SILENT_S = 3.0
"""The same for a runtime that has lost its lock, and reads its last pages."""
LAST_MESSAGES_S = 0.1
"""The time for messages that a runtime sent before it ended."""
SEND_TIMEOUT_S = 30.0
MESSAGES_A_TURN = 64
"""Received before what is to be sent has its turn."""


class Wire:
    """One connection and its thread, which ends with :meth:`leave` or with the runtime."""

    def __init__(self, directory: InstanceDirectory) -> None:
        """Connect; nothing is sent yet.

        Raises:
            RuntimeLostError: the runtime takes no more connections.
            CommandFailedError: a socket cannot be opened, mostly because this process has no free descriptor.
        """
        self.directory = directory
        if directory.closed_client_socket.exists():
            raise self._refused()
        self._owner_pid = os.getpid()
        self.pid = lock_holder(directory)
        """The process id of the runtime; none or 0 until it is known."""
        self.window = Window(1)
        self.welcomes: Inbox[Welcome] = Inbox()
        self._links = Links()
        try:
            self._link = self._links.dealer(directory.client_endpoint)
            with naming_shortage():
                self._reader, self._writer = os.pipe()
        except CommandFailedError:
            self._links.close()
            raise
        self._lock = threading.Lock()
        self._outbox: deque[list[Buffer]] = deque()
        self._jobs: dict[str, Inbox[JobMessage]] = {}
        self._queries: dict[type[Message], deque[Inbox[Any]]] = {Status: deque(), SwapResult: deque()}
        """The open requests by the type of their answer; answers come in the order of the requests."""
        self._end: DotsctlError | None = None
        """The reason why nothing more will come."""
        self._is_leaving = False
        self._full_since: float | None = None
        self._has_received = False
        """Whether the runtime has sent anything."""
        self._silence_s = self._unchecked_s = 0.0
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self.thread = threading.Thread(target=self._serve, name="dotsctl-wire", daemon=True)
        self.thread.start()

    # --- for the callers, from any thread ----------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Return whether messages can be sent."""
        return self._owner_pid == os.getpid() and not self._is_leaving and self._end is None

    def refuse_closed(self) -> None:
        """Raise RuntimeLostError after :meth:`leave`, and UsageError in a forked process, where our thread is not."""
        if self._owner_pid != os.getpid():
            raise UsageError(
                f"this call belongs to process {self._owner_pid}, and this is process {os.getpid()}",
                "create a client in each process",
            )
        if self._is_leaving:
            raise RuntimeLostError("this connection to the runtime is closed", "open a new one")

    def check(self) -> None:
        """Raise why nothing more will come, or return."""
        self.refuse_closed()
        if self._end is not None:
            raise copy.copy(self._end)  # several callers may raise it, each with a traceback of its own

    def send(self, message: Message, buffers: tuple[Buffer, ...] = ()) -> None:
        """Hand a message over; one after the other, it goes out as soon as the runtime takes it.

        Raises:
            ProtocolError: the message is too large.
            RuntimeLostError: the runtime is gone.
        """
        frames = codec.encode(message, buffers)
        with self._lock:
            self._put_out(frames)

    def open_job(self, job_id: str) -> Inbox[JobMessage]:
        """Return the inbox for the messages of this job."""
        inbox: Inbox[JobMessage] = Inbox()
        with self._lock:
            self._jobs[job_id] = inbox
        return inbox

    def close_job(self, job_id: str) -> None:
        """Forget messages of this job, also those that still come, and give its places back."""
        with self._lock:
            self._jobs.pop(job_id, None)
        self.window.forget(job_id)

    @overload
    def query(self, question: StatusRequest) -> Inbox[Status]: ...

    @overload
    def query(self, question: SwapEncoder) -> Inbox[SwapResult]: ...

    def query(self, question: StatusRequest | SwapEncoder) -> Inbox[Any]:
        """Send the runtime a request; return the inbox for the answer."""
        inbox: Inbox[Any] = Inbox()
        with self._lock:
            self._put_out(codec.encode(question))
            self._queries[Status if isinstance(question, StatusRequest) else SwapResult].append(inbox)
        return inbox

    def _put_out(self, frames: list[Buffer]) -> None:
        self.check()
        self._outbox.append(frames)
        self._call_thread()

    def leave(self) -> None:
        """Let the thread close the socket and end."""
        with self._lock:
            self._is_leaving = True
            self._call_thread()

    def _call_thread(self) -> None:
        """Make the thread look; to be called with the lock."""
        if self._writer >= 0:
            with contextlib.suppress(BlockingIOError):  # a pipe that is full has called it already
                os.write(self._writer, b"\0")

    # --- the thread --------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while not (self._is_leaving or self._end):
                self._turn()
        except DotsctlError as error:
            self._finish(error)
        finally:
            self._finish(RuntimeLostError(f"the connection to the runtime {self.directory.name!r} has ended"))
            self._links.close()
            with self._lock:
                os.close(self._reader)
                os.close(self._writer)
                self._writer = -1

    def _turn(self) -> None:
        """Wait for something to do, and do it."""
        started = time.monotonic()
        writable = [self._link] if self._full_since else []
        ready = self._links.wait(CHECK_S, [self._link], [self._reader], writable)
        if self._reader in ready:
            os.read(self._reader, 1 << 12)
        self._flush()
        if self._receive():
            self._silence_s = self._unchecked_s = 0.0
            return
        # Never more than was waited: we may have been stopped ourselves, and the runtime with us.
        waited_s = min(CHECK_S, time.monotonic() - started)
        self._silence_s += waited_s
        self._unchecked_s += waited_s
        if self._unchecked_s >= CHECK_S * 0.9:
            self._unchecked_s = 0.0
            self._check_alive()

    def _flush(self) -> None:
        """Send until the runtime takes no more for now."""
        while self._outbox:
            if not self._link.send(self._outbox[0]):
                self._full_since = self._full_since or time.monotonic()
                if time.monotonic() - self._full_since > SEND_TIMEOUT_S:
                    self._finish(RuntimeLostError(f"the runtime accepted no message for {SEND_TIMEOUT_S:.0f} s"))
                return
            self._full_since = None
            self._outbox.popleft()

    def _receive(self) -> bool:
        """Take what has come; whether there was something."""
        for count in range(MESSAGES_A_TURN):
            incoming = self._link.receive()
            if incoming is None or self._end is not None:
                return count > 0
            self._sort(codec.decode(incoming.frames).message)
        return True

    def _sort(self, message: Message) -> None:
        """Put a message where it belongs."""
        self._has_received = True
        match message:
            case Accepted() | Busy() | PageTokens() | Restarted() | PageResult() | PageFailed():
                if isinstance(message, PageResult | PageFailed):
                    self.window.release(message.job_id)
                with self._lock:
                    inbox = self._jobs.get(message.job_id)
                if inbox is not None:
                    inbox.put(message)
            case Status() | SwapResult():
                with self._lock:
                    inboxes = self._queries[type(message)]
                    waiting = inboxes.popleft() if inboxes else None
                if waiting is not None:
                    waiting.put(message)
            case Welcome():
                self.window = Window(message.window)
                self.welcomes.put(message)
            case Refused():
                problem = (
                    message.message
                    if message.code is ErrorCode.PROTO
                    else f"the runtime refused a message: {message.message}"
                )
                self._finish(ProtocolError(problem, code=message.code))
            case Bye():
                self._finish(_end_of(message))
            case _:
                pass  # a Ping: the runtime runs

    def _check_alive(self) -> None:
        name, holder = self.directory.name, lock_holder(self.directory)
        self.pid = self.pid or holder  # not yet written when we connected
        if self._links.wait(0.0 if holder else LAST_MESSAGES_S, [self._link]):
            return  # it has sent something, which is to be read first
        # A runtime that was started since then has none of our pages, although it receives our messages.
        if (holder is None or (holder and holder != self.pid)) and not self._is_finishing(holder):
            self._finish(
                RuntimeLostError(
                    f"the runtime {name!r} has ended; finished pages are kept",
                    "run the command again, or check 'dotsctl logs'",
                )
            )
        elif not self._has_received and self.directory.closed_client_socket.exists():
            self._finish(self._refused())
        elif self._silence_s > SILENT_S:
            self._finish(
                RuntimeLostError(
                    f"the runtime {name!r} (pid {holder}) has sent nothing for {SILENT_S:.0f} s: it is stopped or "
                    "hangs",
                    "end it with 'dotsctl down --now' and run the command again",
                )
            )

    def _refused(self) -> RuntimeLostError:
        return RuntimeLostError(
            f"the runtime {self.directory.name!r} accepts no more connections: it has no free file descriptors",
            "close other clients of it, or restart it with a higher 'ulimit -n'",
        )

    def _is_finishing(self, holder: int | None) -> bool:
        """Return whether our runtime still runs without its lock, which was removed; it sends every second."""
        if holder is None and self.directory.lock_path.exists():
            return False  # the lock is free because the runtime has ended
        return bool(self.pid) and exists(self.pid or 0) and self._silence_s <= FINISHING_SILENT_S

    def _finish(self, end: DotsctlError) -> None:
        """Wake all that wait, since nothing more will come. The first reason holds."""
        with self._lock:
            self._end = self._end or end
            inboxes: list[Inbox[Any]] = [self.welcomes, *self._jobs.values(), *chain(*self._queries.values())]
        for inbox in inboxes:
            inbox.poke()


def _end_of(bye: Bye) -> DotsctlError:
    if bye.exit_code == ExitCode.OK:
        return RuntimeLostError(f"{bye.reason}; finished pages are kept")
    return CommandFailedError(bye.reason)
