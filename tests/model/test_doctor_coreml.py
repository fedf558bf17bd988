"""``doctor --coreml`` in real processes, on a strict stand-in for Core ML with its faults."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from dotsctl.protocol.model.directory import demo_directory
from dotsctl.tools.coreml.build import convert_encoder
from dotsctl.tools.coreml.options import ConversionOptions
from dotsctl.tools.doctor_coreml.laboratory import build_packages, run_package
from dotsctl.tools.doctor_coreml.order import SectionFailedError, SectionRequest
from dotsctl.tools.doctor_coreml.sections import SECTIONS

from tests import coreml_stand_in

pytest.importorskip("coremltools")
pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]
REPORT = "dotsctl-coreml-report.json"
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOTSCTL_MODELS", str(folder))
        convert_encoder(demo_directory(), ConversionOptions(buckets=(24,), chunks=1), lambda line: None)
    return folder


@pytest.fixture
def start(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """``start(faults, options)``: the command, or another one, in a process, in an empty folder."""
    monkeypatch.setenv("DOTSCTL_MODELS", str(models))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(coreml_stand_in.SITE))

    def run(faults: str, *options: str, command: Sequence[str] = ("doctor", "--coreml")) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "dotsctl", *command, *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
            env={**os.environ, coreml_stand_in.VARIABLE: faults},
        )  # fmt: skip

    return run


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / REPORT).read_text())


def states(folder: Path) -> dict[str, str]:
    return {name: section["state"] for name, section in report(folder)["sections"].items()}


def test_a_report_that_was_killed_is_finished_by_resume_and_names_a_process_that_dies(
    start: Start, tmp_path: Path
) -> None:
    first = start("load-hang,no-gpu", "--model", "demo", "--only", "trial")
    assert first.stderr is not None
    for line in first.stderr:
        if "loading package 1 of 1" in line:
            break
    first.kill()
    first.communicate(timeout=20)
    assert states(tmp_path) == {"system": "done", "conversion": "done", "trial: cpu_and_ne": "running"}
    assert not report(tmp_path)["is_complete"]
    second = start("kill,no-gpu", "--resume")
    out, err = second.communicate(timeout=500)
    assert second.returncode == 1 and "1 sections failed: trial: cpu_and_ne" in out, (out, err)
    assert "ended by SIGKILL while page of 24 patches through package 1 of 1 on cpu_and_ne" in out
    assert report(tmp_path)["is_complete"] and not list(tmp_path.glob("*.work"))
    sections = report(tmp_path)["sections"]
    assert [(name, each["state"], each["attempts"]) for name, each in sections.items()] == [
        ("system", "done", 1),
        ("conversion", "done", 1),
        ("trial: cpu_and_ne", "failed", 2),
        ("trial: cpu_only", "done", 1),
        ("trial: cpu_and_gpu", "skipped", 0),
    ]
    killed = sections["trial: cpu_and_ne"]
    assert killed["failure"].startswith("the process was ended by SIGKILL")
    assert killed["result"]["verdict"]["trials"] == [] and "  does not work" in killed["text"][1]
    (trial,) = sections["trial: cpu_only"]["result"]["verdict"]["trials"]
    assert trial["mlx_cosine"] > 0.9999


@pytest.fixture
def here(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], SectionRequest]:
    """``here(faults)``: sections in this process."""

    def use(faults: str) -> SectionRequest:
        coreml_stand_in.use(monkeypatch, faults)
        monkeypatch.setenv("DOTSCTL_MODELS", str(models))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return SectionRequest(str(demo_directory()), None, str(tmp_path / "work"))

    return use


def build(order: SectionRequest) -> Any:
    from dotsctl.encoder_worker.coreml.manifest import find_build
    from dotsctl.protocol.model.directory import fingerprint

    return find_build(Path(order.model), fingerprint(Path(order.model)), None)[1]


def test_the_laboratory_times_plans_and_compares_each_package_and_deletes_it(
    here: Callable[[str], SectionRequest],
) -> None:
    order, steps = here(""), list[str]()
    found, _ = build_packages(order, build(order), steps.append)
    assert found["patches"] == 24 and len(found["packages"]) == 12
    entry = found["packages"][0]
    result, text = run_package(SectionRequest(order.model, None, order.work, entry["name"]), steps.append)
    assert result["ne_share"] == 1.0 and result["cpu_cosine"] > 0.9999
    assert result["prediction_s"] > 0 and result["tflops"] > 0 and result["attention"] == entry["attention"]
    assert "Neural Engine: 100% of the operations" in text[0]
    assert not Path(entry["path"]).exists()
    here("wrong")
    with pytest.raises(SectionFailedError, match="wrong numbers: smallest cosine to the CPU"):
        run_package(SectionRequest(order.model, None, order.work, found["packages"][1]["name"]), steps.append)
    assert len([path for path in Path(entry["path"]).parent.iterdir() if path.suffix == ".mlpackage"]) == 10


def test_the_energy_of_core_ml_is_metered_with_the_framework(
    here: Callable[[str], SectionRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dotsctl.tools.bench import energy
    from dotsctl.tools.doctor_coreml import sections

    order = here("")
    monkeypatch.setattr(energy, "IDLE_S", 0.5)
    monkeypatch.setattr(sections, "ENERGY_S", 2.0)
    monkeypatch.setattr(energy, "_usual_patches", lambda model: 24)
    result, text = SECTIONS["energy"](
        SectionRequest(order.model, None, order.work, "coreml:compute_units=cpu_only"), print
    )
    (found,) = result["encoders"]
    assert found["encoder"] == "coreml:compute_units=cpu_only" and found["pages"] >= 1 and found["page_s"] > 0
    assert found["watts"]["cpu"] > found["watts"]["ane"] > 0 and found["wh_per_1000_pages"] > 0
    assert "Wh/1,000 pages" in text[0]


def test_bench_energy_measures_each_encoder_of_a_model_with_packages(start: Start, models: Path) -> None:
    bench = start("", "--model", "demo", "--patches", "24", "--seconds", "5", "--json", command=("bench", "energy"))
    out, err = bench.communicate(timeout=500)
    assert bench.returncode == 0, err
    measured = json.loads(out)["encoders"]
    assert [each["encoder"] for each in measured] == ["mlx", "coreml"]
    assert all(each["pages"] >= 1 and each["wh_per_1000_pages"] > 0 and each["patches"] == 24 for each in measured)
