"""The runtime directory: where sockets, lock and facts of one running instance lie, and who may use them.

Sockets lie neither in the system's temporary folder nor, on macOS, in a cache folder: both are emptied while programs
run, and a second runtime could start beside the first. A held lock is the only proof
that an instance is alive; process ids are for display.
"""

import fcntl
import hashlib
import json
import os
import shutil
import stat
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs
from dotsctl.protocol.errors import AlreadyRunningError, CommandFailedError, UsageError
from dotsctl.protocol.typed_values import WrongValueError, from_json

MAX_NAME_CHARACTERS = 16
MAX_SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107
LONGEST_SOCKET_NAME = "d.9999999.sock"
SHORT_FOLDER = ".dotsctl-run"
"""In the home folder: the place of instances whose own folder has a path that is too long for sockets."""
PRIVATE_PREFIX = "p-"
"""Of the names of instances that belong to one process: its id follows, and something random, so none comes again."""


@dataclass(frozen=True)
class RuntimeFacts:
    """Content of ``runtime.json``, written when the runtime is ready."""

    instance: str
    """Random; a client compares it with what the runtime says."""
    pid: int
    model: str
    fingerprint: str
    encoder: str
    decoder: str


@dataclass(frozen=True)
class InstanceDirectory:
    """Paths of one instance."""

    name: str
    path: Path

    @property
    def client_endpoint(self) -> str:
        """Where clients connect."""
        return f"ipc://{self.path / 'c.sock'}"

    def worker_endpoint(self, pid: int) -> str:
        """Where workers of the runtime ``pid`` connect; what is left of an older one cannot find it."""
        return f"ipc://{self.path / f'w.{pid}.sock'}"

    def data_endpoint(self, epoch: int) -> str:
        """Where a decoder pulls embeddings; the epoch keeps a dead decoder's pages from its successor."""
        return f"ipc://{self.path / f'd.{epoch}.sock'}"

    @property
    def lock_path(self) -> Path:
        """File whose lock the running instance holds."""
        return self.path / "lock"

    @property
    def facts_path(self) -> Path:
        """File that is there while the runtime is ready."""
        return self.path / "runtime.json"

    def read_facts(self) -> RuntimeFacts | None:
        """Facts of the runtime, or none when none was written or it cannot be read."""
        try:
            return from_json(RuntimeFacts, self.facts_path.read_bytes())
        except (OSError, WrongValueError):
            return None

    def write_facts(self, facts: RuntimeFacts) -> None:
        """Announce the runtime; readers see the whole file or none."""
        partial = self.facts_path.with_suffix(".part")
        partial.write_text(json.dumps(asdict(facts)))
        partial.replace(self.facts_path)


def run_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Folder of all instances: ``DOTSCTL_RUNTIME_DIR``, else a folder of the user that no cleaner empties."""
    if chosen := environment.get("DOTSCTL_RUNTIME_DIR"):
        return Path(chosen).absolute()  # the runtime and its workers have another working directory
    if sys.platform != "darwin" and (runtime := environment.get("XDG_RUNTIME_DIR")):
        return Path(runtime) / "dotsctl"
    if sys.platform == "darwin":
        return platformdirs.user_data_path("dotsctl") / "run"  # in ~/Library/Application Support
    return platformdirs.user_cache_path("dotsctl") / "run"


def instance_directory(name: str) -> InstanceDirectory:
    """Paths of the instance ``name``; makes nothing.

    Where the folder's path is too long for sockets, a short one in the home folder stands for it, always the same.

    Raises:
        UsageError: the name has other characters than a-z, 0-9 and ``-``, or is too long.
        CommandFailedError: the path is longer than a socket may have.
    """
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789-")
    if not name or len(name) > MAX_NAME_CHARACTERS or not set(name) <= allowed:
        raise UsageError(f"instance name {name!r}: 1 to {MAX_NAME_CHARACTERS} characters of a-z, 0-9 and '-'")
    path = run_directory() / name
    if _longest_bytes(path) > MAX_SOCKET_PATH_BYTES:
        short = Path.home() / SHORT_FOLDER / hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
        if _longest_bytes(short) > MAX_SOCKET_PATH_BYTES:
            raise CommandFailedError(
                f"socket paths in {path} have up to {_longest_bytes(path)} bytes, in {short} {_longest_bytes(short)}, "
                f"at most {MAX_SOCKET_PATH_BYTES} are possible: set DOTSCTL_RUNTIME_DIR to a shorter folder"
            )
        path = short
    return InstanceDirectory(name, path)


def _longest_bytes(path: Path) -> int:
    """Of the paths of the sockets in an instance's folder."""
    return len(os.fsencode(path / LONGEST_SOCKET_NAME))


