"""The runtime directory: where sockets, lock and facts of one running instance are stored, and who may use them.

Sockets lie neither in the system's temporary folder nor, on macOS, in a cache folder: both are emptied while programs
run, and a second runtime could start as well. A held lock is the only proof
that an instance is alive; process ids are for display.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from dotsctl.protocol.errors import AlreadyRunningError, CommandFailedError, RuntimeLostError, UsageError
from dotsctl.protocol.left_workers import end_left
from dotsctl.protocol.locks import try_lock
from dotsctl.protocol.typed_values import WrongValueError, from_json

MAX_NAME_CHARACTERS = 16
MAX_SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107
LONGEST_SOCKET_NAME = "d.9999999.sock"
SHORT_FOLDER = ".dotsctl-run"
"""The folder, in the home folder, of instances whose own folder has a path that is too long for sockets."""
PRIVATE_PREFIX = "p-"
"""The beginning of the names of instances of one process: its id and something random follow, so none is repeated."""


@dataclass(frozen=True)
class RuntimeFacts:
    """Content of ``runtime.json``, written when the runtime is ready."""

    instance: str
    """A random text; a client compares it with what the runtime reports."""
    pid: int
    model: str
    fingerprint: str
    encoder: str
    decoder: str
    release: str = ""
    """Versions of the package and the wire; empty: the runtime is older than this field."""


@dataclass(frozen=True)
class InstanceDirectory:
    """Paths of one instance."""

    name: str
    path: Path

    @property
    def client_socket(self) -> Path:
        """Socket on which clients arrive."""
        return self.path / "c.sock"

    @property
    def closed_client_socket(self) -> Path:
        """The name of that socket while the runtime takes no more connections."""
        return self.path / "closed.sock"

    @property
    def client_endpoint(self) -> str:
        """The address to which clients connect."""
        return f"ipc://{self.client_socket}"

    def worker_endpoint(self, pid: int) -> str:
        """The address to which workers of the runtime ``pid`` connect; workers left by an older one cannot find it."""
        return f"ipc://{self.worker_socket(pid)}"

    def worker_socket(self, pid: int) -> Path:
        """Socket of :meth:`worker_endpoint`."""
        return self.path / f"w.{pid}.sock"

    def data_endpoint(self, epoch: int) -> str:
        """The address of a decoder's embeddings; the epoch keeps a dead decoder's pages from its successor."""
        return f"ipc://{self.path / f'd.{epoch}.sock'}"

    @property
    def lock_path(self) -> Path:
        """The file whose lock the running instance holds."""
        return self.path / "lock"

    @property
    def facts_path(self) -> Path:
        """The file that exists while the runtime is ready."""
        return self.path / "runtime.json"

    def read_facts(self) -> RuntimeFacts | None:
        """Facts of the runtime, or none when none was written or it cannot be read."""
        try:
            return from_json(RuntimeFacts, self.facts_path.read_bytes(), ignore_unknown=True)
        except (OSError, WrongValueError):
            return None


def socket_of(endpoint: str) -> Path:
    """Return the file of an endpoint."""
    return Path(endpoint.removeprefix("ipc://"))


def run_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Folder of all instances: ``DOTSCTL_RUNTIME_DIR``, else a folder of the user that no cleaner empties."""
    if chosen := environment.get("DOTSCTL_RUNTIME_DIR"):
        return Path(chosen).absolute()  # the runtime and its workers have another working directory
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    if sys.platform != "darwin" and Path(runtime).is_absolute():  # the specification: a relative one is ignored
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
                f"at most {MAX_SOCKET_PATH_BYTES} are possible",
                "set DOTSCTL_RUNTIME_DIR to a shorter folder",
            )
        path = short
    return InstanceDirectory(name, path)


def instances() -> list[InstanceDirectory]:
    """All that look like instances, running or not; what is named otherwise is not ours.

    A named instance has a folder of logs as well, by which one in the short folder of the home folder is found.
    """
    folders = [folder for folder in (run_directory(), Path(platformdirs.user_log_path("dotsctl"))) if folder.is_dir()]
    found = []
    for name in sorted({path.name for folder in folders for path in folder.iterdir()}):
        with contextlib.suppress(UsageError, CommandFailedError):
            found.append(instance_directory(name))
    return [directory for directory in found if directory.path.is_dir()]


def _longest_bytes(path: Path) -> int:
    """The length of the longest path of a socket in an instance's folder."""
    return len(os.fsencode(path / LONGEST_SOCKET_NAME))


def create(directory: InstanceDirectory) -> None:
    """Make the instance's folder for its owner alone.

    Raises:
        CommandFailedError: it cannot be made, or belongs to another user, or others may write to it.
    """
    try:
        directory.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise CommandFailedError(
            f"cannot make the runtime directory {directory.path}: {error.filename}: {error.strerror}",
            "set DOTSCTL_RUNTIME_DIR to a folder that you may write to",
        ) from None
    require_own(directory)


