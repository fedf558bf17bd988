"""Rotation of log files, although the processes that write to them never close them.

A worker's standard error is its log file, and what writes to it may be a library or the report of a crash: neither
can open another file. So a file that has become too large is copied and then cut to nothing; its writers
append, and continue at its new beginning. What is written between the last read of the copy and the cut, some
microseconds, is lost; a runtime that dies between the two leaves what it copied in both files.
"""

import logging
import os
import stat
from pathlib import Path

from dotsctl.client.connection.log_files import RUNTIME_LOG

log = logging.getLogger(__name__)

LIMIT_BYTES = 8 << 20
KEPT_FILES = 3
"""The files of each log: itself and the two before, ``NAME.log.1`` and the older ``NAME.log.2``."""
RETRY_S = 60.0
"""Pause after a copy that failed, as on a full disk."""
PIECE_BYTES = 1 << 20
STDOUT_FD, STDERR_FD = 1, 2


class LogRotation:
    """The log files of one folder."""

    def __init__(self, folder: Path, limit_bytes: int = LIMIT_BYTES, kept_files: int = KEPT_FILES) -> None:
        """Rotate the logs of ``folder``.

        Args:
            folder: its ``*.log`` files, all opened for appending by their writers.
            limit_bytes: a file of this size is cut.
            kept_files: of each log, the growing one included; at least 2.
        """
        self._folder, self._limit_bytes, self._kept_files = folder, limit_bytes, kept_files
        self._not_before = 0.0

    def rotate(self, now: float) -> None:
        """Cut files that are too large; to be called about once a second. A failure is logged and retried later."""
        if now < self._not_before:
            return
        try:
            for path in self._folder.glob("*.log"):
                if path.stat().st_size >= self._limit_bytes:
                    rotate_file(path, self._kept_files)
        except OSError as error:
            self._not_before = now + RETRY_S
            log.warning("a log file cannot be rotated: %s; retried after %.0f s", error, RETRY_S)

    def restore_own(self, now: float) -> None:
        """Begin the runtime's own log anew when it was removed; to be called about once a second.

        Standard output and standard error lead to it then. A failure is logged and retried later.
        """
        status = os.fstat(STDERR_FD)
        if now < self._not_before or not stat.S_ISREG(status.st_mode) or status.st_nlink:
            return
        path = self._folder / RUNTIME_LOG
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            self._not_before = now + RETRY_S
            log.warning("%s was removed and cannot be created again: %s", path, error)
            return
        for standard in (STDOUT_FD, STDERR_FD):
            os.dup2(descriptor, standard)
        os.close(descriptor)
        log.warning("%s was removed; a new one was created", path)


def rotate_file(path: Path, kept_files: int) -> None:
    """Copy a log to ``NAME.log.1``, after the older ones have moved on by one, and cut it.

    Raises:
        OSError: the copy cannot be written; then the log is as it was.
    """
    targets = [path.with_name(f"{path.name}.{number}") for number in range(1, kept_files)]
    for number in range(len(targets) - 1, 0, -1):
        if targets[number - 1].exists():
            targets[number - 1].replace(targets[number])
    with path.open("rb+", buffering=0) as growing:
        try:
            with targets[0].open("wb", buffering=0) as copy:
                while piece := growing.read(PIECE_BYTES):
                    copy.write(piece)
                os.ftruncate(growing.fileno(), 0)
        except OSError:
            targets[0].unlink(missing_ok=True)
            raise
