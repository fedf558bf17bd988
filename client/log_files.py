"""Names of log files: ``runtime.log`` and ``SEAT.EPOCH.log``, and behind each what was cut off it, ``NAME.log.1``."""

from pathlib import Path


def role_of(path: Path) -> str:
    """``runtime``, ``decoder``, ``encoder``, or ``encoder2`` of the second of several."""
    return path.name.split(".")[0]


def cut_off(path: Path) -> list[Path]:
    """What was cut off a log because it had become too large, the oldest first."""
    pieces = [piece for piece in path.parent.glob(f"{path.name}.*") if piece.suffix[1:].isdecimal()]
    return sorted(pieces, key=lambda piece: -int(piece.suffix[1:]))


def remove_log(path: Path) -> None:
    """Remove a log with what was cut off it."""
    for each in (path, *cut_off(path)):
        each.unlink(missing_ok=True)
