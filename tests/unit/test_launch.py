"""Stopping a runtime: what is signalled, and what is waited for."""

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from dotsctl.client.connection import launch
from dotsctl.client.settings.runtime_config import PluginChoice, RuntimeConfig
from dotsctl.protocol.endpoints import InstanceLock, create, instance_directory, lock_holder
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
    with pytest.raises(CommandFailedError, match="still starting"):
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


@pytest.mark.process
def test_a_runtime_can_be_stopped_from_any_thread(run_folder: Path) -> None:
    """The wait for its end needs no signal, which only the main thread may take."""
    config = RuntimeConfig("test", "fake", "", PluginChoice.parse("fake"), PluginChoice.parse("fake"))
    launch.start_detached(config, 30.0)
    with ThreadPoolExecutor(1) as other:
        other.submit(launch.stop, "test", now=True, timeout_s=10.0).result(20.0)
    assert lock_holder(instance_directory("test")) is None


def test_a_lock_that_stays_held_is_waited_for_up_to_the_deadline(run_folder: Path) -> None:
    directory = instance_directory("test")
    create(directory)
    lock = InstanceLock(directory)
    started = time.monotonic()
    assert not launch._gone(directory, started + 0.2)
    assert 0.2 <= time.monotonic() - started < 5.0
    lock.release()
    assert launch._gone(directory, time.monotonic())


def test_secrets_of_the_environment_are_not_passed_on() -> None:
    kept = {
        "PATH": "/bin",
        "TOKENIZERS_PARALLELISM": "0",
        "SSH_AUTH_SOCK": "s",
        "DOTSCTL_MODELS": "m",
        "KEYBOARD": "de",
    }
    secret = dict.fromkeys(
        (
            "DOTSCTL_PASSWORD",
            "HF_TOKEN",
            "HUGGING_FACE_HUB_TOKEN",
            "OPENAI_API_KEY",
            "AWS_SECRET_ACCESS_KEY",
            "db_password",
        ),
        "x",
    )
    assert launch.without_secrets(kept | secret) == kept


def test_a_runtime_is_started_without_the_secrets_of_its_client(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOTSCTL_PASSWORD", "hidden")
    started: dict[str, object] = {}

    def popen(command: list[str], **options: object) -> None:
        started.update(options)
        raise OSError("not today")

    monkeypatch.setattr(subprocess, "Popen", popen)
    fake = PluginChoice("fake")
    with pytest.raises(CommandFailedError, match="not today"):
        launch.start(RuntimeConfig("test", "", "", fake, fake), private=False)
    environment = started["env"]
    assert isinstance(environment, dict)
    assert "PATH" in environment
    assert "hidden" not in environment.values()
