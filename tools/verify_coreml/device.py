"""Measurements of a Core ML build that need a Mac: whether it works on some compute units, how fast, and where.

Every load and every prediction is done in a child process, as it may hang or end its process.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dotsctl.encoder_worker.coreml.probing import Probe
from dotsctl.protocol.machine.identity import Machine
from dotsctl.protocol.machine.verdicts import Verdict, complaints, recall_mlx, remember

Say = Callable[[str], None]


@dataclass(frozen=True)
class DeviceMeasure:
    """One choice of compute units."""

    verdict: Verdict
    complaints: tuple[str, ...]
    """The reasons why it may not be worth using although it works."""
    cold_load_s: float | None
    """Time to compile and load the smallest page size where nothing of it was ever loaded; none: it failed."""
    warm_load_s: float | None
    """Time to load it from there in a new process."""
    mlx_page_s: dict[int, float]
    """Seconds of a page with the MLX encoder, by page size, as far as measured."""
    speed_up: dict[int, float]
    """Time of a page with MLX over its time here, by page size."""
    counts: dict[str, int] = field(default_factory=dict)
    """Planned operations by device, of all page sizes; empty: Core ML did not report them."""
    operations: list[dict[str, Any]] = field(default_factory=list)
    """Every planned operation, see :class:`dotsctl.encoder_worker.coreml.residency.PlannedOperation`."""

    def summary(self) -> dict[str, Any]:
        """Return everything but the single operations, for JSON."""
        content = asdict(self)
        del content["operations"]
        return content


def measure(probe: Probe, machine: Machine, say: Say) -> DeviceMeasure:
    """Try a build on some compute units and time its loads; the verdict and the times of MLX are remembered.

    Args:
        probe: the build and the compute units.
        machine: this one.
        say: called with each step.
    """
    say(f"trying {probe.units}")
    verdict = probe.verdict(probe.build.buckets, machine, say, None)
    remember(verdict)
    cold_s, warm_s = _load_times(probe, verdict.good_buckets[0], say) if verdict.good_buckets else (None, None)
    mlx_s = {
        bucket: seconds
        for bucket, seconds in recall_mlx(probe.build.fingerprint, machine).items()
        if bucket in probe.build.buckets
    }
    good = [trial for trial in verdict.trials if trial.is_good]
    counts = Counter[str]()
    for plan in probe.plans.values():
        counts.update(plan["counts"])
    return DeviceMeasure(
        verdict,
        tuple(complaints(verdict, mlx_s)) if verdict.good_buckets else (),
        cold_s,
        warm_s,
        mlx_s,
        {trial.bucket: mlx_s[trial.bucket] / trial.page_s for trial in good if trial.bucket in mlx_s},
        dict(counts),
        [operation for plan in probe.plans.values() for operation in plan["operations"]],
    )


def _load_times(probe: Probe, bucket: int, say: Say) -> tuple[float | None, float | None]:
    """Seconds to load a page size from a folder that Core ML has never seen, and once more from there."""
    compiled = Path(tempfile.mkdtemp(prefix=".cold-", dir=probe.folder))
    try:
        fresh = replace(probe, compiled=compiled / "compiled")
        times_s = []
        for kind in ("cold", "warm"):
            say(f"{kind} load on {probe.units}")
            times_s.append(fresh.load(bucket, say))
        return times_s[0], times_s[1]
    finally:
        shutil.rmtree(compiled, ignore_errors=True)
