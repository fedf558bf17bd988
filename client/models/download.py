"""One file of the Hub onto the disk: resumed after an interruption, and verified."""

import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from dotsctl.client.models.hub import BrokenConnectionError, Hub, RemoteFile, Snapshot
from dotsctl.protocol.errors import CommandFailedError
from dotsctl.protocol.model.files import flush, open_regular

UNFINISHED = ".unfinished"
MAX_BARREN_ATTEMPTS = 4
"""Attempts in a row without a new byte, after which the network counts as down."""
FIRST_PAUSE_S = 1.0
"""The pause before the second attempt; each further pause is twice as long."""
READ_BYTES = 1 << 20

OnBytes = Callable[[int], None]
"""Called with the number of additional bytes of a file that are there; negative where some had to be dropped."""


def present_bytes(file: RemoteFile, folder: Path) -> int:
    """Return how many bytes of a file are in the folder already; their content is verified later."""
    for path in (folder / file.name, _unfinished(file, folder)):
        if path.is_file():
            return min(path.stat().st_size, file.size_bytes)
    return 0


def download(hub: Hub, snapshot: Snapshot, file: RemoteFile, folder: Path, on_bytes: OnBytes) -> None:
    """Download a file into the folder; what is there of it already is kept.

    Raises:
        CommandFailedError: the Hub refuses, the network is down, or the bytes have another digest than the Hub states.
        OSError: the file cannot be written, as on a full disk.
    """
    target = folder / file.name
    if target.is_file():
        on_bytes(min(target.stat().st_size, file.size_bytes))
        if _digest_of(target, file) == file.digest:
            return
        on_bytes(-min(target.stat().st_size, file.size_bytes))
        target.unlink()
    unfinished = _unfinished(file, folder)
    cached = hub.cached(snapshot, file)
    if cached is not None and not unfinished.is_file():
        shutil.copyfile(cached, unfinished)
        if _digest_of(unfinished, file) != file.digest:  # the cache is damaged, the Hub may not be
            unfinished.unlink()
    _complete(hub, snapshot, file, unfinished, on_bytes)
    found = _digest_of(unfinished, file)
    if found != file.digest:
        unfinished.unlink()
        raise CommandFailedError(
            f"{file.name} of {snapshot.repo} arrived with the digest {found}, it should have {file.digest}: "
            "the download was damaged and the file was deleted",
            "pull again; the other files are kept",
        )
    unfinished.rename(target)


def _unfinished(file: RemoteFile, folder: Path) -> Path:
    """Return the path where a file grows; its name holds the digest, so bytes of two versions never mix."""
    return folder / f".{file.digest.rpartition(':')[2]}{UNFINISHED}"


def _complete(hub: Hub, snapshot: Snapshot, file: RemoteFile, path: Path, on_bytes: OnBytes) -> None:
    """Append to ``path`` until it has the size of the file."""
    barren, pause = 0, threading.Event()
    with path.open("ab") as sink:
        if sink.tell() > file.size_bytes:
            sink.truncate(0)
        size_bytes = sink.seek(0, os.SEEK_END)
        on_bytes(size_bytes)
        while size_bytes < file.size_bytes:
            before = size_bytes
            try:
                with hub.stream(snapshot, file, size_bytes) as (start, pieces):
                    if start != size_bytes:  # the server cannot begin in the middle
                        on_bytes(start - size_bytes)
                        sink.truncate(start)
                        before = start
                    for piece in pieces:
                        sink.write(piece)
                        on_bytes(len(piece))
                        if sink.tell() > file.size_bytes:
                            break  # what comes is something else; the digest will show it
                problem = "the answer ended too early"
            except BrokenConnectionError as error:
                problem = str(error)
            size_bytes = sink.seek(0, os.SEEK_END)
            barren = 0 if size_bytes > before else barren + 1
            if barren == MAX_BARREN_ATTEMPTS:
                raise CommandFailedError(
                    f"the download of {file.name} stopped at {size_bytes} of {file.size_bytes} bytes ({problem})",
                    "check the network and pull again to resume",
                )
            if barren:
                pause.wait(FIRST_PAUSE_S * 2 ** (barren - 1))  # never set: the network gets time to come back
        sink.flush()
        flush(sink.fileno())


def _digest_of(path: Path, file: RemoteFile) -> str:
    """Digest of a local file, of the kind that the Hub states for it."""
    kind = file.digest.partition(":")[0]
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(usedforsecurity=False)
    if kind == "git-sha1":
        digest.update(f"blob {path.stat().st_size}\0".encode())
    with open_regular(path) as stream:
        while piece := stream.read(READ_BYTES):
            digest.update(piece)
    return f"{kind}:{digest.hexdigest()}"
