"""One-layer packages in every form of attention, each loaded, timed, planned and compared by itself.

One session on one Mac shows which form its Neural Engine runs, and how fast. The packages are written by
``tools/coreml/lab.py`` and deleted one after the other.
"""

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from dotsctl.encoder_worker.coreml.compiled_packages import compiled_package
from dotsctl.encoder_worker.coreml.device_tower import load_function
from dotsctl.encoder_worker.coreml.golden import judge
from dotsctl.encoder_worker.coreml.library import import_coremltools
from dotsctl.encoder_worker.coreml.manifest import Build, function_name
from dotsctl.encoder_worker.coreml.prediction import predict
from dotsctl.encoder_worker.coreml.residency import planned_operations, residency
from dotsctl.tools.coreml.lab import LabPackage, lab_packages
from dotsctl.tools.doctor_coreml.order import Say, SectionFailedError, SectionRequest
from numpy.typing import NDArray

LARGEST = 4032
"""Most patches of the page of the laboratory; larger ones take longer and show no other differences."""
PREDICTIONS = 5
"""Predictions whose median counts, after one that warms up."""
SEED = 11
UNITS = "CPU_AND_NE"
LIST = "laboratory.json"
Inputs = Mapping[str, NDArray[np.float32]]
Found = tuple[dict[str, Any], list[str]]


def build_packages(order: SectionRequest, build: Build, say: Say) -> Found:
    """Write all packages of the laboratory into the work folder, for the page size nearest below ``LARGEST``."""
    folder = Path(order.work) / "laboratory"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    patches = max((bucket for bucket in build.buckets if bucket <= LARGEST), default=min(build.buckets))
    packages = []
    for package in lab_packages(Path(order.model), patches, folder):
        say(f"laboratory package {package.name} is written")
        packages.append({**asdict(package), "path": str(package.path)})
    result = {"patches": patches, "packages": packages}
    (folder / LIST).write_text(json.dumps(result), encoding="utf-8")
    return result, [f"{len(packages)} packages of one layer for {patches} patches"]


def run_package(order: SectionRequest, say: Say) -> Found:
    """Load one package on the Neural Engine, time it, compare it with the CPU, and query its plan; then delete it."""
    listed = json.loads((Path(order.work) / "laboratory" / LIST).read_text(encoding="utf-8"))["packages"]
    entry = next(entry for entry in listed if entry["name"] == order.subject)
    package = LabPackage(**{**entry, "path": Path(entry["path"])})
    try:
        with tempfile.TemporaryDirectory(dir=package.path.parent) as compiled:
            return _run(package, Path(compiled), say)
    finally:
        shutil.rmtree(package.path, ignore_errors=True)


def _run(package: LabPackage, folder: Path, say: Say) -> Found:
    ct = import_coremltools()
    started = time.perf_counter()
    compiled = compiled_package(package.path, folder, ct, say)
    result: dict[str, Any] = {**_facts(package), "compile_s": time.perf_counter() - started}
    inputs = _inputs(package)
    say(f"loading {package.name} on {UNITS}")
    started = time.perf_counter()
    model = load_function(compiled, ct.ComputeUnit[UNITS], function_name(package.patches), ct)
    result["load_s"] = time.perf_counter() - started
    found, times_s = _timed(model, inputs, package.name, say)
    page_s = statistics.median(times_s[1:])
    result |= {"first_s": times_s[0], "prediction_s": page_s, "tflops": package.flops / page_s / 1e12}
    say(f"loading {package.name} on CPU_ONLY")
    exact = load_function(compiled, ct.ComputeUnit.CPU_ONLY, function_name(package.patches), ct)
    expected, _ = _timed(exact, inputs, package.name, say, 0)
    cosines, is_near = judge(found, expected)
    result["cpu_cosine"] = float(cosines.min())
    say(f"asking for the plan of {package.name}")
    planned = list(planned_operations(compiled, 1, ct.ComputeUnit[UNITS]))
    result |= asdict(residency(planned))
    share = "unknown" if result["ne_share"] is None else f"{result['ne_share']:.0%}"
    text = [
        f"{page_s * 1e3:.2f} ms, {result['tflops']:.2f} TFLOP/s, loaded in {result['load_s']:.1f} s, Neural Engine: "
        f"{share} of the operations, smallest cosine to the CPU {result['cpu_cosine']:.5f}"
    ]
    if not is_near:
        raise SectionFailedError(f"wrong numbers: smallest cosine to the CPU {cosines.min():.4f}", result, text)
    return result, text


def _facts(package: LabPackage) -> dict[str, Any]:
    """The description of the package, without its place."""
    return {name: value for name, value in asdict(package).items() if name != "path"}


def _inputs(package: LabPackage) -> Inputs:
    """Random inputs: a residual stream of the size that norms make of it, and rotary tables of random angles."""
    rng = np.random.default_rng(SEED)
    angles = rng.uniform(0, 2 * np.pi, (1, 1, package.head_dim, package.patches))
    return {
        "hidden": rng.normal(size=(1, package.width, 1, package.patches)).astype(np.float32),
        "cos": np.cos(angles).astype(np.float32),
        "sin": np.sin(angles).astype(np.float32),
    }


def _timed(
    model: Any, inputs: Inputs, name: str, say: Say, warm: int = PREDICTIONS
) -> tuple[NDArray[np.float32], list[float]]:
    """The output as rows (patches, width), and the seconds of the first prediction and the warm ones."""
    times_s = []
    for _ in range(1 + warm):
        say(f"prediction of {name}")
        started = time.perf_counter()
        (output,) = predict(model, inputs).values()  # (1, width, 1, patches)
        times_s.append(time.perf_counter() - started)
    return np.ascontiguousarray(output[0, :, 0].T), times_s
