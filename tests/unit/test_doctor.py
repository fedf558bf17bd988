"""The checks of ``dotsctl doctor``, each shown what it is there to find."""

import re
import shutil
import signal
import socket
import subprocess
import time
import tomllib
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.protocol.endpoints import InstanceLock, create, instance_directory
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.machine.memory import MemoryLimit
from dotsctl.protocol.model.directory import DEMO, demo_directory
from dotsctl.protocol.parts import Role
from dotsctl.tools.doctor import libraries as doctor_libraries
from dotsctl.tools.doctor import machine as doctor_machine
from dotsctl.tools.doctor import models as doctor_models
from dotsctl.tools.doctor import runtime as doctor_runtime
from dotsctl.tools.doctor.child import ChildOutcome, ask
from dotsctl.tools.doctor.libraries import check_blas, check_coremltools, check_required
from dotsctl.tools.doctor.machine import check_models_disk, check_python, check_system, check_system_version
from dotsctl.tools.doctor.models import check_default_model, check_memory, check_model, check_settings, model_checks
from dotsctl.tools.doctor.plugins import check_plugin, plugin_checks
from dotsctl.tools.doctor.report import CheckStatus, Finding, of_error
from dotsctl.tools.doctor.runtime import check_directory, check_left_over, check_running
from dotsctl.tools.doctor.setup import Setup, read_setup

GB = 1_000_000_000


@pytest.fixture(autouse=True)
def home(models: Path) -> Path:
    """No installed model, no runtime, no settings."""
    return models


def setup(encoder: str = "fake", decoder: str = "fake", model: str = DEMO, limit_s: float = 30.0) -> Setup:
    return read_setup(model, encoder, decoder, limit_s)


def verdict(finding: Finding) -> str:
    """The verdict, of a finding that has a remedy if there is something to mend."""
    assert finding.found and bool(finding.remedy) is (finding.verdict is not CheckStatus.OK)
    return finding.verdict.value


def install(models: Path, name: str = "small") -> Path:
    return Path(shutil.copytree(demo_directory(), models / name))


# --- the machine -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "found"), [((3, 10), "fail"), ((3, 11), "ok"), ((3, 14), "ok"), ((3, 15), "fail")])
def test_a_python_without_wheels_is_a_failure(version: tuple[int, int], found: str) -> None:
    assert verdict(check_python(version)) == found


@pytest.mark.parametrize(
    ("system", "machine", "found"),
    [
        ("linux", "x86_64", "ok"), ("linux", "aarch64", "ok"), ("linux", "riscv64", "fail"), ("darwin", "arm64", "ok"),
        ("darwin", "x86_64", "fail"), ("win32", "AMD64", "fail"),
    ],
)  # fmt: skip
def test_only_systems_that_mlx_runs_on_are_well(system: str, machine: str, found: str) -> None:
    assert verdict(check_system(system, machine)) == found


@pytest.mark.parametrize(
    ("libc", "macos", "found"),
    [
        (("glibc", "2.35"), "", "ok"), (("glibc", "2.41"), "", "ok"), (("glibc", "2.31"), "", "fail"),
        (("", ""), "", "fail"), (("musl", "1.2"), "", "fail"), (None, "15.1", "ok"), (None, "14.7.2", "fail"),
    ],
)  # fmt: skip
def test_an_old_system_is_a_failure(libc: Any, macos: str, found: str) -> None:
    assert verdict(check_system_version(libc, macos)) == found


@pytest.mark.parametrize(("free_gb", "found"), [(100, "ok"), (5, "warn"), (0.01, "fail")])
def test_a_full_disk_is_reported_with_the_size_of_a_model(
    free_gb: float, found: str, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")(0, 0, int(free_gb * GB))
    monkeypatch.setattr(doctor_machine.shutil, "disk_usage", lambda _: usage)
    assert verdict(check_models_disk()) == found
    install(models)
    assert verdict(check_models_disk()) == ("fail" if found == "fail" else "ok"), "a model is here already"


def test_a_folder_that_may_not_be_written_to_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine.os, "access", lambda *_: False)
    finding = check_models_disk()
    assert verdict(finding) == "fail" and "DOTSCTL_MODELS" in finding.remedy


# --- libraries -------------------------------------------------------------------------------------------------------


def test_what_is_installed_is_shown_with_versions() -> None:
    finding = check_required()
    assert verdict(finding) == "ok" and "numpy " in finding.found


