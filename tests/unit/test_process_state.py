"""Stopped processes, from ``/proc`` and from libproc."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from dotsctl.client.runtime import process_state
from dotsctl.client.runtime.process_state import stopped_processes
from dotsctl.protocol.machine import libproc


@pytest.fixture(params=["this system", "macOS"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ways to ask: that of this system, and under Linux that of macOS with a stand-in for libproc."""
    if request.param == "macOS":
        monkeypatch.setattr(libproc, "LIBRARY", str(request.getfixturevalue("libsystem")))
        monkeypatch.setattr(process_state.sys, "platform", "darwin")


@pytest.fixture
def pid() -> Iterator[int]:
    """A process that waits; killed at the end, as a stopped one would never end."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        yield child.pid
        child.kill()


@pytest.mark.usefixtures("system")
def test_a_process_is_stopped_until_it_is_continued(pid: int) -> None:
    both = [os.getpid(), pid]
    assert stopped_processes(both) == set()
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    assert stopped_processes(both) == {pid}
    os.kill(pid, signal.SIGCONT)
    os.waitpid(pid, os.WCONTINUED)
    assert stopped_processes(both) == set()


@pytest.mark.usefixtures("system")
def test_a_process_that_is_gone_is_not_stopped(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert stopped_processes([pid]) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="traces a process with Linux's ptrace")
@pytest.mark.usefixtures("system")
def test_a_process_that_a_debugger_holds_is_left_to_it(pid: int) -> None:
    ptrace = ctypes.CDLL(None).ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if ptrace(16, pid, None, None):  # PTRACE_ATTACH of sys/ptrace.h
        pytest.skip("this machine allows no tracing")
    os.waitpid(pid, 0)
    assert stopped_processes([pid]) == set()
