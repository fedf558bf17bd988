"""The placement of the operations of a compiled package, as Core ML plans it: its ``MLComputePlan``.

Source of the calls: ``coremltools/models/compute_plan.py`` and ``compute_device.py``, version 9.0. The plan has no
choice of a function, so it may not cover the functions that are not the default; such operations are counted
as unknown, not as absent from the Neural Engine. That is why a build has packages with a single function for the plan.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotsctl.encoder_worker.coreml.library import import_coremltools
from dotsctl.encoder_worker.coreml.manifest import Build

NEURAL_ENGINE, GPU, CPU, UNKNOWN = "ne", "gpu", "cpu", "unknown"
CONSTANTS = ("const", "constexpr_")
"""Operations that are gone, or folded into others, before anything runs."""


def device_names() -> dict[type, str]:
    """Return the short name of each class of devices of coremltools."""
    devices = import_coremltools("coremltools.models.compute_device")
    return {
        devices.MLNeuralEngineComputeDevice: NEURAL_ENGINE,
        devices.MLGPUComputeDevice: GPU,
        devices.MLCPUComputeDevice: CPU,
    }


@dataclass(frozen=True)
class PlannedOperation:
    """One operation of a function."""

    chunk: int
    """Number of its package, from 1."""
    function: str
    name: str
    """The name of its first output."""
    kind: str
    """The kind of the operation, as in ``conv``."""
    device: str
    """``ne``, ``gpu``, ``cpu`` or ``unknown``."""
    cost: float | None
    """Its estimated share of the time of its function, 0 to 1; none: not reported."""


def plan_packages(build: Build, bucket: int) -> list[tuple[int, str]]:
    """Return number, from 1, and file of the packages that stand for a page size in a plan.

    The first, a middle one and the last: the ones between differ in their weights alone, and a plan takes a compilation
    of minutes for each. A build without packages for the plan, as on a disk without hard links, is queried as it is.
    """
    files = build.plan_packages(bucket) or [chunk.file for chunk in build.chunks]
    numbers = sorted({1, (len(files) + 1) // 2, len(files)})
    return [(number, files[number - 1]) for number in numbers]


def planned_operations(
    compiled: Path, chunk: int, units: Any, function: str | None = None
) -> Iterator[PlannedOperation]:
    """Yield the operations of a compiled package.

    Args:
        compiled: an ``.mlmodelc`` folder.
        chunk: number of the package.
        units: a member of ``coremltools.ComputeUnit``.
        function: of which one where there are several; none: of all.
    """
    plans = import_coremltools("coremltools.models.compute_plan")
    names = device_names()
    plan = plans.MLComputePlan.load_from_path(str(compiled), units)
    functions = plan.model_structure.program.functions
    for name, content in functions.items():
        if function is not None and len(functions) > 1 and name != function:
            continue
        for operation in content.block.operations:
            kind = operation.operator_name.rpartition(".")[2]  # as in "ios18.conv"
            if kind.startswith(CONSTANTS):
                continue
            usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
            cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
            output = operation.outputs[0].name if operation.outputs else ""
            device = UNKNOWN if usage is None else names.get(type(usage.preferred_compute_device), UNKNOWN)
            yield PlannedOperation(chunk, name, output, kind, device, None if cost is None else cost.weight)


@dataclass(frozen=True)
class Residency:
    """The share of a build that runs on each device."""

    counts: dict[str, int]
    """Operations by device."""
    ne_share: float | None
    """The share of the operations whose device is known; none: no device is known."""
    ne_cost_share: float | None
    """The same share by estimated cost; none: no cost is known."""


def residency(operations: Iterable[PlannedOperation]) -> Residency:
    """Count the operations of a build."""
    listed = list(operations)
    counts = Counter(operation.device for operation in listed)
    known = [operation for operation in listed if operation.device != UNKNOWN]
    weighed = [(operation.device, operation.cost) for operation in known if operation.cost is not None]
    total = sum(cost for _, cost in weighed)
    return Residency(
        dict(sorted(counts.items())),
        counts[NEURAL_ENGINE] / len(known) if known else None,
        sum(cost for device, cost in weighed if device == NEURAL_ENGINE) / total if total > 0 else None,
    )
