"""The report on the Core ML encoder: all of it on a stand-in, what fails in between, and that it needs a Mac."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from dotsctl.encoder_worker.coreml import device_tower
from dotsctl.encoder_worker.coreml.manifest import Build
from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.machine import Machine
from dotsctl.protocol.verdicts import Trial, Verdict, build_digest, remember
from dotsctl.tools import doctor_coreml
from dotsctl.tools.bench import energy as bench_energy
from dotsctl.tools.bench.energy import Energy
from dotsctl.tools.coreml.options import ConversionOptions
from dotsctl.tools.verify.coreml import comparison as verify_coreml
from dotsctl.tools.verify.coreml.device import DeviceMeasure, Say

from tests.coreml_stand_in import StandIn

pytest.importorskip("coremltools")
pytestmark = pytest.mark.model
MAC = Machine("Apple M2", "macOS 26.1", "25B1")


def measured(
    model: Path, folder: Path, build: Build, units: tuple[str, ...], machine: Machine, say: Say
) -> tuple[list[DeviceMeasure], dict[int, float]]:
    """What measuring gives; the measuring itself is tested with the verification."""
    assert units == ("cpu_and_ne", "cpu_and_gpu", "cpu_only")
    digest = build_digest(folder) or ""
    trial = Trial(24, "", 60.0, 0.9, 0.5, 0.99)
    verdict = Verdict(build.fingerprint, folder.name, digest, "cpu_and_ne", machine, build.buckets, (trial,), 1.0, 1.0)
    remember(verdict)
    operation = {"chunk": 1, "function": "patches_24", "name": "x", "kind": "conv", "device": "ne", "cost": 0.5}
    return [DeviceMeasure(verdict, (), 60.0, 3.0, {24: 1.5}, {"ne": 1}, [operation])], {24: 0.75}


@pytest.fixture(autouse=True)
def on_a_mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor_coreml, "this_machine", lambda: MAC)
    monkeypatch.setattr(device_tower.platform, "mac_ver", lambda: ("26.1", ("", "", ""), "arm64"))
    monkeypatch.setattr(device_tower, "import_coremltools", StandIn().module)
    monkeypatch.setattr(verify_coreml, "measure", measured)
    watts = {"cpu": 1.0, "gpu": 0.0, "ane": 2.0}
    energy = Energy("coreml", 24, 9, 0.5, watts, watts, 0.4)
    monkeypatch.setattr(bench_energy, "measure", lambda *_: [energy])
    monkeypatch.setattr(
        doctor_coreml, "ConversionOptions", lambda: ConversionOptions(buckets=(24,))
    )  # the usual sizes of the demo model take the interpreter longer


def run(*options: str) -> Result:
    return CliRunner().invoke(doctor_coreml.cli, ["--model", "demo", *options])


def test_one_command_converts_tries_verifies_and_writes_a_report(tmp_path: Path) -> None:
    result = run("-o", str(tmp_path / "report.json"))
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["system"]["chip"] == "Apple M2" and report["system"]["build"] == "25B1"
    assert "coremltools" in report["system"]["versions"]
    assert report["conversion"]["made"] and report["conversion"]["build"] == "float16"
    assert report["verification"]["match"]
    (device,) = report["verification"]["devices"]
    assert device["verdict"]["trials"][0]["bucket"] == 24 and device["verdict"]["ne_share"] == 1.0
    assert (device["cold_load_s"], device["warm_load_s"], device["speed_up"]) == (60.0, 3.0, {"24": 1.5})
    assert {row["executed"] for row in report["verification"]["rows"]} == {"reference", "cpu_and_ne"}
    assert {operation["device"] for operation in report["verification"]["operations"]["cpu_and_ne"]} == {"ne"}
    assert report["energy"][0]["wh_per_1000_pages"] == 0.4
    assert report["failures"] == {}
    for part in (
        "chip         Apple M2",
        "Wh/1,000 pages",
        "cold load",
        "--encoder auto: encoder",
        "everything was done",
    ):
        assert part in result.stdout
    assert report["auto"].startswith("encoder coreml:build=float16,compute_units=cpu_and_ne: its packages passed")


def test_what_fails_is_in_the_report_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(doctor_coreml, "convert_encoder", no_room)
    result = run("-o", str(tmp_path / "report.json"))
    assert result.exit_code == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert "No space left" in report["failures"]["conversion"]
    assert report["verification"] == {} and report["energy"]
    assert "not everything could be done: conversion failed" in result.stdout


def test_a_build_that_was_named_and_is_not_there_is_not_made() -> None:
    result = run("--build", "mine")
    assert result.exit_code == 1 and "no Core ML build 'mine'" in result.stdout


@pytest.mark.parametrize(
    ("machine", "problem"),
    [
        (Machine("x86_64", "Linux 6", "1"), "needs a Mac with Apple silicon, and this is Linux 6 on x86_64"),
        (Machine("Intel Core i7", "macOS 15.1", "1"), "needs a Mac with Apple silicon"),
        (Machine("Apple M1", "macOS 14.6", "1"), "needs macOS 15 or later, this is 14.6"),
    ],
)
def test_elsewhere_one_line_says_what_it_needs_and_it_ends_with_3(
    machine: Machine, problem: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor_coreml, "this_machine", lambda: machine)
    monkeypatch.setattr(sys, "argv", ["doctor", "--model", "demo"])
    with pytest.raises(SystemExit) as ended:
        doctor_coreml.main()
    assert ended.value.code == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert problem in line
    assert isinstance(CliRunner().invoke(doctor_coreml.cli, []).exception, MissingError)


def test_a_report_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_coreml, "examine", lambda *_: doctor_coreml.Report({}))
    result = run("-o", str(tmp_path / "no" / "such" / "file"))
    assert "choose another file with -o" in str(result.exception)
