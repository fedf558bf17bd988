"""Memory of processes, from ``/proc`` and from libproc."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dotsctl.client.runtime import process_memory
from dotsctl.client.runtime.process_memory import Use, from_proc, memory_of
from dotsctl.protocol.machine import libproc

MIB = 1 << 20


@pytest.fixture(params=["this system", "macOS"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ways to ask: that of this system, and under Linux that of macOS with a stand-in for libproc."""
    if request.param == "macOS":
        monkeypatch.setattr(libproc, "LIBRARY", str(request.getfixturevalue("libsystem")))
        monkeypatch.setattr(process_memory.sys, "platform", "darwin")


@contextmanager
def child_that_gave_back(size_bytes: int) -> Iterator[int]:
    """A process that had this much memory more than it has now."""
    program = f"x = bytearray({size_bytes}); del x; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child.pid
        child.communicate("\n")


@pytest.mark.usefixtures("system")
def test_this_process_has_memory_and_a_peak_at_least_as_high() -> None:
    use = memory_of(os.getpid())
    assert use is not None
    assert 5 * MIB < use.rss_bytes <= use.peak_bytes < 1 << 40


@pytest.mark.usefixtures("system")
def test_the_peak_stays_when_memory_is_given_back() -> None:
    with child_that_gave_back(200 * MIB) as pid:
        use = memory_of(pid)
    assert use is not None
    assert use.peak_bytes > 200 * MIB > 100 * MIB > use.rss_bytes


@pytest.mark.usefixtures("system")
def test_a_process_that_is_gone_has_none() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait(20)
    assert memory_of(child.pid) is None


def test_a_zombie_has_no_memory(tmp_path: Path) -> None:
    zombie = tmp_path / "status"
    zombie.write_text("Name:\tpython\nState:\tZ (zombie)\n")
    assert from_proc(zombie) is None


def test_both_systems_report_the_same_memory(libsystem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with child_that_gave_back(50 * MIB) as pid:
        linux = memory_of(pid)
        monkeypatch.setattr(libproc, "LIBRARY", str(libsystem))
        assert linux == Use(*libproc.footprint(pid) or ())
