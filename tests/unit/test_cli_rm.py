"""``dotsctl rm``, and models that are in use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dotsctl.client.files.partial_folder import PartialFolder
from dotsctl.protocol import endpoints
from dotsctl.protocol.endpoints import InstanceLock, RuntimeFacts, instance_directory
from dotsctl.protocol.errors import RuntimeLostError
from dotsctl.protocol.messages import Status
from dotsctl.protocol.model.directory import DEMO, demo_directory, fingerprint
from dotsctl.protocol.model.files import write_cache

from tests.local_models import WEIGHTS, call, derive, install, refused

pytestmark = pytest.mark.usefixtures("models")
CHILD_TIMEOUT_S = 30.0

# --- rm --------------------------------------------------------------------------------------------------------------


def test_rm_removes_a_model_with_what_was_made_from_it(models: Path) -> None:
    folder, other = install(models / "small"), install(models / "other", WEIGHTS + b"1")
    made, kept = derive(fingerprint(folder)), derive(fingerprint(other))
    size_bytes = sum(path.stat().st_size for path in folder.iterdir()) + 5000
    result = call("rm", "small", "--yes")
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"freed {size_bytes / 1000:.1f} kB" in result.stderr
    assert (folder.exists(), made.exists(), other.exists(), kept.exists()) == (False, False, True, True)
    assert {path.name for path in models.iterdir()} == {"other", ".derived"}


@pytest.mark.parametrize(("answer", "code", "stays"), [(b"n\n", 7, True), (b"y\n", 0, False)])
def test_rm_asks_on_a_terminal_and_takes_no_for_an_answer(models: Path, answer: bytes, code: int, stays: bool) -> None:
    folder = install(models / "small")
    assert "pass --yes" in refused(2, "rm", "small")
    ours, theirs = os.openpty()
    try:
        os.write(ours, answer)
        command = [sys.executable, "-P", "-m", "dotsctl", "rm", "small"]
        done = subprocess.run(command, stdin=theirs, capture_output=True, text=True, timeout=CHILD_TIMEOUT_S)
    finally:
        os.close(ours)
        os.close(theirs)
    assert f"this will be removed:\n  {folder}\nRemove 14.4 kB? [y/N]: " in done.stderr
    assert (done.returncode, done.stdout, folder.exists()) == (code, "", stays)


def test_rm_of_a_link_leaves_its_target(models: Path, tmp_path: Path) -> None:
    target = install(tmp_path / "elsewhere")
    models.mkdir()
    (models / "linked").symlink_to(target)
    made = derive(fingerprint(target))
    assert "freed 5 kB" in call("rm", "linked", "-y").stderr
    assert (os.path.lexists(models / "linked"), made.exists()) == (False, False)
    assert len(list(target.iterdir())) == 4


def test_rm_keeps_what_another_model_with_the_same_weights_uses(models: Path) -> None:
    first, second = install(models / "first"), install(models / "second")
    made = derive(fingerprint(first))
    assert call("rm", "first", "-y").exit_code == 0
    assert (second.exists(), made.exists()) == (True, True)


def test_rm_derived_only_leaves_the_model(models: Path) -> None:
    folder = install(models / "small")
    made, of_demo = derive(fingerprint(folder)), derive(fingerprint(demo_directory()))
    assert call("rm", "small", "--derived-only", "-y").exit_code == 0
    assert (folder.exists(), made.exists(), of_demo.exists()) == (True, False, True)
    assert call("rm", DEMO, "--derived-only", "-y").exit_code == 0
    assert not of_demo.exists()
    assert "nothing to remove" in call("rm", "small", "--derived-only", "-y").stderr


def test_rm_unused_removes_what_belongs_to_no_model(models: Path) -> None:
    kept, gone = derive(fingerprint(install(models / "small"))), derive("0" * 64)
    of_demo = derive(fingerprint(demo_directory()))
    assert call("rm", "--unused", "-y").exit_code == 0
    assert (kept.exists(), gone.exists(), of_demo.exists()) == (True, False, True)


def test_rm_removes_an_unfinished_download_but_not_a_running_one(models: Path) -> None:
    partial = PartialFolder(models / "half")
    with partial:
        assert "another process is downloading" in refused(7, "rm", "half", "-y")
    (models / ".half.replaced").mkdir()
    assert call("rm", "half", "-y").exit_code == 0
    assert list(models.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "reported"),
    [
        (["demo"], 2, "cannot be removed"),
        (["nothing"], 3, "no model 'nothing' is installed. Installed models: none"),
        (["../elsewhere"], 2, "is a path"),
        (["."], 2, "is a path"),
        ([], 2, "NAME of a model, or --unused alone"),
        (["small", "--unused"], 2, "--unused alone"),
        (["--unused", "--derived-only"], 2, "--unused alone"),
    ],
)
def test_rm_refuses_what_it_cannot_mean(arguments: list[str], code: int, reported: str) -> None:
    assert reported in refused(code, "rm", *arguments, "-y")


def test_rm_states_which_file_stays_when_one_cannot_be_removed(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(models / "small")

    def fail(_: Path) -> None:
        raise PermissionError(13, "Permission denied", "/x")

    monkeypatch.setattr("dotsctl.client.files.folders.shutil.rmtree", fail)
    assert "/x cannot be removed (Permission denied)" in refused(7, "rm", "small", "-y")
    assert call("ls").stdout.count("small") == 2  # an unfinished removal, and how to end it
    monkeypatch.undo()


# --- models in use ---------------------------------------------------------------------------------------------------


@pytest.fixture
def runtime() -> endpoints.InstanceDirectory:
    directory = instance_directory("busy")
    endpoints.create(directory)
    return directory


@pytest.mark.parametrize("command", [("rm", "small", "-y"), ("pull", "a/small", "--force")])
def test_a_model_that_a_runtime_holds_stays(
    models: Path, runtime: endpoints.InstanceDirectory, command: tuple[str, ...]
) -> None:
    folder = install(models / "small")
    lock = InstanceLock(runtime)
    write_cache(runtime.facts_path, RuntimeFacts("i", 5, "by-path", fingerprint(folder), "mlx", "mlx"))
    try:
        assert "the model 'small' is in use by the runtime 'busy'" in refused(7, *command)
    finally:
        runtime.facts_path.unlink()
        lock.release()
    assert folder.exists()
    assert call("rm", "small", "-y").exit_code == 0


def test_another_model_of_that_name_in_a_runtime_does_no_harm(
    models: Path, runtime: endpoints.InstanceDirectory
) -> None:
    install(models / "small")
    lock = InstanceLock(runtime)
    write_cache(runtime.facts_path, RuntimeFacts("i", 5, "small", "0" * 64, "mlx", "mlx"))
    try:
        assert call("rm", "small", "-y").exit_code == 0
    finally:
        runtime.facts_path.unlink()
        lock.release()


def test_a_runtime_that_is_starting_is_queried(
    models: Path, runtime: endpoints.InstanceDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(models / "small")
    status = Status("i", 5, "0.1.0", "small", "", "starting", 1.0, (), 0, {}, {})
    monkeypatch.setattr("dotsctl.client.connection.status.query_status", lambda _: status)
    lock = InstanceLock(runtime)
    try:
        assert "'small' is in use by the runtime 'busy'" in refused(7, "rm", "small", "-y")
    finally:
        lock.release()


def test_a_runtime_that_does_not_answer_is_not_ignored(
    models: Path, runtime: endpoints.InstanceDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_: str) -> None:
        raise RuntimeLostError("no answer")

    install(models / "small")
    monkeypatch.setattr("dotsctl.client.connection.status.query_status", lost)
    lock = InstanceLock(runtime)
    try:
        assert "the runtime 'busy' does not report which model it uses" in refused(7, "rm", "small", "-y")
    finally:
        lock.release()
