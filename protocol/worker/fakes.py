"""The common parts of the two ``fake`` plugins: width, fingerprint, faults, gate. They need no model."""

import ctypes
import hashlib
import os
import re
import resource
import signal
import threading
from pathlib import Path

from dotsctl.protocol.model.directory import fingerprint
from dotsctl.protocol.worker.gpu_faults import INTERRUPTED_TEXTS, REFUSED_TEXTS, piece_share

WIDTH = 1024
"""Columns of the embeddings: a digest of 32 bytes as 32 numbers, again and again."""
FAULTS = ("die", "hang", "raise", "spin", "allocate", "ignored", "timeout")
"""The faults that both can cause at a page; the last two are those of a GPU."""
TIMEOUT_TEXT = f"GPU Timeout Error (00000002:{INTERRUPTED_TEXTS[0]})"
LOAD_FAULTS = ("die", "hang", "refuse")


def fake_fingerprint(model: Path, pretended: str = "") -> str:
    """Return the fingerprint of the model directory, as a real plugin does; without one, both fakes use a constant.

    ``pretended`` stands for a model that is not installed.
    """
    if pretended:
        return hashlib.sha256(pretended.encode()).hexdigest()
    known = (model / "config.json").is_file()
    return fingerprint(model) if known else hashlib.sha256(b"fake").hexdigest()


def misbehave(fault: str, plugin: str) -> None:
    """Do one of :data:`FAULTS`; anything else is nothing.

    Raises:
        RuntimeError: for ``ignored``, and for ``timeout`` while pieces of work have their usual size, as MLX does.
        ZeroDivisionError: for ``raise``.
        MemoryError: for ``allocate``, where the system keeps limits of memory.
    """
    match fault:
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            threading.Event().wait()
        case "raise":
            raise ZeroDivisionError(f"{plugin} is set to raise")
        case "spin":
            spin()
        case "allocate":
            exhaust_memory()
        case "ignored":
            refuse_as_gpu()
        case "timeout" if piece_share() == 1:
            raise RuntimeError(f"[METAL] Command buffer execution failed: Caused {TIMEOUT_TEXT}")


def refuse_as_gpu() -> None:
    """Raise what MLX does after faults of the GPU, when that takes no more work of a process.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(f"[METAL] Command buffer execution failed: {REFUSED_TEXTS[1]} (00000004:{REFUSED_TEXTS[0]})")


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
    """Meet the writer of a FIFO and continue when it closes its end; without the FIFO continue at once."""
    try:
        with gate.open("rb") as reader:
            reader.read()
    except FileNotFoundError:
        return
