"""The runtime directory: names and paths, whose folder it is, the lock, and what a dead instance left."""

import errno
import os
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
import pytest
from dotsctl.protocol import endpoints
from dotsctl.protocol.endpoints import (
    LONGEST_SOCKET_NAME,
    MAX_SOCKET_PATH_BYTES,
    InstanceDirectory,
    InstanceLock,
    RuntimeFacts,
    create,
    instance_directory,
    lock_holder,
    log_directory,
    remove_dead_private,
    remove_stale,
    run_directory,
)
from dotsctl.protocol.errors import AlreadyRunningError, CommandFailedError, UsageError
from dotsctl.protocol.model.files import write_cache
from hypothesis import given, settings
from hypothesis import strategies as st

FACTS = RuntimeFacts("abc", 17, "demo", "f" * 64, "mlx", "mlx:batch=4")
HOLD_LOCK = """
import sys
from pathlib import Path
from dotsctl.protocol.endpoints import InstanceDirectory, InstanceLock
lock = InstanceLock(InstanceDirectory("test", Path(sys.argv[1])))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def directory(run_folder: Path) -> InstanceDirectory:
    made = instance_directory("test")
    create(made)
    return made


@contextmanager
def held_by_another_process(directory: InstanceDirectory) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-P", "-c", HOLD_LOCK, str(directory.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 20.0)[0], "the other process does not start"
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["a", "default", "p-0123456789", "a" * 16, "0-9"])
def test_a_name_of_small_letters_digits_and_dashes_is_an_instance(name: str) -> None:
    directory = instance_directory(name)
    assert (directory.name, directory.path.name) == (name, name)


@settings(max_examples=100, deadline=None)
@given(
    st.text(max_size=20).filter(lambda name: not name or not set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-"))
)
def test_another_name_never_becomes_a_path(name: str) -> None:
    with pytest.raises(UsageError, match="instance name"):
        instance_directory(name)


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "a" * 17, "ä", "a b", "a\n"])
def test_a_wrong_name_is_reported_with_what_is_allowed(name: str) -> None:
    with pytest.raises(UsageError, match="1 to 16 characters of a-z, 0-9 and '-'"):
        instance_directory(name)


def test_the_longest_path_that_a_socket_may_have_is_used_and_one_byte_more_gets_a_short_stand_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Row 19."""
    monkeypatch.setenv("HOME", "/home/somebody")
    room = MAX_SOCKET_PATH_BYTES - len(f"/test/{LONGEST_SOCKET_NAME}")
    monkeypatch.setenv("DOTSCTL_RUNTIME_DIR", "/" + "a" * (room - 1))
    assert len(bytes(instance_directory("test").path / LONGEST_SOCKET_NAME)) == MAX_SOCKET_PATH_BYTES
    monkeypatch.setenv("DOTSCTL_RUNTIME_DIR", "/" + "a" * room)
    directory = instance_directory("test")
    assert directory.path.parent == Path("/home/somebody/.dotsctl-run")
    assert directory == instance_directory("test") != instance_directory("other"), "another process must find it"


def test_a_home_that_is_too_deep_as_well_is_reported_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/" + "h" * 200)
    room = MAX_SOCKET_PATH_BYTES - len(f"/test/{LONGEST_SOCKET_NAME}")
    monkeypatch.setenv("DOTSCTL_RUNTIME_DIR", "/" + "a" * room)
    with pytest.raises(CommandFailedError, match="DOTSCTL_RUNTIME_DIR to a shorter folder") as caught:
        instance_directory("test")
    assert f"up to {MAX_SOCKET_PATH_BYTES + 1} bytes" in str(caught.value)
    assert f"at most {MAX_SOCKET_PATH_BYTES} are" in str(caught.value)


