"""Files that iCloud or another cloud keeps elsewhere: downloaded before they are opened, the next two ahead.

macOS downloads such a file when a process reads it, and lets that process wait. So a thread reads it here, before the
render process opens it: a download takes none of the time that a page may take to be rendered or read, and none of the
time that its record states. A download has a deadline of its own, and Ctrl-C ends the wait for it.
"""

import shutil
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dotsctl.protocol.errors import PageError, RenderingStoppedError
from dotsctl.protocol.render.opening import open_input, unreadable

SF_DATALESS = 0x40000000
"""Flag by which macOS marks files whose content is not on the disk (``chflags.h``)."""
NUM_AHEAD = 2
START_S, SLOWEST_BYTES_S = 60.0, 100_000
"""A download may take this time, and longer by its size at this rate: 11 minutes for 60 MB."""
MOST_STUCK = 3
"""Downloads past their deadline that still wait; with so many of them no further one is begun."""
CHECK_S = 0.2
"""The interval between two checks for Ctrl-C."""
PIECE_BYTES = 1 << 20
ELSEWHERE = "the file is in iCloud or another cloud"


def remote_bytes(path: Path) -> int:
    """Size of a file that a cloud keeps elsewhere until it is read, in bytes; 0: it is here, or not known."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return 0  # its page reports why, when it is read
    return found.st_size if getattr(found, "st_flags", 0) & SF_DATALESS else 0


@dataclass
class _Download:
    """One file that is being downloaded, or was."""

    path: Path
    size_bytes: int
    error: PageError | None = None
    ended: threading.Event = field(default_factory=threading.Event)


class Downloads:
    """The downloads of a process. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._expected: list[Path] = []
        self._places: dict[Path, int] = {}
        self._begun: dict[Path, _Download] = {}
        """Downloads of files that were not requested yet, or are waited for."""
        self._late: list[_Download] = []
        """Downloads past their deadline, which nobody waits for any more."""
        self._is_stopped = False

    def expect(self, paths: Iterable[Path]) -> list[int]:
        """Note the order in which files will be requested, instead of an earlier one.

        Returns:
            The size in bytes of each of them that must be downloaded.
        """
        found = [(path, size) for path in paths if (size := remote_bytes(path))]
        with self._lock:
            self._expected = [path for path, _ in found]
            self._places = {path: place for place, path in enumerate(self._expected)}
        return [size for _, size in found]

    def fetch(self, path: Path) -> None:
        """Wait until a file is on the disk, and begin to download the two that are expected next, as far as they fit.

        Raises:
            PageError: it does not fit on the disk, or the cloud does not send it.
            RenderingStoppedError: see :meth:`stop`.
        """
        size_bytes = remote_bytes(path)
        if not size_bytes and path not in self._places:
            return
        with self._lock:
            download = self._begun.get(path) or (self._begin_needed(path, size_bytes) if size_bytes else None)
            self._begin_ahead(path)
        try:
            if download is not None:
                self._wait(download)
        finally:
            with self._lock:
                self._begun.pop(path, None)
        if download is not None and download.error is not None:
            raise download.error

    def stop(self) -> None:
        """Let those who wait stop waiting, until :meth:`resume`; for a signal handler."""
        self._is_stopped = True

    def resume(self) -> None:
        """Undo :meth:`stop`."""
        self._is_stopped = False

    def _begin_needed(self, path: Path, size_bytes: int) -> _Download:
        """Begin a download that a page waits for. Raises PageError where that is of no use."""
        self._late = [download for download in self._late if not download.ended.is_set()]
        if len(self._late) >= MOST_STUCK:
            raise _not_sent(f"was not downloaded, as {MOST_STUCK} before it")
        if (free_bytes := _free_bytes(path)) < size_bytes:
            sizes = f"it has {size_bytes / 1e6:.1f} MB, the disk has {free_bytes / 1e6:.1f} MB free"
            raise PageError(
                f"{ELSEWHERE}, and cannot be downloaded: {sizes}", "make room, and run the same command again"
            )
        return self._begin(path, size_bytes)

    def _begin_ahead(self, path: Path) -> None:
        """Begin the downloads that are expected after that of a file, in their order, while they fit on the disk."""
        place = self._places.get(path)
        if place is None or self._is_stopped:
            return
        for following in self._expected[place + 1 : place + 1 + NUM_AHEAD]:
            size_bytes = remote_bytes(following)
            if not size_bytes or following in self._begun:
                continue
            under_way = sum(each.size_bytes for each in self._begun.values() if not each.ended.is_set())
            if _free_bytes(following) - under_way < size_bytes:
                return
            self._begin(following, size_bytes)

    def _begin(self, path: Path, size_bytes: int) -> _Download:
        download = self._begun[path] = _Download(path, size_bytes)
        threading.Thread(target=self._run, args=(download,), name="download", daemon=True).start()
        return download

    def _run(self, download: _Download) -> None:
        """Read a file, so that the system downloads it; in a thread, for the system decides how long that takes."""
        try:
            with open_input(download.path) as stream:
                while stream.read(PIECE_BYTES) and not self._is_stopped:
                    pass
        except PageError as error:
            download.error = error
        except (OSError, ValueError) as error:
            download.error = unreadable(error)
        download.ended.set()

    def _wait(self, download: _Download) -> None:
        limit_s = START_S + download.size_bytes / SLOWEST_BYTES_S
        deadline = time.monotonic() + limit_s
        while not download.ended.wait(CHECK_S) and not self._is_stopped:
            if time.monotonic() >= deadline:
                self._late.append(download)
                raise _not_sent(f"was not downloaded within {limit_s:.0f} s")
        if self._is_stopped:
            raise RenderingStoppedError


def _not_sent(what: str) -> PageError:
    remedy = "check the connection, choose 'Download Now' in its menu in Finder, and run the same command again"
    return PageError(f"{ELSEWHERE}, and {what}", remedy)


def _free_bytes(path: Path) -> int:
    """The space that is free on the disk of a file."""
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return 0  # the folder has gone: opening the file reports it


DOWNLOADS = Downloads()
"""The downloads of all clients of this process."""
