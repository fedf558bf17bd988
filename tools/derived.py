"""Writing what is derived from a model: only where there is room, and completely or not at all."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from dotsctl.client.files.sizes import size_text
from dotsctl.protocol.errors import CommandFailedError
from dotsctl.protocol.model.files import json_bytes, write_file

SPARE_BYTES = 64 << 20
"""The bytes left free in addition to what is written, for other programs that write to the disk meanwhile."""

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
            f"{what} takes {size_text(needed_bytes)}, and {existing} has {size_text(free_bytes)} free",
            f"free {size_text(lacking)} more, or set DOTSCTL_MODELS to a folder on another disk",
        )


def write_synced(path: Path, value: Any, indent: int = 1) -> None:
    """Replace a JSON file by a complete new one, which survives a power cut. Raises CommandFailedError."""
    try:
        write_file(path, json_bytes(value, indent))
    except OSError as error:
        raise CommandFailedError(f"cannot write {path}: {error.strerror or error}") from None
