"""What the two ``fake`` plugins share: width, fingerprint, options, gate. They prove the runtime without a model."""

import ctypes
import hashlib
import os
import re
import resource
import signal
import threading
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.model_directory import fingerprint

WIDTH = 1024
"""Columns of the embeddings: a digest of 32 bytes as 32 numbers, again and again."""
FAULTS = ("die", "hang", "raise", "spin", "allocate")
"""What both can do to a page."""
LOAD_FAULTS = ("die", "hang", "refuse")

Options = TypeVar("Options")


def fake_fingerprint(model: Path, pretended: str = "") -> str:
    """Like a real plugin's, that of the model directory; without one both fakes agree on a constant.

    ``pretended`` stands for a model that is not there.
    """
    if pretended:
        return hashlib.sha256(pretended.encode()).hexdigest()
    known = (model / "config.json").is_file()
    return fingerprint(model) if known else hashlib.sha256(b"fake").hexdigest()


def read_options(cls: type[Options], options: dict[str, str], plugin: str) -> Options:
    """Fill a dataclass, whose fields all have defaults, from texts.

    Args:
        cls: the dataclass; a field's type is that of its default.
        options: texts by field name.
        plugin: name for error texts.

    Raises:
        UsageError: an unknown name, a text that is no number, a fault that is not known.
    """
    defaults = vars(cls())
    values: dict[str, object] = {}
    for key, text in options.items():
        if key not in defaults:
            raise UsageError(f"{plugin} has no option {key!r}; it has: {', '.join(defaults)}")
        try:
            values[key] = type(defaults[key])(text)
        except ValueError:
            raise UsageError(f"{plugin}: {key}={text!r} is not a number") from None
    for field in fields(cls):  # type: ignore[arg-type]
        known = field.metadata.get("one_of")
        if known and values.get(field.name, "") not in ("", *known):
            raise UsageError(f"{plugin}: {field.name} is one of {', '.join(known)}, not {values[field.name]!r}")
    return cls(**values)


def misbehave(fault: str, plugin: str) -> None:
    """Do one of :data:`FAULTS`; anything else is nothing.

    Raises:
        ZeroDivisionError: for ``raise``.
        MemoryError: for ``allocate``, where the system keeps limits of memory.
    """
    match fault:
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            threading.Event().wait()
        case "raise":
            raise ZeroDivisionError(f"{plugin} was told to raise")
        case "spin":
            spin()
        case "allocate":
            exhaust_memory()


def spin() -> None:
    """Compute for ever without giving up the interpreter's lock: no other thread of the process runs again."""
    re.match("(a*)*b", "a" * 100)


def hold_lock(seconds: float) -> None:
    """Hold the interpreter's lock, as a prediction of Core ML does: no other thread runs meanwhile."""
    ctypes.PyDLL(None).usleep(round(seconds * 1e6))


def exhaust_memory(headroom_bytes: int = 256 << 20) -> None:
    """Take memory until the system gives no more, which is ``headroom_bytes`` above what the process has now.

    Raises:
        MemoryError: always.
    """
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + headroom_bytes, limits[1]))
    taken = []
    try:
        while True:
            taken.append(bytearray(8 << 20))
    finally:
        taken.clear()
        resource.setrlimit(resource.RLIMIT_AS, limits)


def wait_at_gate(gate: Path) -> None:
    """Meet the writer of a FIFO and go on when it closes its end; without the FIFO go on at once."""
    try:
        with gate.open("rb") as reader:
            reader.read()
    except FileNotFoundError:
        return