def create(directory: InstanceDirectory) -> None:
    """Make the instance's folder for its owner alone.

    Raises:
        CommandFailedError: it cannot be made, or belongs to somebody else, or others may write to it.
    """
    try:
        directory.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.path.mkdir(mode=0o700, exist_ok=True)
        status = directory.path.lstat()
    except OSError as error:
        raise CommandFailedError(
            f"cannot make the runtime directory {directory.path}: {error.filename}: {error.strerror}; "
            "set DOTSCTL_RUNTIME_DIR to a folder that you may write to"
        ) from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise CommandFailedError(
            f"the runtime directory {directory.path} must be a folder of yours with mode 0700, it has mode "
            f"{stat.S_IMODE(status.st_mode):04o} and owner {status.st_uid}: remove it, or set DOTSCTL_RUNTIME_DIR"
        )


class InstanceLock:
    """The lock of an instance, held as long as the object is open."""

    def __init__(self, directory: InstanceDirectory) -> None:
        """Take the lock and write our process id into it.

        Raises:
            AlreadyRunningError: another process holds it.
            CommandFailedError: something else lies in its place, or the disk is full.
        """
        self._path = directory.lock_path
        while True:
            self._fd = _open_lock(self._path, os.O_CREAT)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = os.pread(self._fd, 32, 0).decode(errors="replace").strip()
                os.close(self._fd)
                raise AlreadyRunningError(
                    f"instance {directory.name!r} is already running (pid {pid or 'unknown'}): use it, "
                    "or stop it with 'dotsctl down'"
                ) from None
            if self._is_current():
                break
            os.close(self._fd)  # the last holder removed this file after we had opened it
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            self.release()
            raise CommandFailedError(_cannot_write(self._path, error)) from None

    def _is_current(self) -> bool:
        try:
            return self._path.stat().st_ino == os.fstat(self._fd).st_ino
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Remove the file and give the lock back."""
        self._path.unlink(missing_ok=True)
        os.close(self._fd)


def _open_lock(path: Path, flags: int) -> int:
    """Open a lock file, but nothing that a link in its place leads to. Raises FileNotFoundError, CommandFailedError."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except OSError as error:
        raise CommandFailedError(_cannot_write(path, error)) from None


def _cannot_write(path: Path, error: OSError) -> str:
    return f"cannot write {path}: {error.strerror}; set DOTSCTL_RUNTIME_DIR to a folder of yours with room in it"


def lock_holder(directory: InstanceDirectory) -> int | None:
    """Process id that holds the instance's lock; none when nobody does, 0 when it is not known."""
    try:
        fd = _open_lock(directory.lock_path, 0)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared, so that two who look do not take each other for it
        return None
    except BlockingIOError:
        text = os.pread(fd, 32, 0).decode(errors="replace").strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(fd)


def remove_stale(directory: InstanceDirectory) -> None:
    """Remove what a dead instance left; only for the holder of the lock.

    Raises:
        CommandFailedError: something that is no socket lies at a socket's place; it is left alone.
    """
    for path in [*directory.path.glob("*.sock"), *directory.path.glob("*.part")]:
        if path.suffix == ".sock" and not stat.S_ISSOCK(path.lstat().st_mode):
            raise CommandFailedError(f"{path} is not a socket: move it away and start again")
        path.unlink(missing_ok=True)
    directory.facts_path.unlink(missing_ok=True)


def remove_dead_private() -> None:
    """Remove the folders of private instances that were killed together with their owners.

    Such an instance ends with its owner, so it is dead when its lock is free and its owner is gone. It is also dead
    when its own process id stands in a lock that is free.
    """
    for folder in run_directory().glob(f"{PRIVATE_PREFIX}*"):
        try:
            fd = _open_lock(folder / "lock", 0)
        except FileNotFoundError:
            if _owner_is_gone(folder):
                shutil.rmtree(folder, ignore_errors=True)
            continue
        except CommandFailedError:
            continue  # something else that is not ours
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.pread(fd, 1, 0) or _owner_is_gone(folder):
                shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(fd)


def _owner_is_gone(folder: Path) -> bool:
    """Whether the process that made a private instance has ended; false also when that cannot be told."""
    pid = folder.name.removeprefix(PRIVATE_PREFIX).partition("-")[0]
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (ValueError, OverflowError, PermissionError):
        return False
    return False


def log_directory(directory: InstanceDirectory, *, private: bool) -> Path:
    """Folder of the instance's log files; that of a private instance goes with it."""
    if private:
        return directory.path / "log"
    return platformdirs.user_log_path("dotsctl") / directory.name
