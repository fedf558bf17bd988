"""Workers that would outlive their runtime because they are stopped, and how they are found and ended.

A running worker notices the end of its runtime by its standard input. One that is stopped (SIGSTOP, Ctrl-Z) notices
nothing. Under Linux the kernel kills it; elsewhere the next ``up`` or ``down`` does. Each worker holds a POSIX lock on
a file with its process id as name and that of its runtime as content. Such a lock ends with the process and is not
inherited, so a held one proves that the process of this id is that worker. A worker is left when its runtime is gone.
"""

import contextlib
import logging
import os
import select
import signal
import sys
import time
from pathlib import Path

from dotsctl.protocol.locks import try_record_lock

log = logging.getLogger(__name__)

PREFIX = "worker."
PR_SET_PDEATHSIG = 1
END_TIMEOUT_S = 5.0


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent ends; Linux alone can do that.

    A parent that has ended before this call has closed our standard input, which is read after it.
    """
    if sys.platform == "linux":
        import ctypes  # the client, which only ends left workers, need not load it

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def mark(folder: Path, runtime_pid: int) -> None:
    """Leave a locked file in the folder of the instance for as long as this process lives."""
    try:
        descriptor = os.open(folder / f"{PREFIX}{os.getpid()}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        if try_record_lock(descriptor):  # never closed: that would give the lock back
            os.write(descriptor, str(runtime_pid).encode())
    except OSError as error:
        log.warning("this worker leaves no mark: %s", error)


def unmark(folder: Path, pid: int) -> None:
    """Remove the mark of a process that has ended."""
    (folder / f"{PREFIX}{pid}").unlink(missing_ok=True)


def marks(folder: Path) -> list[Path]:
    """Return the marks of workers, living or dead."""
    return [path for path in folder.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdecimal()]


def end_left(folder: Path) -> int:
    """End the workers of a runtime that has ended, and return how many there were.

    Only for the holder of the instance's lock, which has no workers yet. The workers of a runtime that lost its folder
    or lock and finishes its pages are not left.
    """
    num_ended = 0
    for path in marks(folder):
        with contextlib.suppress(FileNotFoundError), path.open("rb+") as mark_file:
            if not try_record_lock(mark_file.fileno()):
                if _is_alive(mark_file.read().decode("ascii", "replace")):
                    continue
                num_ended += 1
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(path.name.removeprefix(PREFIX)), signal.SIGKILL)
                _wait_until_free(mark_file.fileno())
            path.unlink()
    return num_ended


def _is_alive(pid: str) -> bool:
    """Check whether a process exists; one whose id was given to another, or is not written yet, counts as alive."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, PermissionError):
        return True
    return True


def _wait_until_free(descriptor: int) -> None:
    """Wait for the end of a killed process; one that waits for a dead disk is abandoned after 5 s."""
    deadline, pause = time.monotonic() + END_TIMEOUT_S, select.poll()
    while not try_record_lock(descriptor) and time.monotonic() < deadline:
        pause.poll(10)
