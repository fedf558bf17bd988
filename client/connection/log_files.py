"""Names of log files: ``runtime.log`` and ``SLOT.EPOCH.log``, and their cut off parts, ``NAME.log.1``."""

from collections import deque
from pathlib import Path

RUNTIME_LOG = "runtime.log"
"""The log of the runtime itself."""


def role_of(path: Path) -> str:
    """``runtime``, ``decoder``, ``encoder``, or ``encoder2`` of the second of several."""
    return path.name.split(".")[0]


def cut_off(path: Path) -> list[Path]:
    """Return the files that were cut off a log because it had become too large, the oldest first."""
    pieces = [piece for piece in path.parent.glob(f"{path.name}.*") if piece.suffix[1:].isdecimal()]
    return sorted(pieces, key=lambda piece: -int(piece.suffix[1:]))


def remove_log(path: Path) -> None:
    """Remove a log with what was cut off it."""
    for each in (path, *cut_off(path)):
        each.unlink(missing_ok=True)


def last_line(path: Path) -> str:
    """Return the last line of a log, for a message; empty: there is none."""
    try:
        with path.open(errors="replace") as lines:
            return next(iter(deque(lines, 1)), "").strip()
    except OSError:
        return ""