def test_the_length_of_a_path_counts_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("DOTSCTL_RUNTIME_DIR", "/" + "ä" * (MAX_SOCKET_PATH_BYTES // 2))
    assert instance_directory("test").path.is_relative_to("/home/somebody")


def test_a_link_in_the_place_of_the_lock_is_not_followed(directory: InstanceDirectory, tmp_path: Path) -> None:
    """Row 18: what it leads to keeps its content."""
    create(directory)
    precious = tmp_path / "precious"
    precious.write_text("letters of my grandmother")
    directory.lock_path.symlink_to(precious)
    for take in (lambda: InstanceLock(directory), lambda: lock_holder(directory)):
        with pytest.raises(CommandFailedError, match=str(directory.lock_path)):
            take()
    assert precious.read_text() == "letters of my grandmother"
    directory.lock_path.unlink()


def test_a_full_disk_is_reported_with_the_path_of_the_lock(
    directory: InstanceDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 20."""

    def full(fd: int, content: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    create(directory)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(CommandFailedError, match=f"cannot write {directory.lock_path}: No space left"):
        InstanceLock(directory)
    assert not directory.lock_path.exists()


def test_a_socket_can_be_bound_at_the_longest_path(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = MAX_SOCKET_PATH_BYTES - len(f"{run_folder}//test/{LONGEST_SOCKET_NAME}")
    monkeypatch.setenv("DOTSCTL_RUNTIME_DIR", str(run_folder / ("a" * room)))
    directory = instance_directory("test")
    create(directory)
    path = directory.path / LONGEST_SOCKET_NAME
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        assert path.is_socket()
    path.unlink()


def test_the_folder_of_all_instances_is_the_chosen_one_or_one_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_directory({"DOTSCTL_RUNTIME_DIR": "/a", "XDG_RUNTIME_DIR": "/b"}) == Path("/a")
    monkeypatch.setattr(sys, "platform", "linux")
    assert run_directory({"XDG_RUNTIME_DIR": "/b"}) == Path("/b/dotsctl")
    assert run_directory({}).parts[-2:] == ("dotsctl", "run")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert run_directory({"XDG_RUNTIME_DIR": "/b"}).parts[-2:] == ("dotsctl", "run")


def test_on_macos_sockets_lie_in_application_support_where_cleaners_delete_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from platformdirs.macos import MacOS

    monkeypatch.setattr(sys, "platform", "darwin")
    for name in ("user_data_path", "user_cache_path"):
        monkeypatch.setattr(platformdirs, name, lambda app, name=name: getattr(MacOS(app), name))
    for variable in [name for name in os.environ if name.startswith("XDG_") or name == "DOTSCTL_RUNTIME_DIR"]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", "/Users/someone")
    assert run_directory({}) == Path("/Users/someone/Library/Application Support/dotsctl/run")
    assert instance_directory("default").path == run_directory({}) / "default"
    monkeypatch.setattr(endpoints, "MAX_SOCKET_PATH_BYTES", 103)
    monkeypatch.setenv("HOME", "/Users/" + "s" * 34)  # the longest socket path would have 104 bytes
    path = instance_directory("default").path
    assert path.parent == Path.home() / ".dotsctl-run"
    assert len(f"{path}/{LONGEST_SOCKET_NAME}") <= 103


def test_every_path_of_an_instance_lies_in_its_folder(directory: InstanceDirectory) -> None:
    assert directory.client_endpoint == f"ipc://{directory.path}/c.sock"
    assert directory.worker_endpoint(42) == f"ipc://{directory.path}/w.42.sock"
    assert directory.data_endpoint(3) == f"ipc://{directory.path}/d.3.sock"
    assert log_directory(directory, private=True) == directory.path / "log"
    assert not log_directory(directory, private=False).is_relative_to(directory.path)


def test_a_made_folder_is_closed_to_others_and_may_be_made_again(directory: InstanceDirectory) -> None:
    assert directory.path.stat().st_mode & 0o777 == 0o700
    assert directory.path.parent.stat().st_mode & 0o777 == 0o700
    create(directory)


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o777])
def test_a_folder_that_is_open_to_others_is_refused(directory: InstanceDirectory, mode: int) -> None:
    directory.path.chmod(mode)
    with pytest.raises(
        CommandFailedError, match=rf"mode {mode:04o} and owner \d+: remove it, or set DOTSCTL_RUNTIME_DIR"
    ):
        create(directory)


def test_the_folder_of_another_user_is_refused(directory: InstanceDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = directory.path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(CommandFailedError, match=f"owner {owner}"):
        create(directory)


def test_a_link_in_the_folders_place_is_refused(run_folder: Path, tmp_path: Path) -> None:
    run_folder.mkdir()
    (run_folder / "test").symlink_to(tmp_path)
    with pytest.raises(CommandFailedError, match="must be a folder of yours"):
        create(instance_directory("test"))
    (run_folder / "test").unlink()


def test_a_folder_that_cannot_be_made_is_reported_with_the_reason_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CommandFailedError, match=r"/file: File exists: set DOTSCTL_RUNTIME_DIR to a folder"):
        create(InstanceDirectory("test", tmp_path / "file" / "test"))


def test_a_second_taker_of_the_lock_is_refused_with_the_first_ones_pid(directory: InstanceDirectory) -> None:
    with held_by_another_process(directory) as process:
        with pytest.raises(
            AlreadyRunningError, match=rf"'test' is already running \(pid {process.pid}\).*dotsctl down"
        ):
            InstanceLock(directory)
        assert lock_holder(directory) == process.pid
    InstanceLock(directory).release()


def test_a_lock_file_without_a_living_holder_means_nothing(directory: InstanceDirectory) -> None:
    assert lock_holder(directory) is None
    with held_by_another_process(directory):
        pass
    assert directory.lock_path.exists(), "a killed process cannot clean up"
    assert lock_holder(directory) is None
    lock = InstanceLock(directory)
    assert lock_holder(directory) == os.getpid()
    lock.release()
    assert not directory.lock_path.exists()


@pytest.mark.parametrize("content", ["", "²", "pid"])
def test_a_holder_that_has_not_written_its_pid_yet_is_a_holder(directory: InstanceDirectory, content: str) -> None:
    lock = InstanceLock(directory)
    directory.lock_path.write_text(content, encoding="utf-8")
    assert lock_holder(directory) == 0
    with pytest.raises(AlreadyRunningError, match=f"pid {content or 'unknown'}"):
        InstanceLock(directory)
    lock.release()


def test_a_lock_that_was_removed_while_it_was_taken_is_taken_again(
    directory: InstanceDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last holder removes the file between our opening and our locking it."""
    original, opened = os.open, []

    def open_and_lose(path: Path, *arguments: int) -> int:
        fd = original(path, *arguments)
        if not opened:
            Path(path).unlink()
        opened.append(fd)
        return fd

    monkeypatch.setattr(endpoints.os, "open", open_and_lose)
    lock = InstanceLock(directory)
    monkeypatch.undo()
    assert len(opened) == 2
    assert directory.lock_path.read_text() == f"{os.getpid()}\n"
    lock.release()


def test_the_ruins_of_a_dead_instance_are_removed(directory: InstanceDirectory) -> None:
    for name in ("c.sock", "w.sock", "d.7.sock"):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(directory.path / name))
    write_cache(directory.facts_path, FACTS)
    (directory.path / "runtime.part").touch()
    remove_stale(directory)
    assert list(directory.path.iterdir()) == []
    remove_stale(directory)


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_kept_and_named(directory: InstanceDirectory, kind: str, tmp_path: Path) -> None:
    path = directory.path / "c.sock"
    make = {"file": path.touch, "folder": path.mkdir, "link": lambda: path.symlink_to(tmp_path)}
    make[kind]()
    with pytest.raises(CommandFailedError, match=r"c\.sock is not a socket: move it away"):
        remove_stale(directory)
    assert os.path.lexists(path)
    path.rmdir() if kind == "folder" else path.unlink()


def test_facts_come_back_as_they_were_written(directory: InstanceDirectory) -> None:
    assert directory.read_facts() is None
    write_cache(directory.facts_path, FACTS)
    assert directory.read_facts() == FACTS
    assert [path.name for path in directory.path.iterdir()] == ["runtime.json"]
    directory.facts_path.unlink()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"instance": "a", "unknown": 1}'])
def test_facts_that_cannot_be_read_are_none(directory: InstanceDirectory, content: str) -> None:
    directory.facts_path.write_text(content)
    assert directory.read_facts() is None
    directory.facts_path.unlink()


def test_only_the_folders_of_dead_private_instances_are_removed(run_folder: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        ended.wait(10)
    gone, here = ended.pid, os.getpid()
    names = ("p-1-dead", f"p-{here}-living", f"p-{here}-new", f"p-{here}-locks", f"p-{gone}-new", f"p-{gone}-locks")
    made = {name: instance_directory(name) for name in (*names, "p-x", "default")}
    for one in made.values():
        create(one)
        (one.path / "log").mkdir()
        (one.path / "log" / "encoder.1.log").touch()
    for name in ("p-1-dead", "default"):
        made[name].lock_path.write_text("17\n")
    for pid in (here, gone):
        made[f"p-{pid}-locks"].lock_path.touch()  # opened, and not locked yet
    living = InstanceLock(made[f"p-{here}-living"])
    remove_dead_private()
    assert made.keys() - {path.name for path in run_folder.iterdir()} == {"p-1-dead", names[4], names[5]}
    living.release()
    shutil.rmtree(run_folder)


def test_a_relative_runtime_folder_of_the_desktop_is_ignored() -> None:
    if sys.platform == "darwin":
        pytest.skip("macOS has no such variable")
    assert run_directory({"XDG_RUNTIME_DIR": "run"}) == run_directory({})
    assert run_directory({"XDG_RUNTIME_DIR": "/run/user/7"}) == Path("/run/user/7/dotsctl")


def test_the_lock_in_a_folder_that_others_may_write_to_is_nobodys(directory: InstanceDirectory) -> None:
    with held_by_another_process(directory):
        assert lock_holder(directory)
        directory.path.chmod(0o777)
        with pytest.raises(CommandFailedError, match="must be a folder of yours with mode 0700"):
            lock_holder(directory)
        directory.path.chmod(0o700)
    directory.lock_path.unlink()


def test_a_folder_of_another_user_is_not_joined(directory: InstanceDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: directory.path.stat().st_uid + 1)
    with pytest.raises(CommandFailedError, match="folder of yours"):
        lock_holder(directory)


def test_a_link_in_place_of_the_folder_is_not_followed(directory: InstanceDirectory, tmp_path: Path) -> None:
    directory.path.rmdir()
    directory.path.symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(CommandFailedError, match="folder of yours"):
        lock_holder(directory)
    directory.path.unlink()
