"""Writing what is made from a model: where there is room, under a hidden name first, and whole or not at all."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click
from dotsctl.client.sizes import size_text
from dotsctl.protocol.errors import CommandFailedError

SPARE_BYTES = 64 << 20
"""Left free beside what is written, for everybody else who writes to the disk meanwhile."""

Item = TypeVar("Item")


def watched(items: Sequence[Item], label: str) -> Iterator[Item]:
    """The items, with a bar on standard error where that is a terminal, else with one line."""
    with click.progressbar(items, label=label, file=sys.stderr) as bar:
        yield from bar


def require_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Refuse to begin what would not fit on the disk.

    Args:
        folder: where it is to be written; it need not exist.
        needed_bytes: of the files.
        what: to name in the message.

    Raises:
        CommandFailedError: there is too little room; with the numbers.
    """
    existing = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < needed_bytes + SPARE_BYTES:
        lacking = needed_bytes + SPARE_BYTES - free_bytes
        raise CommandFailedError(
            f"{what} takes {size_text(needed_bytes)}, and {existing} has {size_text(free_bytes)} free: free "
            f"{size_text(lacking)} more, or set DOTSCTL_MODELS to a folder on another disk"
        )


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A new folder beside ``target`` that takes its place when the block ends, and is removed when it raises.

    What a killed process has left beside ``target`` is removed first. Until the new folder is complete an old one stays
    as it is.

    Raises:
        CommandFailedError: the disk does not take it.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        partial.mkdir()
        yield partial
        _sync(partial)
        _put(partial, target)
    except OSError as error:
        raise CommandFailedError(f"cannot write {error.filename or target}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with contextlib.suppress(OSError):  # there is something else in it, as nearly always
            target.parent.rmdir()


def write_synced(path: Path, text: str) -> None:
    """Replace a text file by a complete new one, which survives a loss of power. Raises CommandFailedError."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        raise CommandFailedError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)


def _put(partial: Path, target: Path) -> None:
    """Rename; an old folder, which a rename does not replace, is put aside first and removed afterwards."""
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    if target.exists():
        target.replace(old)
    try:
        partial.replace(target)
    except OSError:
        if old.exists():
            old.replace(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Bring all files of a folder to the disk: a rename must not come before what it shows."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_abandoned(target: Path) -> None:
    """Remove what processes that are gone have left; their number stands in the name."""
    for left in target.parent.glob(f".{target.name}.*"):
        owner = left.name.removeprefix(f".{target.name}.").split(".")[0]
        if owner.isdecimal() and not _is_alive(int(owner)):
            shutil.rmtree(left, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's process
    return True
