"""Fixtures of all tiers: a private home for every test, and proof that nothing is left of it."""

import contextlib
import gc
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path

import pytest
from dotsctl.protocol.link import Links

from tests.macos import build_libsystem, compiler

LEAVE_S = 5.0
HAS_PROC = Path("/proc/self").exists()
"""Whether processes can be examined: under Linux, also where it is taken for macOS."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts its background jobs so, and every process that a test starts would ignore Ctrl-C too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Exempt what collection imported (some 300,000 objects) from the collections that every test ends with."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def warm_sockets() -> None:
    """What pyzmq opens once in a process, with the first frame that it sends without a copy, and never closes."""
    with tempfile.TemporaryDirectory(prefix="d", dir="/tmp") as folder, Links() as links:
        pull, push = (make(f"ipc://{folder}/warm.sock") for make in (links.pull, links.push))
        assert links.wait(20.0, writable=[push]) and push.send([bytes(1 << 20)])
        assert links.wait(20.0, [pull]) and pull.receive()


@pytest.fixture(scope="session")
def libsystem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared library with the calls of Apple's libSystem that dotsctl makes."""
    if sys.platform == "darwin" or compiler() is None:
        pytest.skip("needs Linux and a C compiler")
    return build_libsystem(tmp_path_factory.mktemp("libsystem"))


@pytest.fixture
def run_folder(monkeypatch: pytest.MonkeyPatch, warm_sockets: None) -> Iterator[Path]:
    """Folder of runtime directories, with a path short enough for sockets; fails when a test leaves something in it."""
    base = Path(tempfile.mkdtemp(prefix="d", dir="/tmp"))
    folder = base / "run"
    monkeypatch.setenv("DOTSCTL_RUNTIME_DIR", str(folder))
    for variable in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, str(base / "home"))
    if sys.platform == "darwin":
        monkeypatch.setenv("HOME", str(base / "home"))  # logs lie in ~/Library/Logs, which no variable of XDG moves
    for variable in [name for name in os.environ if name.startswith("DOTSCTL_") and name != "DOTSCTL_RUNTIME_DIR"]:
        monkeypatch.delenv(variable)
    before = open_descriptors()
    yield folder
    left = [pid for pid in processes_in(folder) if not wait_gone(pid, LEAVE_S)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    # A named instance keeps its folder; a socket, lock, facts or temporary file in it is a leak.
    files = [str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()]
    shutil.rmtree(base)
    gc.collect()  # a session in the frame of a failed call is no leak
    descriptors = {fd: what for fd, what in open_descriptors().items() if before.get(fd) != what}
    assert not left, f"processes were left: {left}"
    assert not files, f"files were left: {files}"
    assert not descriptors, f"descriptors were left open: {descriptors}"


def open_descriptors() -> dict[int, str]:
    """Pipes, sockets and files of this process, by number."""
    if not HAS_PROC:
        return {}  # macOS tells only the numbers, of which libraries keep some
    found = {}
    kept = resource_tracker._resource_tracker._fd  # type: ignore[attr-defined]
    for path in Path("/proc/self/fd").iterdir():
        if path.name == str(kept):  # multiprocessing opens it once, and keeps it to the end
            continue
        with contextlib.suppress(OSError):  # that of this very listing
            found[int(path.name)] = str(path.readlink())
    return found


def processes_in(folder: Path) -> list[int]:
    """Runtimes and workers whose working directory lies in ``folder``."""
    if not HAS_PROC:
        return []  # macOS shows no working directory of others without extra tools
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                directory = (entry / "cwd").readlink()
            except OSError:
                continue
            if directory.is_relative_to(folder) or str(directory).startswith(f"{folder}/"):
                found.append(int(entry.name))
    return found


def wait_gone(pid: int, timeout_s: float) -> bool:
    """Whether a process, which need not be our child, has ended within the time."""
    if hasattr(os, "pidfd_open"):
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            return bool(select.select([fd], [], [], timeout_s)[0])
        finally:
            os.close(fd)
    queue = select.kqueue()
    try:
        event = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
        return bool(queue.control([event], 1, timeout_s))
    except ProcessLookupError:
        return True
    finally:
        queue.close()


class Gate:
    """A FIFO that holds a fake plugin in the middle of a page."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._fd: int | None = None

    def wait_entered(self, timeout_s: float = 20.0) -> None:
        """Return when a page stands at the gate."""
        deadline = time.monotonic() + timeout_s
        pause = select.poll()
        while True:
            try:
                self._fd = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
                return
            except OSError:  # nobody has opened the reading end yet, and no system has an event for that
                assert time.monotonic() < deadline, f"no page came to {self.path} within {timeout_s} s"
                pause.poll(2)

    def remove(self) -> None:
        """Let every later page pass; the one that stands here stays."""
        self.path.unlink(missing_ok=True)

    def open(self) -> None:
        """Let the page that stands here go on."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


@pytest.fixture
def gates(tmp_path: Path) -> Iterator[list[Gate]]:
    """Two gates, for encoder and decoder."""
    made = [Gate(tmp_path / name) for name in ("gate1", "gate2")]
    yield made
    for gate in made:
        gate.remove()
        gate.open()
