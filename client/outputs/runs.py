"""The runs that work in one folder, and which of them writes what.

Each run has a file with a number that it raises every few seconds, in a hidden folder: its lease. A run whose number
stays the same for a minute of the observer's own clock has ended, and so has one of this machine whose process is gone;
clocks of different machines are never compared. Before a run writes something it claims it, by making a file that only
one of them can make. The claim of a run that has ended is replaced by making the next one of the same name, which
succeeds once. So a machine that slept finds that its claim is another's before it writes.
"""

import contextlib
import functools
import hashlib
import os
import platform
import re
import secrets
import sys
import threading
import time
import uuid
from pathlib import Path

from dotsctl.client.files.part_file import output_error
from dotsctl.protocol.model.files import is_running, make_folder, read_file

RUNS_NAME = ".dotsctl-runs"
"""The hidden folder."""
BEAT_S = 5.0
DEAD_AFTER_S = 60.0
"""A run has ended when its lease did not change for so long."""
MOST_TRIES = 10
"""Attempts at one claim while others make and remove theirs."""
LEASE, CLAIM, NOTES = "lease", "claim", "jsonl"
"""Endings of the files in it; notes are the journals of single runs."""
RUN = re.compile(r"([0-9a-f]{16})-([0-9]{1,10})-[0-9a-f]{8}")


def _machine() -> str:
    """A word for the kernel and the process numbers that this process sees; several machines may have one name."""
    facts = [platform.node()]
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox without /proc
            facts.append(read_file(Path("/proc/sys/kernel/random/boot_id")).decode())
            facts.append(str(Path("/proc/self/ns/pid").readlink()))
    else:
        facts.append(f"{uuid.getnode():x}")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


MACHINE = _machine()


