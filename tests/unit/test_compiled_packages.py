"""Compiled packages: one folder for each build of macOS, shared by processes that compile at the same time."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dotsctl.encoder_worker.coreml import compiled_packages
from dotsctl.encoder_worker.coreml.compiled_packages import UNUSED_S, compiled_folder, compiled_package
from dotsctl.protocol.errors import CommandFailedError, OutputError
from dotsctl.protocol.machine.identity import Machine

MAC = Machine("Apple M2", "macOS 26.1", "25B78")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "build" / "tower-1.mlpackage"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(bytes(1000))
    return folder


def framework(compile_model: Callable[[str, str], None]) -> Any:
    return SimpleNamespace(models=SimpleNamespace(utils=SimpleNamespace(compile_model=compile_model)))


def usual(source: str, destination: str) -> None:
    Path(destination).mkdir()
    (Path(destination) / "model.mil").write_text(Path(source).name)


def test_the_folder_is_named_by_the_build_of_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_packages, "this_machine", lambda: MAC)
    assert compiled_folder(Path("build")) == Path("build/compiled-25B78")


def test_a_package_is_compiled_once(package: Path) -> None:
    folder, steps = package.parent / "compiled-25B78", list[str]()
    found = compiled_package(package, folder, framework(usual), steps.append)
    assert found == folder / "tower-1.mlmodelc" and (found / "model.mil").read_text() == package.name
    assert compiled_package(package, folder, None, steps.append) == found
    assert steps == ["compiling tower-1.mlpackage"]


def test_what_another_process_compiled_meanwhile_is_used(package: Path) -> None:
    folder = package.parent / "compiled-25B78"

    def slow(source: str, destination: str) -> None:
        usual(source, destination)
        usual(source, str(folder / "tower-1.mlmodelc"))

    found = compiled_package(package, folder, framework(slow), lambda line: None)
    assert [path.name for path in folder.iterdir()] == [found.name]


def test_folders_of_other_systems_are_removed_after_a_week_without_use(package: Path) -> None:
    old, other, ours = (package.parent / f"compiled-{name}" for name in ("24A1", "25A1", "25B78"))
    for each in (old, other):
        each.mkdir()
    week = time.time() - UNUSED_S - 60
    os.utime(old, (week, week))
    compiled_package(package, ours, framework(usual), lambda line: None)
    assert {path.name for path in package.parent.iterdir()} == {other.name, ours.name, package.name}
    os.utime(ours, (week, week))
    compiled_package(package, ours, None, lambda line: None)
    assert time.time() - ours.stat().st_mtime < UNUSED_S  # a start without a compilation is a use too


def test_room_is_needed_for_the_compiled_copy_and_for_what_the_framework_caches(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = package.parent / "compiled-25B78"
    monkeypatch.setattr(compiled_packages.shutil, "disk_usage", lambda _: SimpleNamespace(free=1999))
    with pytest.raises(OutputError, match="free some disk space, or move the models to another disk"):
        compiled_package(package, folder, framework(usual), lambda line: None)
    assert not folder.exists()
    monkeypatch.setattr(compiled_packages.shutil, "disk_usage", lambda _: SimpleNamespace(free=2000))
    assert compiled_package(package, folder, framework(usual), lambda line: None).is_dir()


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (
            RuntimeError("Error compiling model"),
            CommandFailedError,
            "Core ML cannot compile .* convert the model again",
        ),
        (OSError(28, "No space left on device"), OutputError, "cannot write .*No space left on device"),
    ],
)
def test_a_failure_leaves_nothing(package: Path, error: Exception, kind: type[Exception], text: str) -> None:
    folder = package.parent / "compiled-25B78"

    def failing(source: str, destination: str) -> None:
        usual(source, destination)
        raise error

    with pytest.raises(kind, match=text):
        compiled_package(package, folder, framework(failing), lambda line: None)
    assert list(folder.iterdir()) == []
