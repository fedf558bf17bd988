"""Behaviour on macOS alone: folders of sockets, memory from libproc, and a machine that is kept awake."""

import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dotsctl.client.runtime.power import is_on_mains_power

from tests.conftest import Gate
from tests.macos.caffeinate import Caffeinate
from tests.process.conftest import Instance, dotsctl, submit

pytestmark = [
    pytest.mark.process,
    pytest.mark.macos,
    pytest.mark.skipif(sys.platform != "darwin", reason="about macOS; python -m tests.macos pytest -m macos"),
]
Start = Callable[..., Instance]
MIB = 1 << 20


def test_sockets_lie_in_application_support_and_down_leaves_none(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = run_folder.parent
    monkeypatch.setenv("HOME", str(home))
    for variable in [name for name in os.environ if name.startswith("XDG_") or name == "DOTSCTL_RUNTIME_DIR"]:
        monkeypatch.delenv(variable)
    folder = home / "Library" / "Application Support" / "dotsctl" / "run" / "test"
    fakes = ["--model", "demo", "--encoder", "fake", "--decoder", "fake"]
    with dotsctl("up", "-d", "--name", "test", *fakes) as up:
        assert up.wait(40) == 0
    assert stat.S_ISSOCK((folder / "c.sock").stat().st_mode)
    with dotsctl("down", "--name", "test") as down:
        assert down.wait(20) == 0
    assert list(folder.iterdir()) == []
    assert not (home / "Library" / "Caches" / "dotsctl" / "run").exists()


def test_the_status_shows_the_memory_of_the_workers(start: Start) -> None:
    for worker in start().status().workers:
        assert 10 * MIB < worker.rss_bytes <= worker.peak_bytes < 4096 * MIB


@pytest.fixture
def caffeinate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Caffeinate]:
    if not is_on_mains_power():
        pytest.skip("this Mac runs on its battery")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    made = Caffeinate(tmp_path)
    yield made
    made.close()


def test_caffeinate_runs_while_pages_are_read_and_ends_some_seconds_later(
    caffeinate: Caffeinate, start: Start, gates: list[Gate]
) -> None:
    instance = start(f"fake:gate={gates[0].path}", "fake")
    assert caffeinate.starts == 0, "nothing is read yet"
    wait = instance.read_in_background([b"page"])
    gates[0].wait_entered()
    caffeinate.wait_started()
    assert caffeinate.arguments.read_text() == f"-i -w {instance.runtime.process.pid}\n"
    gates[0].remove()
    gates[0].open()
    wait()
    caffeinate.wait_ended()
    assert instance.status().counters["done"] == 1, "the runtime is still there"


@pytest.mark.parametrize("is_killed", [False, True])
def test_caffeinate_ends_with_the_runtime(
    caffeinate: Caffeinate, start: Start, gates: list[Gate], is_killed: bool
) -> None:
    instance = start(f"fake:gate={gates[0].path}", "fake")
    instance.session.open_job("job")
    instance.session.send(*submit("job", 0, b"page"))
    gates[0].wait_entered()
    caffeinate.wait_started()
    if is_killed:
        instance.runtime.process.kill()
        instance.runtime.process.wait(10)
    else:
        instance.runtime.end(now=True)
    caffeinate.wait_ended()
