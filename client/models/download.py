"""One file of the Hub onto the disk: resumed after an interruption, and verified while it arrives."""

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
    _copy_cached(hub, snapshot, file, folder)
    unfinished = _unfinished(file, folder)
    found = _grow(hub, snapshot, file, unfinished, file.size_bytes, on_bytes)
    if found != file.digest:
        unfinished.unlink()
        raise CommandFailedError(
            f"{file.name} of {snapshot.repo} arrived with the digest {found}, it should have {file.digest}: "
            "the download was damaged and the file was deleted",
            "pull again; the other files are kept",
        )
    unfinished.rename(target)


def fetch_beginning(hub: Hub, snapshot: Snapshot, file: RemoteFile, folder: Path, num_bytes: int) -> Path:
    """Download the first bytes of a file, unless they are there; :func:`download` continues behind them.

    Args:
        hub: where it comes from.
        snapshot: the commit.
        file: one of its files.
        folder: where it will be.
        num_bytes: how many bytes are needed; a shorter file is downloaded completely.

    Returns:
        A path where the file begins; its content is verified when it is complete.

    Raises:
        CommandFailedError: the Hub refuses, or the network is down.
        OSError: the file cannot be written.
    """
    target, unfinished = folder / file.name, _unfinished(file, folder)
    if target.is_file():
        return target
    _copy_cached(hub, snapshot, file, folder)
    _grow(hub, snapshot, file, unfinished, min(num_bytes, file.size_bytes), lambda size_bytes: None)
    return unfinished


def _copy_cached(hub: Hub, snapshot: Snapshot, file: RemoteFile, folder: Path) -> None:
    """Copy a file that another program has downloaded, if none of it was downloaded here."""
    unfinished = _unfinished(file, folder)
    cached = hub.cached(snapshot, file)
    if cached is None or unfinished.is_file():
        return
    shutil.copyfile(cached, unfinished)
    if _digest_of(unfinished, file) != file.digest:  # the cache is damaged, the Hub may not be
        unfinished.unlink()


def _unfinished(file: RemoteFile, folder: Path) -> Path:
    """Return the path where a file grows; its name holds the digest, so bytes of two versions never mix."""
    return folder / f".{file.digest.rpartition(':')[2]}{UNFINISHED}"


def _grow(hub: Hub, snapshot: Snapshot, file: RemoteFile, path: Path, until: int, on_bytes: OnBytes) -> str:
    """Append to ``path`` until it has so many bytes; return the digest of them all, computed while they arrive."""
    barren, pause = 0, threading.Event()
    with path.open("ab") as sink:
        if sink.tell() > file.size_bytes:
            sink.truncate(0)
        size_bytes = sink.seek(0, os.SEEK_END)
        on_bytes(size_bytes)
        digest = _started(file)
        _read_into(digest, path)
        while size_bytes < until:
            before = size_bytes
            try:
                with hub.stream(snapshot, file, size_bytes, until) as (start, pieces):
                    if start != size_bytes:  # the server cannot begin in the middle
                        on_bytes(start - size_bytes)
                        sink.truncate(start)
                        before, digest = start, _started(file)
                    for piece in pieces:
                        sink.write(piece)
                        digest.update(piece)
                        on_bytes(len(piece))
                        if sink.tell() > file.size_bytes or until <= sink.tell() < file.size_bytes:
                            break  # what comes is something else, which the digest shows; or was not requested
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
    return _text(file, digest)


def _started(file: RemoteFile) -> "hashlib._Hash":
    """A digest of the kind that the Hub states for a file, before its first byte."""
    if _kind(file) == "sha256":
        return hashlib.sha256()
    return hashlib.sha1(f"blob {file.size_bytes}\0".encode(), usedforsecurity=False)


def _kind(file: RemoteFile) -> str:
    return file.digest.partition(":")[0]


def _text(file: RemoteFile, digest: "hashlib._Hash") -> str:
    return f"{_kind(file)}:{digest.hexdigest()}"


def _read_into(digest: "hashlib._Hash", path: Path) -> None:
    with open_regular(path) as stream:
        while piece := stream.read(READ_BYTES):
            digest.update(piece)


def _digest_of(path: Path, file: RemoteFile) -> str:
    """Digest of a local file, of the kind that the Hub states for it."""
    digest = _started(file)
    _read_into(digest, path)
    return _text(file, digest)