def test_a_missing_library_fails_and_missing_coremltools_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_libraries, "REQUIRED", ("mlx", "no-such-library"))
    finding = check_required()
    assert verdict(finding) == "fail"
    assert "no-such-library" in finding.found and finding.remedy == "pip install --force-reinstall dotsctl"
    monkeypatch.setattr(doctor_libraries, "COREMLTOOLS", "no-such-library")
    finding = check_coremltools()
    assert verdict(finding) == "warn" and str(finding.remedy).startswith("pip install 'dotsctl[coreml]'")


def test_every_distribution_that_the_project_requires_is_checked() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    names = {re.split(r"[^\w-]", each)[0].replace("_", "-") for each in project["dependencies"]}
    assert names == {*doctor_libraries.REQUIRED, doctor_libraries.BLAS, doctor_libraries.COREMLTOOLS}


@pytest.mark.parametrize(
    ("best", "plain", "found", "words"),
    [
        ({"gflops": 90.0, "blas": "OpenBLAS", "device": "cpu"}, 3.0, "ok", "90 GFLOP/s a thread with OpenBLAS; 3.0"),
        ({"gflops": 4.0, "blas": "OpenBLAS", "device": "cpu"}, 3.0, "warn", "no faster than 3.0"),
        ({"gflops": 3.0, "blas": None, "device": "cpu"}, 3.0, "warn", "3.0 GFLOP/s"),
        ({"gflops": 9000.0, "blas": None, "device": "gpu"}, None, "ok", "9000 GFLOP/s on the GPU"),
        ({"missing": "MLX cannot be imported"}, None, "warn", "not measured"),
        (None, None, "fail", "signal SIGILL\nIllegal instruction"),
    ],
)
def test_a_slow_blas_is_reported_with_its_cost(
    best: Any, plain: float | None, found: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [
        ChildOutcome(best, "signal SIGILL", "Illegal instruction"),
        ChildOutcome({"gflops": plain}, "exit code 0", ""),
    ]
    monkeypatch.setattr(doctor_libraries, "ask", lambda *_: answers.pop(0))
    finding = check_blas()
    assert verdict(finding) == found and words in finding.found


# --- models ----------------------------------------------------------------------------------------------------------


def test_without_a_model_the_demo_model_is_used_and_the_way_to_one_is_reported(models: Path) -> None:
    found = read_setup(None, None, None)
    assert found.model_name == DEMO
    finding = check_default_model(found)
    assert verdict(finding) == "warn" and "dotsctl pull" in finding.remedy
    install(models), install(models, "other")
    finding = check_default_model(read_setup(None, None, None))
    assert verdict(finding) == "warn" and "small" in finding.found
    assert verdict(check_default_model(read_setup("small", None, None))) == "ok"
    assert verdict(check_default_model(read_setup("smal", None, None))) == "fail"


def test_a_broken_model_fails_if_it_is_chosen_and_is_a_warning_if_another_one_exists(models: Path) -> None:
    (install(models) / "model.safetensors").write_bytes(b"cut")
    install(models, "other")
    names = {check.name for check in model_checks(setup())}
    assert {"model small", "model other", "model demo"} <= names
    assert verdict(check_model("small", setup(model="small"))) == "fail"
    finding = check_model("small", setup(model="other"))
    assert verdict(finding) == "warn" and "model.safetensors" in finding.found
    assert verdict(check_model("other", setup(model="other"))) == "ok"


@pytest.mark.parametrize(("gib", "found"), [(64, "ok"), (1, "warn"), (0.2, "fail")])
def test_memory_is_compared_with_what_the_model_takes(gib: float, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_models, "memory_limit", lambda: MemoryLimit(int(gib * (1 << 30))))
    assert verdict(check_memory(setup("mlx", "mlx"))) == found


def test_a_memory_limit_that_cannot_be_kept_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOTSCTL_MEMORY", "100M")
    with pytest.raises(UsageError) as caught:
        check_memory(setup("mlx", "mlx"))
    assert "raise it to" in of_error("memory", caught.value).remedy


def test_a_wrong_configuration_file_is_a_finding_and_the_rest_is_checked_with_defaults() -> None:
    assert verdict(check_settings(setup())) == "ok"
    Path("dotsctl.toml").write_text("speed = 11")
    found = setup()
    assert found.encoder == PluginChoice("fake")
    finding = check_settings(found)
    assert verdict(finding) == "fail" and "unknown key 'speed'" in finding.found


# --- runtimes --------------------------------------------------------------------------------------------------------


def test_a_runtime_directory_is_tried_and_left_as_it_was(run_folder: Path) -> None:
    assert verdict(check_directory(setup())) == "ok"
    assert not run_folder.exists()
    create(instance_directory("mine"))
    assert verdict(check_directory(setup())) == "ok"
    assert [path.name for path in run_folder.iterdir()] == ["mine"]
    (run_folder / "mine").chmod(0o755)
    finding = check_directory(setup())
    assert verdict(finding) == "fail" and "0755" in finding.found


def test_a_runtime_directory_without_sockets_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoSocket(socket.socket):
        def bind(self, *_: Any) -> None:
            raise OSError(95, "Operation not supported")

    monkeypatch.setattr(doctor_runtime.socket, "socket", NoSocket)
    finding = check_directory(setup())
    assert verdict(finding) == "fail" and "Operation not supported" in finding.found


def test_leftovers_of_dead_runtimes_are_reported_and_running_ones_are_not(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (verdict(check_left_over()), verdict(check_running())) == ("ok", "ok")
    for name in ("dead", "alive", "clean", "p-0123456789"):
        create(instance_directory(name))
    (run_folder / "p-0123456789" / "log").mkdir()
    (run_folder / "dead" / "runtime.json").write_text("{}")
    (run_folder / "Not Ours").mkdir()
    lock = InstanceLock(instance_directory("alive"))
    monkeypatch.setattr("dotsctl.client.connection.status.STATUS_TIMEOUT_S", 0.1)
    monkeypatch.setattr("dotsctl.client.connection.session.STATUS_TIMEOUT_S", 0.1)
    finding, running = check_left_over(), check_running()
    lock.release()
    (run_folder / "dead" / "runtime.json").unlink()
    assert verdict(finding) == "warn"
    assert "files of 2 that ended without cleaning up: dead, p-0123456789" in finding.found
    assert verdict(running) == "warn" and running.found.startswith("alive: ")


# --- plugins ---------------------------------------------------------------------------------------------------------


def test_every_installed_plugin_is_tried_and_a_chosen_one_that_is_not_there_too() -> None:
    names = {check.name for check in plugin_checks(setup("no-such-encoder", "fake"))}
    assert {"encoder no-such-encoder", "encoder mlx", "encoder coreml", "decoder fake", "decoder mlx"} <= names


@pytest.mark.parametrize("role", list(Role))
def test_a_plugin_that_kills_its_process_is_a_line(role: Role) -> None:
    finding = check_plugin(role, PluginChoice("fake", {"load_fault": "die"}), setup("fake:load_fault=die"))
    assert "ended by signal SIGKILL" in finding.found
    assert verdict(finding) == ("fail" if role is Role.ENCODER else "warn"), "only the encoder is chosen so"


def test_a_plugin_that_hangs_is_a_line_and_its_process_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        "subprocess.Popen", lambda *args, **options: children.append(popen(*args, **options)) or children[-1]
    )
    choice = PluginChoice("fake", {"load_fault": "hang"})
    started = time.monotonic()
    finding = check_plugin(Role.DECODER, choice, setup("fake", "fake:load_fault=hang", limit_s=1.0))
    assert verdict(finding) == "fail" and "killed after 1 s" in finding.found
    assert time.monotonic() - started < 20
    assert [child.returncode for child in children] == [-signal.SIGKILL]


def test_a_plugin_that_refuses_names_the_reason_and_one_that_works_its_time() -> None:
    refused = check_plugin(Role.ENCODER, PluginChoice("fake", {"speed": "11"}), setup("fake:speed=11"))
    assert verdict(refused) == "fail" and "has no option 'speed'" in refused.found
    works = check_plugin(Role.ENCODER, PluginChoice("fake"), setup())
    assert verdict(works) == "ok" and works.found.startswith("a warm-up page of demo")


def test_a_child_without_an_answer_shows_the_last_output_of_its_libraries() -> None:
    outcome = ask("dotsctl.tools.no_such_module", [], 30.0)
    assert outcome.answer is None and outcome.how == "exit code 1"
    assert "No module named dotsctl.tools.no_such_module" in outcome.tail
