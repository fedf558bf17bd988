"""Locks where the volume supports flock, where it supports record locks alone, and where it supports neither."""

import errno
import fcntl
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dotsctl.client.files.partial_folder import LOCK, PartialFolder
from dotsctl.protocol.endpoints import InstanceDirectory, InstanceLock, lock_holder
from dotsctl.protocol.errors import AlreadyRunningError, CommandFailedError
from dotsctl.protocol.locks import try_lock, try_record_lock

from tests.unit.test_imports import ROOT, SOURCES

HOLD = """
import errno, fcntl, os, sys
def refuse(*_):
    raise OSError(int(sys.argv[2]), "refused")
fcntl.flock = refuse
from dotsctl.protocol.locks import try_lock
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.pwrite(descriptor, str(os.getpid()).encode(), 0)
print(try_lock(descriptor), flush=True)
sys.stdin.read()
"""


def refuse(monkeypatch: pytest.MonkeyPatch, number: int, *names: str) -> None:
    """Let the system refuse these kinds of locks, as a network volume does."""

    def lock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    for name in names:
        monkeypatch.setattr(fcntl, name, lock)


@contextmanager
def held_by_another_process(path: Path, number: int) -> Iterator[int]:
    """Lock a file in a process for which ``flock`` ends with an error; yields the process id."""
    command = [sys.executable, "-P", "-c", HOLD, str(path), str(number)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], 20.0)[0], "the other process does not start"
            assert process.stdout.readline() == "True\n"
            yield process.pid
        finally:
            process.kill()


@pytest.fixture
def directory(tmp_path: Path) -> InstanceDirectory:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    return InstanceDirectory("test", folder)


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL])
def test_without_flock_a_record_lock_shows_who_runs_and_keeps_others_out(
    directory: InstanceDirectory, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refuse(monkeypatch, number, "flock")
    with held_by_another_process(directory.lock_path, number) as pid:
        assert lock_holder(directory) == pid
        with pytest.raises(AlreadyRunningError, match=f"pid {pid}"):
            InstanceLock(directory)
    assert lock_holder(directory) is None, "the lock ends with its process"
    lock = InstanceLock(directory)
    assert lock.is_current
    lock.release()
    assert not directory.lock_path.exists()


def test_without_flock_one_process_downloads_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, errno.ENOTSUP, "flock")
    partial = PartialFolder(tmp_path / "model")
    partial.path.mkdir()
    with (
        held_by_another_process(partial.path / LOCK, errno.ENOTSUP),
        pytest.raises(CommandFailedError, match="another process is downloading"),
    ):
        partial.__enter__()
    with partial:
        assert partial.path.is_dir()


def test_without_any_lock_nothing_runs_and_the_remedy_is_named(
    directory: InstanceDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, errno.ENOTSUP, "flock", "lockf")
    before = set(Path("/dev/fd").iterdir())
    with pytest.raises(CommandFailedError, match="supports no file locks") as raised:
        InstanceLock(directory)
    assert "DOTSCTL_RUNTIME_DIR" in raised.value.remedy
    with pytest.raises(CommandFailedError, match="supports no file locks"):
        lock_holder(directory)
    with pytest.raises(CommandFailedError, match="supports no file locks") as raised:
        PartialFolder(tmp_path / "model").__enter__()
    assert "DOTSCTL_MODELS" in raised.value.remedy
    assert set(Path("/dev/fd").iterdir()) == before, "no descriptor is left open"


def test_a_disk_that_fails_is_an_error_and_not_a_volume_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, errno.EIO, "flock", "lockf")
    with (tmp_path / "lock").open("w+b") as file:
        for lock in (try_lock, try_record_lock):
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                lock(file.fileno())


def test_everything_is_locked_in_one_place() -> None:
    users = [path for path in SOURCES if re.search(r"\bflock\(|\blockf\(", (ROOT / path).read_text())]
    assert users == ["protocol/locks.py"]
