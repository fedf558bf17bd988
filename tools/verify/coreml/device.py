"""What only a Mac can measure of a Core ML build: that it works on each of the compute units, how fast, and where.

Every load and every first prediction is done in a child process, as it may hang or kill.
"""

import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from dotsctl.encoder_worker.coreml.golden_page import draw_picture
from dotsctl.encoder_worker.coreml.manifest import Build
from dotsctl.encoder_worker.coreml.probing import Probe
from dotsctl.encoder_worker.plugin import PageImage
from dotsctl.encoder_worker.plugins.mlx import MLXEncoder
from dotsctl.protocol.machine import Machine
from dotsctl.protocol.verdicts import Verdict, complaints, remember, remember_mlx

MLX_PAGES = 3
"""Pages whose median counts, after one that warms up."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class DeviceMeasure:
    """One choice of compute units."""

    verdict: Verdict
    complaints: tuple[str, ...]
    """Why it is not worth using although it works."""
    cold_load_s: float | None
    """To compile and load the smallest page size where nothing of it was ever loaded; none: it failed."""
    warm_load_s: float | None
    """To load it from there in a new process."""
    speed_up: dict[int, float]
    """Time of a page with MLX over its time here, by page size."""
    counts: dict[str, int] = field(default_factory=dict)
    """Operations by device; empty: Core ML did not tell."""
    operations: list[dict[str, Any]] = field(default_factory=list)
    """Every operation with its device, see :class:`dotsctl.encoder_worker.coreml.residency.PlannedOperation`."""

    def summary(self) -> dict[str, Any]:
        """Everything but the single operations, for JSON."""
        content = asdict(self)
        del content["operations"]
        return content


def measure(
    model: Path, folder: Path, build: Build, units: Sequence[str], machine: Machine, say: Say
) -> tuple[list[DeviceMeasure], dict[int, float]]:
    """Try a build on several compute units, and time it and the MLX encoder. Verdicts and times are remembered.

    Args:
        model: directory of the model.
        folder: of the build.
        build: its manifest.
        units: names of compute units.
        machine: this one.
        say: told what goes on.

    Returns:
        One measure for each of the units, and seconds of a page with MLX by its patches.
    """
    say("timing the MLX encoder")
    mlx_s = mlx_page_times(model, build.buckets)
    remember_mlx(build.fingerprint, machine, mlx_s)
    return [_measure_units(Probe(folder, build, each), machine, mlx_s, say) for each in units], mlx_s


def _measure_units(probe: Probe, machine: Machine, mlx_s: dict[int, float], say: Say) -> DeviceMeasure:
    say(f"trying {probe.units}")
    verdict, plan = probe.judge(probe.build.buckets, machine, say, None)
    remember(verdict)
    good = [trial for trial in verdict.trials if trial.is_good]
    cold_s, warm_s = _load_times(probe, say) if good else (None, None)
    return DeviceMeasure(
        verdict,
        tuple(complaints(verdict, mlx_s)) if verdict.is_good else (),
        cold_s,
        warm_s,
        {trial.bucket: mlx_s[trial.bucket] / trial.page_s for trial in good if trial.page_s > 0},
        plan.get("counts", {}),
        plan.get("operations", []),
    )


def _load_times(probe: Probe, say: Say) -> tuple[float | None, float | None]:
    """Seconds to load the smallest page size from a folder that Core ML has never seen, and once more from there."""
    compiled = Path(tempfile.mkdtemp(prefix=".cold-", dir=probe.folder))
    try:
        fresh = replace(probe, compiled=compiled / "compiled")
        times_s: list[float | None] = []
        for kind in ("cold", "warm"):
            say(f"{kind} load on {probe.units}")
            trials = fresh.run(probe.build.buckets[:1], say).trials
            times_s.append(trials[0].load_s if trials and trials[0].is_good else None)
        return times_s[0], times_s[1]
    finally:
        shutil.rmtree(compiled, ignore_errors=True)


def mlx_page_times(model: Path, buckets: Sequence[int]) -> dict[int, float]:
    """Seconds of a page by its patches with the MLX encoder as it is used on this machine: the tower alone."""
    encoder = MLXEncoder()
    try:
        encoder.load(model, {}, lambda note: None)
        return {bucket: _page_time(encoder, bucket) for bucket in buckets}
    finally:
        encoder.close()


def _page_time(encoder: MLXEncoder, bucket: int) -> float:
    page = PageImage(None, np.asarray(draw_picture(bucket)), None)
    times_ms = [encoder.encode([page])[0].timings_ms["encode"] for _ in range(1 + MLX_PAGES)]
    return statistics.median(times_ms[1:]) / 1e3
