"""Faults 17 to 20: what may lie in the place of a runtime's files, and disks that take nothing."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dotsctl.client.connection import launch
from dotsctl.client.settings.runtime_config import PluginChoice, RuntimeConfig
from dotsctl.protocol import endpoints
from PIL import Image

from tests.conftest import HAS_PROC, processes_in
from tests.decoding import text_of_files
from tests.process.conftest import START_S, dotsctl

pytestmark = pytest.mark.process
NAME = "test"
FAKES = ("--encoder", "fake", "--decoder", "fake")


@pytest.fixture
def folder(run_folder: Path) -> Iterator[Path]:
    """Of the named instance; it does not exist yet, and must not run at the end."""
    yield run_folder / NAME
    assert endpoints.lock_holder(endpoints.InstanceDirectory(NAME, run_folder / NAME)) is None


def call(*arguments: str) -> tuple[int, str]:
    """Exit code and standard error of a command."""
    process = dotsctl(*arguments)
    _, err = process.communicate(timeout=40)
    return process.returncode, err


def start() -> None:
    """As ``dotsctl up -d`` does it, without another Python."""
    launch.start_detached(
        RuntimeConfig(NAME, "fake", "", PluginChoice.parse("fake"), PluginChoice.parse("fake")), START_S
    )


def make_ruins(folder: Path, pid: int) -> None:
    """What a killed runtime leaves, with a number that belongs to another process by now."""
    folder.mkdir(parents=True, mode=0o700)
    for name in ("c.sock", f"w.{pid}.sock", "d.1.sock"):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(folder / name))
    (folder / "lock").write_text(f"{pid}\n")
    facts = {"instance": "0", "pid": pid, "model": "fake", "fingerprint": "0", "encoder": "fake", "decoder": "fake"}
    (folder / "runtime.json").write_text(json.dumps(facts))


def test_the_ruins_of_a_runtime_whose_number_is_somebody_elses_by_now_harm_nobody(folder: Path) -> None:
    """Row 17."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as foreign:
        make_ruins(folder, foreign.pid)
        code, err = call("status", "--name", NAME)
        assert code == 6 and "not running" in err
        code, err = call("down", "--now", "--name", NAME)
        assert code == 7 and "not running" in err
        start()
        assert sorted(path.name for path in folder.glob("*.sock"))[0] == "c.sock"
        assert not (folder / f"w.{foreign.pid}.sock").exists()
        launch.stop(NAME, now=True, timeout_s=10)
        assert foreign.poll() is None
        assert foreign.stdin is not None
        foreign.stdin.close()
        assert foreign.wait(10) == 0, "somebody sent it a signal"


@pytest.mark.parametrize("kind", ["file", "folder", "link", "open to all", "foreign", "lock is a link"])
def test_what_is_not_ours_is_refused_and_left_as_it_is(folder: Path, tmp_path: Path, kind: str) -> None:
    """Row 18: through the whole start; the exit code is that of a command that failed."""
    folder.mkdir(parents=True, mode=0o700)
    precious = tmp_path / "precious"
    precious.write_text("letters of my grandmother")
    place = folder / "c.sock"
    match kind:
        case "file":
            shutil.copy(precious, place)
        case "folder":
            place.mkdir()
        case "link":
            place.symlink_to(precious)
        case "open to all":
            place = folder
            folder.chmod(0o777)
        case "foreign":
            if os.geteuid():
                pytest.skip("only root can give a folder away")
            place = folder
            os.chown(folder, 12345, -1)
        case "lock is a link":
            place = folder / "lock"
            place.symlink_to(precious)
    before = place.lstat()
    code, err = call("up", "-d", "--name", NAME, *FAKES)
    assert code == 7, err
    assert str(place) in err
    after = place.lstat()
    assert (before.st_ino, before.st_mode, before.st_size) == (after.st_ino, after.st_mode, after.st_size)
    assert precious.read_text() == "letters of my grandmother"
    shutil.rmtree(folder)


