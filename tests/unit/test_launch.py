"""Stopping a runtime: what is signalled, and what is waited for."""

import os
import subprocess
import time
from pathlib import Path

import pytest
from dotsctl.client import launch
from dotsctl.protocol.endpoints import InstanceLock, create, instance_directory
from dotsctl.protocol.errors import CommandFailedError


def test_a_runtime_that_has_not_written_its_number_yet_is_not_signalled(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = instance_directory("test")
    create(directory)
    lock = InstanceLock(directory)
    directory.lock_path.write_text("")
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append((pid, number)))
    with pytest.raises(CommandFailedError, match="just starting"):
        launch.stop("test", now=True, timeout_s=1.0)
    assert signals == []
    lock.release()


def test_what_does_not_run_cannot_be_stopped(run_folder: Path) -> None:
    with pytest.raises(CommandFailedError, match="'test' is not running"):
        launch.stop("test", now=False, timeout_s=1.0)


def test_the_end_of_a_process_is_waited_for_up_to_the_deadline() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        started = time.monotonic()
        assert not launch._exited(process.pid, started + 0.2)
        assert time.monotonic() - started >= 0.2
        assert process.stdin is not None
        process.stdin.close()
        assert launch._exited(process.pid, time.monotonic() + 10.0)
    assert launch._exited(process.pid, time.monotonic()), "a process that is reaped has ended"
