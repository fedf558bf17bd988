"""The output of ``verify --encoder coreml``: a table, metadata, every operation with its device, and plots."""

import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from dotsctl.encoder_worker.coreml.manifest import Build
from dotsctl.protocol.errors import MissingError, OutputError
from dotsctl.protocol.model.files import json_bytes, write_file
from dotsctl.tools.measuring.made_by import MadeBy
from dotsctl.tools.measuring.plots import write_result
from dotsctl.tools.verify_coreml.comparison import BuildComparison, BuildRow
from dotsctl.tools.verify_coreml.device import DeviceMeasure

PLOTS = "plots"
SMALLEST = 1e-12
"""The smallest value of a logarithmic axis."""


def table(found: BuildComparison) -> str:
    """Text: a line for each component, and on a Mac a few for each choice of compute units."""
    head = ("patches", "executed", "against", "component", "max", "mean", "relative", "min cosine", "limit", "")
    lines: list[Sequence[str]] = [head, *(_cells(row) for row in found.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text += [line for device in found.devices for line in device_lines(device)]
    if not found.devices:
        text.append("times, devices and loads are measured on a Mac with Apple silicon alone")
    return "\n".join(text)


def _cells(row: BuildRow) -> tuple[str, ...]:
    errors = [f"{value:.2e}" for value in (row.max_error, row.mean_error, row.relative_error)]
    verdict = "match" if row.match else "NO MATCH"
    cosine = f"{row.min_cosine:.8f}"
    return (str(row.bucket), row.executed, row.against, row.component, *errors, cosine, row.limit, verdict)


def device_lines(device: DeviceMeasure) -> Iterator[str]:
    """Yield the measurements with one choice of compute units, a line for each page size."""
    verdict = device.verdict
    yield f"{verdict.units} on {verdict.machine}:"
    if verdict.reason:
        yield f"  does not work: {verdict.reason}"
    for trial in verdict.trials:
        if not trial.is_good:
            yield f"  {trial.bucket} patches: does not work: {trial.reason}"
            continue
        speed = f", {device.speed_up[trial.bucket]:.2f} times as fast as MLX" if trial.bucket in device.speed_up else ""
        compared = (("golden page", trial.golden_cosine), ("cpu_only", trial.cpu_cosine), ("MLX", trial.mlx_cosine))
        cosines = "".join(f", {name} {cosine:.5f}" for name, cosine in compared if cosine is not None)
        yield f"  {trial.bucket} patches: {trial.page_s:.3f} s{speed}; loaded in {trial.load_s:.1f} s{cosines}"
    if device.cold_load_s is not None and device.warm_load_s is not None:
        yield f"  smallest page size: cold load {device.cold_load_s:.1f} s, warm load {device.warm_load_s:.1f} s"
    if device.counts:
        share = "unknown" if verdict.ne_share is None else f"{verdict.ne_share:.1%}"
        counts = ", ".join(f"{count} {name}" for name, count in device.counts.items())
        yield f"  Neural Engine: at least {share} of the operations of each page size ({counts})"
    yield from (f"  NOT WORTH USING: {complaint}" for complaint in device.complaints)


def content(found: BuildComparison, build: Build) -> dict[str, Any]:
    """Return everything but the single operations, for JSON."""
    return {
        **MadeBy.now().record(),
        "command": shlex.join(["python", "-P", "-m", "dotsctl.tools.dev.verify", *sys.argv[1:]]),
        "fingerprint": build.fingerprint,
        "build": found.build,
        "precision": build.precision,
        "weights": build.weights,
        "match": all(row.match for row in found.rows),
        "rows": [{key: _finite(value) for key, value in asdict(row).items()} for row in found.rows],
        "seconds": found.seconds,
        "devices": [device.summary() for device in found.devices],
    }


def _finite(value: Any) -> Any:
    """JSON has no infinite numbers."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_report(folder: Path, found: BuildComparison, build: Build) -> None:
    """Write ``metadata.json``, ``plots/`` and on a Mac ``operations.json``.

    Raises:
        OutputError: the folder cannot be written.
        MissingError: matplotlib is not installed.
    """
    try:
        _write(folder / "metadata.json", content(found, build))
        if found.devices:
            listed = {device.verdict.units: device.operations for device in found.devices}
            _write(folder / "operations.json", listed)
        _plot(folder / PLOTS, found)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error})", "choose another folder with --output") from None


def _write(path: Path, value: Any) -> None:
    write_file(path, json_bytes(value))


def _plot(folder: Path, found: BuildComparison) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingError(
            f"plots need matplotlib ({error})", "pip install matplotlib, or leave --output away"
        ) from None
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for executed, against, bucket in dict.fromkeys((row.executed, row.against, row.bucket) for row in found.rows):
        rows = [row for row in found.rows if (row.executed, row.against, row.bucket) == (executed, against, bucket)]
        errors = [max(row.relative_error, SMALLEST) for row in rows]
        label = f"{executed}, {bucket} patches, against {against}"
        axes.semilogy([row.component for row in rows], errors, "o-", label=label)
    axes.set(title=f"Build {found.build}: error of each component", ylabel="relative error")
    axes.legend(fontsize="small")
    write_result(folder / "errors.png", figure)
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for label, values in found.distances.items():
        axes.semilogy(np.sort(np.maximum(values, SMALLEST)), label=label)
    axes.set(title="Distance of each embedding to float64, sorted", ylabel="1 - cosine", xlabel="embedding")
    axes.legend(fontsize="small")
    write_result(folder / "cosines.png", figure)