@pytest.mark.macos
def test_a_folder_with_a_path_too_long_for_sockets_serves_all_the_same(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 19, with letters of two bytes."""
    home = run_folder.parent / "home"
    home.mkdir()
    long = run_folder / ("ü" * 60)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DOTSCTL_RUNTIME_DIR", str(long))
    start()
    code, err = call("status", "--name", NAME)
    assert code == 0, err
    assert (home / ".dotsctl-run").is_dir() and not long.exists()
    launch.stop(NAME, now=True, timeout_s=10)
    assert [path for path in (home / ".dotsctl-run").rglob("*") if not path.is_dir()] == []
    assert processes_in(home) == []


def test_a_runtime_that_can_write_nothing_states_where_and_why(folder: Path) -> None:
    """Row 20: exit 7, with the path and the system's reason."""
    command = [sys.executable, "-P", "-m", "dotsctl", "up", "-d", "--name", NAME, *FAKES]
    limited = ["sh", "-c", 'ulimit -f 0 && exec "$@"', "sh", *command]  # every write to a file fails, as on a full disk
    done = subprocess.run(limited, capture_output=True, text=True, timeout=40, check=False)
    assert done.returncode == 7, done.stderr
    assert all(word in done.stderr for word in (str(folder / "lock"), "File too large", "DOTSCTL_RUNTIME_DIR"))
    assert not (folder / "lock").exists()


def in_small_filesystem(folder: Path, size: str, command: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run a command with a tmpfs of this size at a folder, in a mount namespace of its own; skips where none may be."""
    if not (HAS_PROC and shutil.which("unshare")):
        pytest.skip("needs mount namespaces")
    folder.mkdir(parents=True, exist_ok=True)
    words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*words, f"mount -t tmpfs -o {size} t {folder}"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount")
    script = f'mount -t tmpfs -o {size} t {folder} && shift 0 && "$@"'
    return subprocess.run(
        [*words, script, "sh", *command],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        start_new_session=True,
    )


@pytest.mark.parametrize(("size", "reason"), [("nr_inodes=3", "No space left"), ("ro", "Read-only file system")])
def test_a_full_or_read_only_disk_under_the_runtime_is_named(
    folder: Path, run_folder: Path, size: str, reason: str
) -> None:
    """Row 20, with a real file system that has no room for more files, or takes none at all."""
    command = [sys.executable, "-P", "-m", "dotsctl", "up", "-d", "--name", NAME, *FAKES]
    done = in_small_filesystem(run_folder, size, command)
    assert done.returncode == 7, done.stderr
    assert reason in done.stderr and str(run_folder) in done.stderr


def test_a_full_disk_under_the_results_is_reported_and_the_next_run_resumes(run_folder: Path, tmp_path: Path) -> None:
    """Row 20: exit 5 with the path; what was written before is whole, and there is nothing half written."""
    pages = tmp_path / "pages"
    pages.mkdir()
    for number in range(4):
        Image.new("L", (56, 56), 60 * number).save(pages / f"{number}.png")
    out = tmp_path / "out"
    out.mkdir()
    disk = str(out)
    command = [sys.executable, "-P", "-m", "dotsctl", "ocr", str(pages), "-o", disk, *FAKES]
    # Room for the journal and one result; then the names run out.
    done = in_small_filesystem(
        out, "nr_inodes=4", ["sh", "-c", f'"$@"; code=$?; ls -A {disk} >&2; exit $code', "sh", *command]
    )
    assert done.returncode == 5, done.stderr
    assert f"cannot write {disk}" in done.stderr and "No space left" in done.stderr
    assert ".part" not in done.stderr.splitlines()[-1]
    assert processes_in(run_folder) == []
    code, err = call("ocr", str(pages), "-o", str(out), *FAKES)
    assert code == 0, err
    texts = {path.stem: path.read_text().strip() for path in out.glob("*.md")}
    assert texts == {path.stem: text_of_files(path.read_bytes()) for path in pages.iterdir()}


def test_nobody_is_signalled_for_a_number_that_was_never_written(folder: Path) -> None:
    """Row 17: an empty lock file that nobody holds is no runtime."""
    folder.mkdir(parents=True, mode=0o700)
    (folder / "lock").write_text("")
    previous = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("we were signalled ourselves"))
    try:
        code, err = call("down", "--name", NAME)
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert code == 7 and "not running" in err
    (folder / "lock").unlink()
