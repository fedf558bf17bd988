"""The runtime directory: where sockets, lock and facts of one running instance lie, and who may use them.

Sockets never lie in the system's temporary folder: macOS empties it while programs run. A held lock is the only proof
that an instance is alive; process ids are for display.
"""

import fcntl
import json
import os
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
    return platformdirs.user_cache_path("dotsctl") / "run"


def instance_directory(name: str) -> InstanceDirectory:
    """Paths of the instance ``name``; makes nothing.

    Raises:
        UsageError: the name has other characters than a-z, 0-9 and ``-``, or is too long.
        CommandFailedError: the path is longer than a socket may have.
    """
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789-")
    if not name or len(name) > MAX_NAME_CHARACTERS or not set(name) <= allowed:
        raise UsageError(f"instance name {name!r}: 1 to {MAX_NAME_CHARACTERS} characters of a-z, 0-9 and '-'")
    path = run_directory() / name
    length = len(os.fsencode(path / LONGEST_SOCKET_NAME))
    if length > MAX_SOCKET_PATH_BYTES:
        raise CommandFailedError(
            f"socket paths in {path} have up to {length} bytes, at most {MAX_SOCKET_PATH_BYTES} are possible: "
            "set DOTSCTL_RUNTIME_DIR to a shorter folder"
        )
    return InstanceDirectory(name, path)


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
        """
        self._path = directory.lock_path
        while True:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def _is_current(self) -> bool:
        try:
            return self._path.stat().st_ino == os.fstat(self._fd).st_ino
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Remove the file and give the lock back."""
        self._path.unlink(missing_ok=True)
        os.close(self._fd)


def lock_holder(directory: InstanceDirectory) -> int | None:
    """Process id that holds the instance's lock; none when nobody does, 0 when it is not known."""
    try:
        fd = os.open(directory.lock_path, os.O_RDWR | os.O_CLOEXEC)
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


def log_directory(directory: InstanceDirectory, *, private: bool) -> Path:
    """Folder of the instance's log files; that of a private instance goes with it."""
    if private:
        return directory.path / "log"
    return platformdirs.user_log_path("dotsctl") / directory.name
