"""Fixtures of all tiers: a private home for every test, and proof that nothing is left of it."""

import contextlib
import fcntl
import gc
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path

import pytest
from dotsctl.protocol.link import Links
from hypothesis import is_hypothesis_test, settings

from tests.macos import build_libsystem, compiler

LEAVE_S = 5.0
HAS_PROC = Path("/proc/self").exists()
"""Whether processes can be examined: under Linux, also while tests treat it as macOS."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts its background jobs so, and every process that a test starts would ignore Ctrl-C too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


EXAMPLES = int(os.environ.get("DOTSCTL_TEST_EXAMPLES", "1"))
"""Times that a property test has more examples than in CI; see ``tools/dev/longrun.py``."""
IS_WHOLE = "DOTSCTL_TEST_WHOLE" in os.environ
"""Whether tests marked ``sampled`` do all that they are for; see ``tools/dev/longrun.py``."""


def sample(in_ci: int, of: int) -> int:
    """Return how many pages or schedules a test marked ``sampled`` has: ``of`` in a long run, ``in_ci`` otherwise."""
    return of if IS_WHOLE else in_ci


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return the processes of ``pytest -n auto``: one more than cores, as tests of processes mostly wait."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give property tests more examples where that was asked for."""
    for item in items if EXAMPLES > 1 else ():
        test = getattr(item, "function", None)
        if is_hypothesis_test(test):  # a decorator cannot be applied twice, so the attribute that it leaves is set
            chosen = getattr(test, "_hypothesis_internal_use_settings", None) or settings()
            more = settings(chosen, max_examples=chosen.max_examples * EXAMPLES)
            test._hypothesis_internal_use_settings = more  # type: ignore[union-attr]


def pytest_collection_finish() -> None:
    """Exempt what collection imported (some 300,000 objects) from the collections that every test ends with."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _address_space_is_as_before() -> Iterator[None]:
    """A limit that a test leaves in this process would end later tests and their children, as a browser."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    yield
    assert resource.getrlimit(resource.RLIMIT_AS) == before


@pytest.fixture(autouse=True)
def _side_ocr_by_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where RapidOCR is installed, ``--hint auto`` would start a process for the pictures of nearly every test."""
    monkeypatch.setattr("dotsctl.client.inputs.side_hints.usable_cores", lambda: 1)


@pytest.fixture(autouse=True)
def _alone_if_timed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let a test that is marked ``timing`` run while no other process of ``pytest -n`` runs a test.

    Tests share one lock, and a timed one has it alone. Who waits for it holds the other lock, so that nobody overtakes.
    Two runs at a time are given one folder for the locks, with ``DOTSCTL_TEST_LOCKS``.
    """
    if not {"PYTEST_XDIST_WORKER", "DOTSCTL_TEST_LOCKS"} & os.environ.keys():
        yield
        return
    folder = Path(os.environ.get("DOTSCTL_TEST_LOCKS") or tmp_path_factory.getbasetemp().parent)  # of all processes
    is_timed = request.node.get_closest_marker("timing") is not None
    with (folder / "queue.lock").open("w") as queue, (folder / "processors.lock").open("w") as processors:
        fcntl.flock(queue, fcntl.LOCK_EX)
        fcntl.flock(processors, fcntl.LOCK_EX if is_timed else fcntl.LOCK_SH)
        fcntl.flock(queue, fcntl.LOCK_UN)
        yield


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
    with checked_folder(monkeypatch) as folder:
        yield folder


@pytest.fixture(scope="module")
def module_run_folder(warm_sockets: None) -> Iterator[Path]:
    """A ``run_folder`` of all tests of a module; fails when they leave something in it."""
    with pytest.MonkeyPatch.context() as patch, checked_folder(patch) as folder:
        yield folder


@contextlib.contextmanager
def checked_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder and settings of :func:`run_folder`, and its checks at the end."""
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
    kept = {str(resource_tracker._resource_tracker._fd)}  # type: ignore[attr-defined]
    for name in ("dotsctl.client.inputs.loading", "dotsctl.encoder_worker.opening"):
        if (module := sys.modules.get(name)) is not None:
            kept.update(map(str, module.RENDERER.descriptors()))
    for path in Path("/proc/self/fd").iterdir():
        if path.name in kept:  # multiprocessing, and the render process of this one, keep them to the end
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
        """Let the page that waits here continue."""
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


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lay a distribution out as pip would, and let the workers find it; no pip takes part."""

    def write_distribution(
        name: str, source: str, plugin: str = "digest", cls: str = "DigestEncoder", group: str = "dotsctl.encoders"
    ) -> None:
        site = tmp_path / f"site_{name}"
        package, metadata = site / name, site / f"{name}-1.0.dist-info"
        package.mkdir(parents=True)
        metadata.mkdir()
        (package / "__init__.py").write_text(source)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[{group}]\n{plugin} = {name}:{cls}\n")
        files = [f"{name}/__init__.py", *(f"{metadata.name}/{part}" for part in ("METADATA", "entry_points.txt"))]
        (metadata / "RECORD").write_text("".join(f"{file},,\n" for file in [*files, f"{metadata.name}/RECORD"]))
        paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
        monkeypatch.syspath_prepend(str(site))  # the client looks at the plugin's description

    return write_distribution
