"""Folders that exist completely or not at all: they grow under a hidden name and are renamed when complete."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dotsctl.protocol.errors import CommandFailedError
from dotsctl.protocol.model.files import flush_path, flush_tree, is_running


def remove_tree(path: Path) -> None:
    """Remove a folder, or a link to one without touching its target; nothing, if there is nothing. Raises OSError."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def install(new: Path, target: Path, aside: Path) -> None:
    """Give a complete folder its name; an old one is put aside first, as a rename does not replace it, and removed.

    Raises:
        OSError: a folder cannot be renamed; then the old one is in its place.
    """
    remove_tree(aside)
    if os.path.lexists(target):
        target.rename(aside)
    try:
        new.rename(target)
    except OSError:
        if os.path.lexists(aside):
            aside.rename(target)
        raise
    flush_path(target.parent)
    remove_tree(aside)


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Make a folder next to ``target`` that replaces it when the block ends, and is removed when it raises.

    What a killed process has left next to ``target`` is removed first. Until the new folder is complete an old one
    stays as it is.

    Raises:
        CommandFailedError: the disk does not take it.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        partial.mkdir()
        yield partial
        flush_tree(partial)
        install(partial, target, partial.with_name(f"{partial.name}.old"))
    except OSError as error:
        raise CommandFailedError(f"cannot write {error.filename or target}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with contextlib.suppress(OSError):  # there is something else in it, as nearly always
            target.parent.rmdir()


def _remove_abandoned(target: Path) -> None:
    """Remove what processes that are gone have left; their number stands in the name."""
    for left in target.parent.glob(f".{target.name}.*"):
        owner = left.name.removeprefix(f".{target.name}.").split(".")[0]
        if owner.isdecimal() and not is_running(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
