"""Stopped processes, from ``/proc`` and from libproc."""

import ctypes
import os
import signal
import subprocess
import sys

import pytest
from dotsctl.client.runtime import libproc, process_state
from dotsctl.client.runtime.process_state import stopped_processes


@pytest.fixture(params=["this system", "macOS"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ways to ask: that of this system, and under Linux that of macOS with a stand-in for libproc."""
    if request.param == "macOS":
        monkeypatch.setattr(libproc, "LIBRARY", str(request.getfixturevalue("libsystem")))
        monkeypatch.setattr(process_state.sys, "platform", "darwin")


@pytest.mark.usefixtures("system")
def test_a_process_is_stopped_until_it_is_continued() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True) as child:
        others = [os.getpid(), child.pid]
        assert stopped_processes(others) == set()
        os.kill(child.pid, signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        assert stopped_processes(others) == {child.pid}
        os.kill(child.pid, signal.SIGCONT)
        os.waitpid(child.pid, os.WCONTINUED)
        assert stopped_processes(others) == set()
        child.communicate("\n")
    assert stopped_processes([child.pid]) == set(), "it is gone"


@pytest.mark.skipif(sys.platform != "linux", reason="traces a process with Linux's ptrace")
@pytest.mark.usefixtures("system")
def test_a_process_that_a_debugger_holds_is_left_to_it() -> None:
    ptrace = ctypes.CDLL(None).ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    attach, detach = 16, 17  # PTRACE_ATTACH and PTRACE_DETACH of sys/ptrace.h
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True) as child:
        if ptrace(attach, child.pid, None, None):
            child.communicate("\n")
            pytest.skip("this machine allows no tracing")
        os.waitpid(child.pid, 0)
        held = stopped_processes([child.pid])
        ptrace(detach, child.pid, None, None)
        child.communicate("\n")
    assert held == set()
