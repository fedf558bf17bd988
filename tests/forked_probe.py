"""Child processes of a trial as forks of the test's process, which has imported numpy and coremltools already.

A fork is a real process that can be killed, abort and hang. It costs a tenth of one that imports coremltools. MLX does
not survive a fork, so the MLX encoder gets a new process.
"""

import faulthandler
import io
import os
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import IO, Any

import pytest
from dotsctl.encoder_worker.coreml import probe, probe_process

from tests import coreml_stand_in


class Fork:
    """The part of ``subprocess.Popen`` that ``probe_process`` uses; ``run`` is the program, ``words`` its arguments."""

    def __init__(self, run: Callable[[], None], words: Sequence[str], stderr: IO[bytes]) -> None:
        own_input, given_input = os.pipe()
        given_output, own_output = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, from Python 3.12 on
            self.pid = os.fork()
        if self.pid == 0:
            os.close(given_input)
            for number, source in enumerate((own_input, own_output, stderr.fileno())):
                os.dup2(source, number)
            _become(run, words)
        os.close(own_input)
        os.close(own_output)
        self.stdin, self.stdout = os.fdopen(given_input, "wb", 0), os.fdopen(given_output, "rb", 0)
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; it comes, or the test reaches its own limit."""
        if self.returncode is None:
            status = os.waitpid(self.pid, 0)[1]
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def kill(self) -> None:
        """End it."""
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)


def _become(run: Callable[[], None], words: Sequence[str]) -> None:
    """Run the program as a new process would, and end this process."""
    code = 1
    try:
        faulthandler.disable()  # pytest's, which prints the stacks of the test
        sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", 0, closefd=False), write_through=True)
        sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb", 0, closefd=False), write_through=True)
        sys.argv = ["", *words]
        run()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def run_probe() -> None:
    """The probe, with the faults of the environment."""
    coreml_stand_in.become_mac(os.environ[coreml_stand_in.VARIABLE], setattr, ends_process=True)
    probe.main()


def popen(words: Sequence[str], *, stdin: int, stdout: int, stderr: IO[bytes]) -> Any:
    """Start a child: forked where it is a program of ``python -c``, or the probe on the stand-in without MLX."""
    kind, program = words[2:4]
    if kind == "-c":
        return Fork(lambda: exec(program, {"__name__": "__main__"}), words[4:], stderr)
    on_stand_in = program == "dotsctl.encoder_worker.coreml.probe" and coreml_stand_in.VARIABLE in os.environ
    if on_stand_in and probe.MLX not in words:
        return Fork(run_probe, words[4:], stderr)
    return subprocess.Popen(words, stdin=stdin, stdout=stdout, stderr=stderr)


def fork_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the children of every trial of this test."""
    forking = SimpleNamespace(Popen=popen, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(probe_process, "subprocess", forking)
