"""Making a folder so that it is there whole or not at all."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dotsctl.protocol.errors import OutputError


@contextmanager
def replacing(folder: Path, needed_bytes: int, report: Callable[[str], None]) -> Iterator[Path]:
    """A new hidden folder beside ``folder`` that takes its place in the end, and is removed if there is no end.

    Args:
        folder: what is made; one that is there already stays until the new one is complete.
        needed_bytes: refused right away if the disk has less room.
        report: is told of remains that were removed.

    Raises:
        OutputError: the disk is full, or cannot be written.
    """
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder, report)
        free = shutil.disk_usage(folder.parent).free
        if free < needed_bytes:
            raise OutputError(
                f"{folder.parent} has {free / 1e9:.1f} GB free, this needs {needed_bytes / 1e9:.1f} GB: "
                "make room, or set DOTSCTL_MODELS to a folder on a larger disk"
            )
        partial.mkdir()
        yield partial
        old = folder.with_name(f".{folder.name}.old.{os.getpid()}")
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error}): make room, or check who owns the folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove_abandoned(folder: Path, report: Callable[[str], None]) -> None:
    """Remove what conversions to the same folder left that were killed."""
    for path in folder.parent.glob(f".{folder.name}.*"):
        pid = path.name.rpartition(".")[2]
        if pid.isdecimal() and not _is_alive(int(pid)):
            report(f"removing {path}, left by a conversion that was killed")
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