def require_own(directory: InstanceDirectory) -> None:
    """Refuse a folder in which another user could put sockets, lock or facts; one that is not there is fine.

    Raises:
        CommandFailedError: it is a link or no folder, belongs to another user, or others may write to it.
    """
    try:
        status = directory.path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise CommandFailedError(
            f"the runtime directory {directory.path} cannot be examined: {error.strerror}",
            "set DOTSCTL_RUNTIME_DIR to a folder of yours",
        ) from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise CommandFailedError(
            f"the runtime directory {directory.path} must be a folder of yours with mode 0700, it has mode "
            f"{stat.S_IMODE(status.st_mode):04o} and owner {status.st_uid}",
            "remove it, or set DOTSCTL_RUNTIME_DIR",
        )


class InstanceLock:
    """The lock of an instance, held as long as the object is open."""

    def __init__(self, directory: InstanceDirectory) -> None:
        """Take the lock and write our process id into it.

        Raises:
            AlreadyRunningError: another process holds it.
            CommandFailedError: something else lies in its place, the disk is full, or the volume supports no locks.
        """
        self._path = directory.lock_path
        while True:
            self._fd = _open_lock(self._path, os.O_CREAT)
            try:
                is_ours = _is_locked(self._fd, self._path)
            except CommandFailedError:
                os.close(self._fd)
                raise
            if not is_ours:
                pid = os.pread(self._fd, 32, 0).decode(errors="replace").strip()
                os.close(self._fd)
                raise AlreadyRunningError(
                    f"instance {directory.name!r} is already running (pid {pid or 'unknown'})",
                    "use it, or stop it with 'dotsctl down'",
                ) from None
            if self.is_current:
                break
            os.close(self._fd)  # the last holder removed this file after we had opened it
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            self.release()
            raise _cannot_write(self._path, error) from None

    @property
    def is_current(self) -> bool:
        """Return whether the file that we hold still has its name: once removed, another process can take the lock."""
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._fd))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def release(self) -> None:
        """Remove the file, unless another one has its name by now, and give the lock back."""
        if self.is_current:
            self._path.unlink(missing_ok=True)
        os.close(self._fd)


def _open_lock(path: Path, flags: int) -> int:
    """Open a lock file, but nothing that a link in its place leads to. Raises FileNotFoundError, CommandFailedError."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise  # not the fault of the folder
        raise _cannot_write(path, error) from None


def _is_locked(descriptor: int, path: Path, *, shared: bool = False) -> bool:
    """See :func:`dotsctl.protocol.locks.try_lock`. Raises CommandFailedError where the volume supports no locks."""
    try:
        return try_lock(descriptor, shared=shared)
    except OSError as error:
        raise CommandFailedError(
            f"cannot lock {path}: {error.strerror}", "set DOTSCTL_RUNTIME_DIR to a folder on a local disk"
        ) from None


def _cannot_write(path: Path, error: OSError) -> CommandFailedError:
    return CommandFailedError(
        f"cannot write {path}: {error.strerror}", "set DOTSCTL_RUNTIME_DIR to a folder of yours with room in it"
    )


def lock_holder(directory: InstanceDirectory) -> int | None:
    """Return the process id that holds the instance's lock; none when no process does, 0 when it is unknown.

    Raises:
        CommandFailedError: the folder is not ours alone, so the lock may be held by another user's process; or its
            volume supports no locks.
    """
    require_own(directory)
    try:
        fd = _open_lock(directory.lock_path, 0)
    except FileNotFoundError:
        return None
    try:
        if _is_locked(fd, directory.lock_path, shared=True):  # so that two who check do not find each other
            return None
        text = os.pread(fd, 32, 0).decode(errors="replace").strip()
        return int(text) if text.isdecimal() else 0
    finally:
        os.close(fd)


def remove_stale(directory: InstanceDirectory) -> None:
    """Remove what a dead instance left; only for the holder of the lock.

    Raises:
        CommandFailedError: a file that is no socket has the name of a socket; it is kept.
    """
    for path in [path for kind in ("*.sock", "*.part", "worker.*") for path in directory.path.glob(kind)]:
        if path.suffix == ".sock" and not stat.S_ISSOCK(path.lstat().st_mode):
            raise CommandFailedError(f"{path} is not a socket", "move it away and start again")
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
            if _is_locked(fd, folder) and (os.pread(fd, 1, 0) or _owner_is_gone(folder)):
                end_left(folder)
                shutil.rmtree(folder, ignore_errors=True)
        except CommandFailedError:
            continue  # a volume without locks, where no runtime starts
        finally:
            os.close(fd)


def _owner_is_gone(folder: Path) -> bool:
    """Return whether the process that made a private instance has ended; false also when that is unknown."""
    pid = folder.name.removeprefix(PRIVATE_PREFIX).partition("-")[0]
    return pid.isdecimal() and not exists(int(pid))


def exists(pid: int) -> bool:
    """Return whether a process with this number exists, whoever owns it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OverflowError, PermissionError):
        return True
    return True


def not_running(name: str) -> RuntimeLostError:
    """Return the error of a command for an instance that does not run."""
    return RuntimeLostError(f"the runtime {name!r} is not running", f"start it with 'dotsctl up -d --name {name}'")


def log_directory(directory: InstanceDirectory, *, private: bool) -> Path:
    """Folder of the instance's log files; that of a private instance goes with it."""
    if private:
        return directory.path / "log"
    return platformdirs.user_log_path("dotsctl") / directory.name
