"""The owner's side of a render process: started when it is needed, used again, replaced when it fails or hangs.

One request is under way at a time. Its answer is read when it is needed, so a page can be requested ahead: it is
rendered meanwhile and waits in the render process.
"""

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import IO, TypeVar

from dotsctl.protocol.errors import ErrorCode, PageError, RenderingStoppedError
from dotsctl.protocol.render.exchange import (
    HELD,
    LENGTH,
    MAX_HEADER_BYTES,
    MAX_HINT_ANSWER_BYTES,
    ROOM_BYTES,
    HintAnswer,
    RenderAnswer,
    RenderRequest,
    packed,
    unpacked,
)
from dotsctl.protocol.render.finishing import is_finishing
from dotsctl.protocol.render.opening import DEFAULT_TIMEOUT_S
from dotsctl.protocol.typed_values import WrongValueError

Header = TypeVar("Header", RenderAnswer, HintAnswer)
HINT_S = 1.0
"""Longest time from the pixels of a page to its hint, which takes a hundredth of that where nothing is wrong."""
FIRST_HINT_S = 5.0
"""The same for the first hint of a process, which imports the plugin."""
START_S = 60.0
"""Longest time from the start of the process to its first sign."""
PIPE_BYTES = 1 << 20
"""The size of a pipe under Linux, where unprivileged users may have so much; a page then takes few turns."""
ENVIRONMENT = ("PYTHON", "_PYTHON", "LD_", "DYLD_", "LC_", "LANG", "HOME", "PATH", "TMPDIR")
"""Beginnings of the variables that the process gets: no password and no token is among them."""
ALLOCATION = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
    "MALLOC_ARENA_MAX": "1",
}
"""Lets glibc use the memory of a page for the next one: to get it from the system each time took 7 of 18 ms a page."""
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""NumPy copies pixels there and multiplies no matrices: more threads of its library would only take memory."""
WATCH_S = 0.05
"""The interval between two checks of the footprint, on macOS and while a request is under way."""


class _LostError(Exception):
    """The process ended, or sent an invalid message; the page may be the cause, or one before it."""


@dataclass
class PendingAnswer:
    """A request that was sent, and its answer when that has been read."""

    request: RenderRequest
    content: bytes | memoryview = b""
    answer: RenderAnswer | None = None
    pixels: bytearray | None = None
    hint: HintAnswer = HintAnswer()  # noqa: RUF009 - it is frozen


class RenderProcess:
    """Any thread may use it; in a forked process it starts a render process of its own."""

    def __init__(self, timeout_s: Callable[[], float] = lambda: DEFAULT_TIMEOUT_S) -> None:
        """Start nothing yet; ``timeout_s``, called at each start, returns the longest time of a request in seconds."""
        self._choose_timeout_s, self._timeout_s = timeout_s, DEFAULT_TIMEOUT_S
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._end_process: Callable[[], object] = lambda: None
        self._is_ready = self._is_stopped = False
        self._has_hinted = False
        """Whether the present process has given a hint."""
        self._num_answers = 0
        """The number of answers of the present process, which an earlier page than the failing one may have damaged."""
        self._deadline = 0.0
        self._content = 0
        """Number of the content that the present process holds."""
        self._under_way: PendingAnswer | None = None
        self._watching = threading.Event()

    @property
    def pid(self) -> int | None:
        """Process id; none: no process runs."""
        return self._process.pid if self._process is not None else None

    def descriptors(self) -> set[int]:
        """The ends of pipes that are open for the process."""
        streams = (self._process.stdin, self._process.stdout) if self._process is not None else ()
        return {stream.fileno() for stream in streams if stream is not None}

    def request(self, request: RenderRequest, content: bytes | memoryview = b"") -> PendingAnswer:
        """Send a request; the answer to an earlier one is read first, and kept for its caller.

        Args:
            request: without ``content_bytes``, which this fills in.
            content: of the document, where the request has no path.

        Raises:
            RenderingStoppedError: see :meth:`stop`; nothing was sent.
            PageError: the process cannot be started.
        """
        with self._lock:
            self._leave_to_owner()
            self._refuse_stopped()
            if self._is_stopped:
                self._end()  # whatever is under way is not needed any more
            self._settle()
            pending = PendingAnswer(request, content)
            self._send(pending)
            return pending

    def result(self, pending: PendingAnswer) -> tuple[RenderAnswer, bytearray]:
        """Wait for an answer; return it with the pixels of the requested page.

        Raises:
            RenderingStoppedError: see :meth:`stop`.
            PageError: the page cannot be read, takes too long, or ends or overfills the process.
        """
        with self._lock:
            self._leave_to_owner()
            if pending.answer is None:
                self._refuse_stopped()
            if pending is not self._under_way and pending.answer is None:  # its process was ended for another reason
                self._settle()
                self._send(pending)
            if pending is self._under_way:
                self._settle()
        assert pending.answer is not None and pending.pixels is not None
        pending.answer.raise_error()
        return pending.answer, pending.pixels

    def stop(self) -> None:
        """End the request under way, and refuse all others until :meth:`close`; for a signal handler.

        Their callers get RenderingStoppedError, but for those within ``finishing()``.
        """
        self._is_stopped = True  # first: a caller that is about to wait for a process that is started now checks it
        process = self._process
        if process is not None and self._under_way is not None and self._pid == os.getpid():
            process.kill()

    def close(self) -> None:
        """End the process; a later request starts another one, and repeats a request that was made ahead."""
        with self._lock:
            self._end()
            self._is_stopped = False

    def _settle(self) -> None:
        """Read the answer to the request under way, if any; where the process failed at it, that is the answer."""
        pending = self._under_way
        if pending is None:
            return
        try:
            answer, pixels = self._answered(pending)
        except PageError as error:
            answer, pixels = RenderAnswer.of_error(error), bytearray()
            self._end()
        except BaseException:
            self._end()
            raise
        self._under_way = None
        if self._process is not None:  # else the thread that watches it must see that it has ended
            self._watching.clear()
        self._num_answers += 1
        pending.answer, pending.pixels = answer, pixels
        if answer.is_last:
            self._end()

    def _answered(self, pending: PendingAnswer) -> tuple[RenderAnswer, bytearray]:
        """The answer; where a process fails that has answered before, a new one gets the same request once."""
        was_used = self._num_answers > 0
        try:
            answer, pixels = self._receive(pending)
            if not (answer.is_last and was_used):
                return answer, pixels
        except _LostError as lost:
            self._refuse_stopped()
            if not (was_used or self._is_stopped):  # stopped: what was ended is still needed, within finishing()
                raise _failure(str(lost)) from None
        self._end()
        self._send(pending)
        try:
            return self._receive(pending)
        except _LostError as lost:
            self._refuse_stopped()
            raise _failure(str(lost)) from None

    def _leave_to_owner(self) -> None:
        """Forget the process of the process that this one was forked from."""
        if self._pid != os.getpid():
            self._end()
            self._pid = os.getpid()

    def _refuse_stopped(self) -> None:
        if self._is_stopped and not is_finishing():
            raise RenderingStoppedError

    def _send(self, pending: PendingAnswer) -> None:
        """Send a request, with the content where the process does not have it."""
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._process is None:
            self._start()
        assert self._process is not None and self._process.stdin is not None
        request = pending.request
        self._deadline = time.monotonic() + self._timeout_s
        if request.content and request.content != self._content:
            request, self._content = replace(request, content_bytes=len(pending.content)), request.content
        self._under_way = pending
        self._watching.set()
        parts = [packed(request), *([] if request.content_bytes == HELD else [pending.content])]
        try:
            for part in parts:
                self._write(self._process.stdin.fileno(), memoryview(part))
        except BrokenPipeError:
            pass  # it has ended: reading the answer finds that out
        except BaseException:
            self._end()
            raise

    def _write(self, fd: int, part: memoryview) -> None:
        """Write all of a part, or what the process takes before the deadline: no answer comes to the rest."""
        start = 0
        while start < len(part):
            try:
                start += os.write(fd, part[start:])
            except BlockingIOError:
                self._refuse_stopped()
                if not _wait(fd, select.POLLOUT, self._deadline):
                    return

    def _receive(self, pending: PendingAnswer) -> tuple[RenderAnswer, bytearray]:
        """Header and pixels of the answer; the hint is noted. Raises _LostError, and PageError after the deadline."""
        assert self._process is not None and self._process.stdout is not None
        fd = self._process.stdout.fileno()
        if not self._is_ready:
            start = time.monotonic()
            try:
                self._header(RenderAnswer, fd, start + START_S)
            except (PageError, _LostError):
                self._refuse_stopped()
                text = f"the render process does not start ({_end_of(self._process)})"
                raise PageError(text, "check the installation with dotsctl doctor", code=ErrorCode.INTERNAL) from None
            self._is_ready, self._deadline = True, self._deadline + time.monotonic() - start
        answer = self._header(RenderAnswer, fd, self._deadline)
        pixels = bytearray(answer.nbytes)
        # The page is rendered, and may have waited for us for longer than a page may take.
        self._fill(fd, memoryview(pixels), time.monotonic() + self._timeout_s)
        if answer.hint_follows:
            pending.hint = self._hint(fd)
        return answer, pixels

    def _hint(self, fd: int) -> HintAnswer:
        """The hint behind a page; a process that does not give one in time is ended, for the page is there."""
        limit_s = HINT_S if self._has_hinted else FIRST_HINT_S
        try:
            answer = self._header(HintAnswer, fd, time.monotonic() + limit_s, MAX_HINT_ANSWER_BYTES)
            self._has_hinted = True
            return answer
        except PageError:
            problem = f"it was not made within {limit_s:g} s"
        except _LostError as lost:
            problem = f"it ended the process that makes it ({lost})"
        self._end()
        return HintAnswer(problem=problem)

    def _header(self, kind: type[Header], fd: int, deadline: float, most_bytes: int = MAX_HEADER_BYTES) -> Header:
        length = bytearray(LENGTH.size)
        self._fill(fd, memoryview(length), deadline)
        (nbytes,) = LENGTH.unpack(length)
        if nbytes > most_bytes:
            raise _LostError(f"an answer of {nbytes} bytes")
        header = bytearray(nbytes)
        self._fill(fd, memoryview(header), deadline)
        try:
            return unpacked(kind, bytes(header))
        except WrongValueError as error:
            raise _LostError(str(error)) from None

    def _fill(self, fd: int, buffer: memoryview, deadline: float) -> None:
        """Read until the buffer is full. Raises _LostError, and PageError after the deadline."""
        start = 0
        while start < len(buffer):
            try:
                count = os.readv(fd, [buffer[start:]])
            except BlockingIOError:
                self._refuse_stopped()
                if not _wait(fd, select.POLLIN, deadline):
                    raise PageError(
                        f"the page was not rendered within {self._timeout_s:g} s",
                        "raise render_timeout (DOTSCTL_RENDER_TIMEOUT), or export the document again",
                    ) from None
                continue
            if not count:
                raise _LostError(_end_of(self._process))
            start += count

    def _start(self) -> None:
        """Start a process. Raises PageError."""
        self._timeout_s = self._choose_timeout_s()
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "dotsctl.protocol.render"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                cwd="/",
                env=ALLOCATION | ONE_THREAD | _environment(),
                start_new_session=True,  # a Ctrl-C in the terminal is for the owner, who decides what ends
            )
        except OSError as error:
            raise PageError(
                f"cannot start the process that renders the page: {error}",
                "close other programs and try again",
                code=ErrorCode.INTERNAL,
            ) from None
        self._process, self._pid, self._watching = process, os.getpid(), threading.Event()
        self._end_process = weakref.finalize(self, _end, process, self._pid, self._watching)
        self._is_ready, self._has_hinted, self._num_answers, self._content = False, False, 0, 0
        for stream in (process.stdin, process.stdout):
            _prepare_pipe(stream)
        if sys.platform == "darwin":
            watch = threading.Thread(target=_watch_footprint, args=(process, self._watching), daemon=True)
            watch.start()

    def _end(self) -> None:
        """End the process; one of the process that this one was forked from is not ended."""
        self._end_process()
        self._process = self._under_way = None


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(ENVIRONMENT)}


def _prepare_pipe(stream: IO[bytes] | None) -> None:
    assert stream is not None
    os.set_blocking(stream.fileno(), False)
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # the user has too many large pipes
            fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _wait(fd: int, event: int, deadline: float) -> bool:
    """Return whether a pipe can be read or written before the deadline."""
    poll = select.poll()
    poll.register(fd, event)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _end_of(process: "subprocess.Popen[bytes] | None") -> str:
    """The end of a process that has closed its pipe, described for people."""
    try:
        code = process.wait(1.0) if process is not None else 0
    except subprocess.TimeoutExpired:
        return "no answer"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _failure(reason: str) -> PageError:
    return PageError(
        f"the page ended the process that renders it ({reason})", "export the document again, at a lower resolution"
    )


def _end(process: "subprocess.Popen[bytes]", owner: int, watching: threading.Event) -> None:
    if owner == os.getpid():
        process.kill()
        process.wait()
    watching.set()  # for the thread that watches the process, which ends then
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _watch_footprint(process: "subprocess.Popen[bytes]", watching: threading.Event) -> None:
    """End a process that takes more memory than it may, as macOS would not; runs in a thread until the process ends."""
    from dotsctl.protocol.machine.libproc import footprint  # of macOS alone

    first = footprint(process.pid)
    limit_bytes = ROOM_BYTES + (first[0] if first else 0)
    pause = threading.Event()
    while watching.wait() and process.returncode is None and (found := footprint(process.pid)) is not None:
        if found[0] > limit_bytes:
            process.kill()
            return
        pause.wait(WATCH_S)
