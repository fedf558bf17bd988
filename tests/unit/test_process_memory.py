"""Memory of processes, from ``/proc`` and from ``ps``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dotsctl.client.runtime import process_memory
from dotsctl.client.runtime.process_memory import PS_EVERY_S, MemoryWatch, Use, from_proc, from_ps

MIB = 1 << 20


def test_this_process_has_memory_and_a_peak_at_least_as_high() -> None:
    use = MemoryWatch().use_of([os.getpid()])[os.getpid()]
    assert 5 * MIB < use.rss_bytes <= use.peak_bytes


def test_the_peak_stays_when_memory_is_given_back() -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux keeps the peak")
    program = "x = bytearray(200 << 20); del x; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        use = MemoryWatch().use_of([child.pid])[child.pid]
        child.communicate("\n")
    assert use.peak_bytes > 200 * MIB > 100 * MIB > use.rss_bytes


def test_a_process_that_is_gone_has_none(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait(20)
    assert MemoryWatch().use_of([child.pid]) == {}
    zombie = tmp_path / "status"
    zombie.write_text("Name:\tpython\nState:\tZ (zombie)\n")
    assert from_proc(zombie) is None


def test_without_proc_ps_is_asked_now_and_then_and_the_highest_answer_is_the_peak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ps = tmp_path / "ps"
    ps.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\ncat {tmp_path}/answer\n")
    ps.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(process_memory.sys, "platform", "darwin")
    answer, asked = tmp_path / "answer", tmp_path / "asked"
    watch = MemoryWatch()
    answer.write_text("   7  1024\n   8  2048\n")
    watch.look([7, 8], 100.0)
    watch.look([7, 8], 100.0 + PS_EVERY_S - 1)
    assert asked.read_text() == "asked\n"
    answer.write_text("   7  512\n")
    assert watch.use_of([7]) == {7: Use(MIB // 2, MIB)}
    answer.write_text("")
    assert watch.use_of([7]) == {}
    watch.look([8], 200.0)
    answer.write_text("   7  256\n")
    assert watch.use_of([7]) == {7: Use(MIB // 4, MIB // 4)}, "another process may get the number again"


def test_memory_that_cannot_be_told_is_zero_and_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert from_ps([1]) == {}
    assert from_ps([]) == {}