class Runs:
    """The runs of one folder of results, and this one among them."""

    def __init__(self, folder: Path) -> None:
        """Touch nothing before :meth:`start`."""
        self._folder = folder / RUNS_NAME
        self.name = f"{MACHINE}-{os.getpid()}-{secrets.token_hex(4)}"
        """The name of this run."""
        self.is_started = False
        self._claims: dict[str, tuple[Path, Path]] = {}
        """The file of each claim that this run has made, and that by which another run takes it over."""
        self._seen: dict[str, tuple[bytes, float]] = {}
        """The last content of each file of another run, and when it was first seen, in monotonic seconds."""
        self._ended = threading.Event()
        self._beats = 0

    def start(self) -> None:
        """Make the lease, and keep it up. Raises OutputError."""
        if self.is_started:
            return
        try:
            make_folder(self._folder.parent)
            self._beat()
        except OSError as error:
            self._leave()
            raise output_error(self._folder.parent, error) from None
        self.is_started = True
        threading.Thread(target=self._keep_up, name="lease", daemon=True).start()

    def stop(self) -> None:
        """Give up all claims and the lease."""
        self._ended.set()
        for what in list(self._claims):
            self.release(what)
        if self.is_started:
            self.is_started = False
            self._leave()

    def _leave(self) -> None:
        _remove(self._lease(self.name))
        with contextlib.suppress(OSError):  # others exist
            self._folder.rmdir()

    def _keep_up(self) -> None:
        while not self._ended.wait(BEAT_S):
            with contextlib.suppress(OSError):  # a lease that cannot be written for a minute is lost, which is true
                self._beat()
        if not self.is_started:
            self._leave()

    def _beat(self) -> None:
        self._beats += 1
        for left in reversed(range(MOST_TRIES)):
            self._folder.mkdir(exist_ok=True)
            try:
                self._lease(self.name).write_bytes(b"%d\n" % self._beats)
                return
            except FileNotFoundError:  # the last of the other runs has removed the folder
                if not left:
                    raise

    def _lease(self, run: str) -> Path:
        return self._folder / f"{run}.{LEASE}"

    # --- claims ------------------------------------------------------------------------------------------------------

    def claim(self, what: str) -> bool:
        """Return whether this run may write ``what`` from now on; if not, another one does. Raises OutputError."""
        try:
            for _ in range(MOST_TRIES):
                found = self._made(what)
                if not found:
                    if self._make(what, 1):
                        return True
                    continue
                content = _content(self._path(what, found[-1]))
                if content is None:
                    continue  # removed meanwhile
                if content == self.name.encode():
                    return True
                if not self._has_ended(what, found[-1], content):
                    return False
                if self._make(what, found[-1] + 1):
                    for number in found:
                        _remove(self._path(what, number))
                    return True
        except OSError as error:
            raise output_error(self._folder, error) from None
        return False

    def holds(self, what: str) -> bool:
        """Return whether what this run has claimed is still its own. Raises OutputError."""
        try:
            if (claim := self._claims.get(what)) is None:
                return False
            return _content(claim[0]) == self.name.encode() and not _exists(claim[1])
        except OSError as error:
            raise output_error(self._folder, error) from None

    def release(self, what: str) -> None:
        """Let others have it."""
        if self.holds(what):
            _remove(self._claims[what][0])
        self._claims.pop(what, None)

    def _path(self, what: str, number: int) -> Path:
        return self._folder / f"{_digest(what)}.{number}.{CLAIM}"

    def _made(self, what: str) -> list[int]:
        """The numbers of all claims that there are, ascending."""
        start = self._path(what, 0).name.split(".")[0]
        return sorted(int(path.name.split(".")[1]) for path in listed(self._folder, CLAIM, f"{start}."))

    def _make(self, what: str, number: int) -> bool:
        path = self._path(what, number)
        try:
            with path.open("xb") as claim:
                claim.write(self.name.encode())
        except FileExistsError:
            return False
        except FileNotFoundError:  # the last of the other runs has removed the folder
            self._beat()
            return False
        self._claims[what] = path, self._path(what, number + 1)
        return True

    def _has_ended(self, what: str, number: int, owner: bytes) -> bool:
        """Return whether the run that made a claim has ended; a claim without a name is of a run killed at it."""
        if not owner:
            return not self._others() or self._is_unchanged(self._path(what, number), owner)
        return self.has_ended(owner.decode("ascii", "replace"))

    def has_ended(self, run: str) -> bool:
        """Return whether another run writes no more."""
        found = RUN.fullmatch(run)
        content = _content(self._lease(run)) if found else None
        if found is None or content is None:
            return True
        if found[1] == MACHINE and not is_running(int(found[2])):
            return True
        return self._is_unchanged(self._lease(run), content)

    def _is_unchanged(self, path: Path, content: bytes) -> bool:
        """Return whether a file has had this content for a minute."""
        now = time.monotonic()
        before, since_s = self._seen.get(path.name, (None, now))
        if before != content:
            self._seen[path.name] = (content, now)
            return False
        return now - since_s >= DEAD_AFTER_S

    def clear(self) -> list[str]:
        """Remove what runs that have ended left. Returns the names of the others that there are. Raises OSError."""
        others = self._others()
        for path in listed(self._folder, LEASE):
            if path.stem not in [self.name, *others]:
                _remove(path)
        if not others:
            for path in listed(self._folder, CLAIM):
                if _content(path) != self.name.encode():
                    _remove(path)
        return others

    def _others(self) -> list[str]:
        """The other runs that have not ended."""
        found = {path.stem for path in listed(self._folder, LEASE)} - {self.name}
        return sorted(run for run in found if not self.has_ended(run))


def listed(folder: Path, ending: str, start: str = "") -> list[Path]:
    """The files of a folder whose names have a start, and an ending after a dot; none where there is no folder."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - a Path for each of the others takes longer than the list
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder / name for name in names if name.startswith(start) and name.endswith(f".{ending}")]


@functools.lru_cache(maxsize=64)
def _digest(what: str) -> str:
    return hashlib.sha256(os.fsencode(what)).hexdigest()[:16]


def _exists(path: Path) -> bool:
    """Return whether there is a file. Raises OSError where that is unknown, as on a volume that does not answer."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _content(path: Path) -> bytes | None:
    """Return the content of a small file; none: it does not exist. Raises OSError."""
    try:
        return read_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # it is gone, or the disk takes nothing any more: others find that it is stale
        path.unlink()
