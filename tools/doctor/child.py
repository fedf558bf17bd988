"""Child processes of ``dotsctl doctor``: what may crash or hang is tried where that ends no other process."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dotsctl.client.runtime.worker_process import describe_exit

TAIL_LINES = 5
END_S = 5.0
PROGRESS = "progress"
"""The only key of a line that reports a step; every other line is the answer."""
_running: set["subprocess.Popen[bytes]"] = set()


@dataclass(frozen=True)
class ChildOutcome:
    """The result of a child process."""

    answer: dict[str, Any] | None
    """The answer; none when it ended, or was ended, before that."""
    how: str
    """``exit code 0``, ``signal SIGSEGV`` or ``killed after 60 s``."""
    tail: str
    """The last lines of what it and its libraries wrote."""


def ask(
    module: str,
    words: Sequence[str],
    limit_s: float,
    environment: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> ChildOutcome:
    """Run ``python -P -m MODULE WORDS`` with a descriptor for its answer; the child is gone when this returns.

    Args:
        module: full name; its ``main`` calls :func:`answering`.
        words: of its command line.
        limit_s: after so long without an answer or progress it is killed, with all that it has started.
        environment: what it has besides ours.
        progress: called with each step that it reports, see :func:`answering`.
    """
    reader, writer = os.pipe()
    command = [sys.executable, "-P", "-m", module, "--answer-fd", str(writer), *words]
    with tempfile.TemporaryFile() as log:
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=[writer], start_new_session=True,
                env={**os.environ, **(environment or {})},
            )  # fmt: skip
        except OSError:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        _running.add(child)
        try:
            content, in_time = _read_answer(reader, limit_s, progress)
            how = _end(child) if in_time else f"killed after {limit_s:.0f} s"
        finally:
            os.close(reader)
            _kill(child)
            _running.discard(child)
        log.seek(0)
        tail = "\n".join(log.read().decode(errors="replace").splitlines()[-TAIL_LINES:])
    return ChildOutcome(content, how, tail)


def _read_answer(fd: int, limit_s: float, progress: Callable[[str], None]) -> tuple[dict[str, Any] | None, bool]:
    """The answer, none where the pipe ends before; and whether that was in time. Progress renews the time."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    rest, deadline = b"", time.monotonic() + limit_s
    while True:
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return None, False
        piece = os.read(fd, 1 << 16)
        if not piece:
            return None, True
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            content = json.loads(line)
            if content.keys() != {PROGRESS}:
                return content, True
            progress(content[PROGRESS])
            deadline = time.monotonic() + limit_s


def _end(child: "subprocess.Popen[bytes]") -> str:
    """Return how a child ended that sends nothing more."""
    try:
        return describe_exit(child.wait(END_S))
    except subprocess.TimeoutExpired:
        return f"killed {END_S:.0f} s after its last word"


def _kill(child: "subprocess.Popen[bytes]") -> None:
    """End a child with all processes of its session, if any is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS reports the latter for a zombie
        os.killpg(child.pid, signal.SIGKILL)
    child.wait(END_S)
    if child.stdin is not None:
        child.stdin.close()


def end_all() -> None:
    """Kill the children that still run, when we are interrupted."""
    for child in list(_running):
        _kill(child)


def answering(arguments: Sequence[str], answer: Callable[[Sequence[str]], dict[str, Any]]) -> None:
    """Run as a child: call ``answer`` with its words, and send the result."""
    answering_with_progress(arguments, lambda words, _: answer(words))


def answering_with_progress(
    arguments: Sequence[str], answer: Callable[[Sequence[str], Callable[[str], None]], dict[str, Any]]
) -> None:
    """Entry of a child that takes long: ``answer`` gets a function too, to be called with each of its steps."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    fd = int(arguments[1])
    content = answer(arguments[2:], lambda text: _write_line(fd, {PROGRESS: text}))
    _write_line(fd, content)
    os._exit(0)  # libraries that hang or crash at their end have answered nevertheless


def _write_line(fd: int, content: dict[str, Any]) -> None:
    line = json.dumps(content).encode() + b"\n"
    while line:
        line = line[os.write(fd, line) :]


def _leave_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)
