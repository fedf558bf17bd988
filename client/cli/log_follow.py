"""``dotsctl logs -f``: the lines of a runtime's logs as they are written, until the runtime ends.

Logs are cut when they have become too large (``runtime/log_rotation.py``) and every start of a worker has its own, so
all logs of the chosen roles are followed, old and new. A file that was cut is recognised by its beginning: lines
start with the time, so no two logs begin alike.
"""

import select
from collections.abc import Callable, Iterator
from pathlib import Path

from dotsctl.client.connection.launch import log_files
from dotsctl.client.connection.log_files import cut_off, role_of
from dotsctl.protocol.endpoints import InstanceDirectory, lock_holder, log_directory

POLL_S = 0.2
"""The interval between two checks: no event reports, on both systems, that a file has grown."""
HEAD_BYTES = 256


class FollowedLog:
    """One log file, and how far it was read."""

    def __init__(self, path: Path, position: int = 0) -> None:
        """Begin at ``position`` bytes of the file."""
        self.path, self._position = path, position
        self._head = _head(path)[:position] if position else b""
        self._rest = b""
        """The beginning of a line that is not complete yet."""

    def new_lines(self) -> list[bytes]:
        """Return complete lines, without their ends, that were written since the last call."""
        if not self.path.exists():
            return []
        head = _head(self.path)
        if self.path.stat().st_size < self._position or not head.startswith(self._head):
            self._read_what_was_cut_off()
            self._position = 0
            head = _head(self.path)
        self._rest += self._read(self.path)
        self._head = head[: self._position]
        *lines, self._rest = self._rest.split(b"\n")
        return lines

    def last_piece(self) -> list[bytes]:
        """Return the text after the last complete line, of a process that was ended in the middle of one."""
        piece, self._rest = self._rest, b""
        return [piece] if piece else []

    def _read_what_was_cut_off(self) -> None:
        """Read the rest of the file read so far, wherever it is now, and all of what was cut off after it."""
        pieces = cut_off(self.path)
        known = [index for index, piece in enumerate(pieces) if _head(piece).startswith(self._head)]
        if not known:
            self._rest += b"\n(lines are missing here: they were written faster than they were read)\n"
            self._position = 0
        for piece in pieces[known[-1] if known else 0 :]:
            self._rest += self._read(piece)
            self._position = 0

    def _read(self, path: Path) -> bytes:
        """Return the content after the position."""
        try:
            with path.open("rb") as file:
                file.seek(self._position)
                content = file.read()
        except OSError:  # removed with the runtime's folder
            return b""
        self._position += len(content)
        return content


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def follow(
    directory: InstanceDirectory,
    role: str | None,
    lines: int,
    show: Callable[[str, bytes], None],
    poll_s: float = POLL_S,
) -> None:
    """Show the last lines of each log and then every new one; returns when the runtime has ended, or does not run.

    Args:
        directory: of the instance.
        role: of which process; none: of all.
        lines: of each log to begin with.
        show: gets role and line.
        poll_s: pause between two checks.
    """
    folder = log_directory(directory, private=False)
    followed: dict[Path, FollowedLog] = {path: FollowedLog(path) for path in _logs(folder, role)}
    newest = log_files(directory.name)
    for path, log in followed.items():
        before = [line for piece in cut_off(path) for line in piece.read_bytes().splitlines()]
        old = before + log.new_lines()
        for line in old[-lines:] if newest.get(role_of(path)) == path else []:
            show(role_of(path), line)
    running = True
    while running:
        running = lock_holder(directory) is not None  # checked first: what it wrote before its end is still read
        for path in _logs(folder, role):
            log = followed.setdefault(path, FollowedLog(path))
            for line in log.new_lines():
                show(role_of(path), line)
        if running:
            select.select([], [], [], poll_s)
    for path, log in followed.items():
        for line in log.last_piece():
            show(role_of(path), line)


def _logs(folder: Path, role: str | None) -> Iterator[Path]:
    """Return the logs of the chosen roles, in the order in which they were begun."""
    for path in sorted(folder.glob("*.log"), key=lambda path: (path.name.split(".")[0], len(path.name), path.name)):
        if role in (None, role_of(path)):
            yield path
