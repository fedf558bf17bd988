"""Workers that are stopped while their runtime is killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dotsctl.client.connection import launch
from dotsctl.protocol.endpoints import create, instance_directory
from dotsctl.protocol.parts import Role

from tests.conftest import wait_gone
from tests.process.conftest import NAME, Instance, dotsctl
from tests.process.test_endings import finish

pytestmark = pytest.mark.process
FAKES = ("--encoder", "fake", "--decoder", "fake")
STOPPED_WORKER = """
import os, signal, sys
from pathlib import Path
from dotsctl.protocol import left_workers
left_workers.mark(Path(sys.argv[1]), int(sys.argv[2]))
print("marked", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="no other system kills a process with its parent")
def test_a_stopped_worker_dies_with_its_runtime(named: Callable[..., Instance], run_folder: Path) -> None:
    instance = named()
    runtime, encoder = instance.status().pid, instance.pid(Role.ENCODER)
    os.kill(encoder, signal.SIGSTOP)
    os.kill(runtime, signal.SIGKILL)
    assert wait_gone(runtime, 5.0) and wait_gone(encoder, 5.0)
    assert finish(dotsctl("up", "-d", "--name", NAME, *FAKES))[0] == 0


@pytest.fixture
def stopped_worker(run_folder: Path) -> "subprocess.Popen[str]":
    """A worker of a runtime that was killed, as one that no kernel ends with it."""
    create(instance_directory(NAME))
    runtime = subprocess.Popen(["true"])
    runtime.wait()
    command = [sys.executable, "-P", "-c", STOPPED_WORKER, str(run_folder / NAME), str(runtime.pid)]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None and worker.stdout.readline() == "marked\n"
    return worker


@pytest.mark.parametrize("command", [("up", "-d", *FAKES), ("down",)])
def test_up_and_down_end_the_stopped_workers_of_a_killed_runtime(
    stopped_worker: "subprocess.Popen[str]", run_folder: Path, command: tuple[str, ...]
) -> None:
    (run_folder / NAME / "worker.1").write_text("")  # of one that has ended
    code, _, err = finish(dotsctl(*command, "--name", NAME))
    assert code == 0 and "ended 1 worker that a killed runtime 'test' had left" in err, err
    assert stopped_worker.wait(5.0) == -signal.SIGKILL
    stopped_worker.communicate()
    if command[0] == "up":
        assert len(list((run_folder / NAME).glob("worker.*"))) == 2, "the marks of the new workers"
        launch.stop(NAME, now=True, timeout_s=10)


def test_the_mark_of_a_worker_goes_with_it(named: Callable[..., Instance], run_folder: Path) -> None:
    instance = named()
    killed = instance.kill(Role.ENCODER)
    status = instance.wait_status(lambda status: status.workers[0].epoch == 2, "the next encoder")
    instance.wait_status(lambda _: len(list((run_folder / NAME).glob("worker.*"))) == 2, "the marks of both workers")
    marks = {path.name for path in (run_folder / NAME).glob("worker.*")}
    assert marks == {f"worker.{worker.pid}" for worker in status.workers} and f"worker.{killed}" not in marks
