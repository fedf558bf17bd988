"""``verify --encoder coreml``: the packages of a build against the MLX tower and the tower in float64.

On any machine the packages are executed by the interpreter. On a Mac Core ML executes them too, on each of the compute
units that passed its trial, and times, loads and devices are measured (``device.py``).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from dotsctl.encoder_worker.coreml.device_tower import DeviceTower
from dotsctl.encoder_worker.coreml.golden import WORST_COSINE
from dotsctl.encoder_worker.coreml.golden_page import draw_page
from dotsctl.encoder_worker.coreml.manifest import REFERENCE, Build, find_build
from dotsctl.encoder_worker.coreml.probing import Probe
from dotsctl.encoder_worker.coreml.reference_tower import ReferenceTower
from dotsctl.encoder_worker.plugins import MLX
from dotsctl.protocol.errors import REINSTALL, MissingError, UsageError
from dotsctl.protocol.machine.identity import Machine, this_machine
from dotsctl.protocol.model.directory import find_model, fingerprint
from dotsctl.tools.reference.exact_tower import difference
from dotsctl.tools.verify_coreml.device import DeviceMeasure, measure
from dotsctl.tools.verify_coreml.streams import Streams, borders, exact_streams, mlx_streams, package_streams
from numpy.typing import NDArray

FLOAT64 = "float64"
DEVICE_UNITS = ("cpu_and_ne", "cpu_and_gpu", "cpu_only")
RELATIVE = {"float32": 1e-5, "float16": 5e-3}
"""Most relative error by precision; measured in float16: 2.2e-3 on the demo model, 3.0e-3 at 42 layers of random
weights."""
COSINES = {"float32": 0.999_999, "float16": 0.9999}
QUANTISED_COSINES = {"int8": 0.999, "int8-per-tensor": 0.998, "palette6": 0.97, "int4": 0.95}
"""Least cosine of weights in fewer bits, whose relative error means little; measured on the demo model: 0.9995, 0.999,
0.976 and 0.964."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Limit:
    """The limits of a match."""

    cosine: float
    relative: float | None = None
    """The largest relative error of the Frobenius norm; none: the cosine alone counts."""

    def __str__(self) -> str:
        relative = "" if self.relative is None else f"relative <= {self.relative:g}, "
        return f"{relative}cosine >= {self.cosine:g}"


@dataclass(frozen=True)
class BuildRow:
    """One component of one page, executed in one way, against one tower."""

    bucket: int
    executed: str
    """``reference`` or compute units."""
    against: str
    component: str
    max_error: float
    mean_error: float
    relative_error: float
    min_cosine: float
    """The smallest cosine over patches, or over embeddings."""
    limit: str
    match: bool


@dataclass
class BuildComparison:
    """Everything that was found."""

    build: str
    rows: list[BuildRow] = field(default_factory=list)
    seconds: dict[str, dict[int, float]] = field(default_factory=dict)
    """The seconds of a page by tower and its patches, as this comparison ran them."""
    distances: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """1 - cosine of each embedding to float64, by way of execution and page size."""
    devices: list[DeviceMeasure] = field(default_factory=list)
    """The measurements on a Mac, one for each of the compute units."""


@dataclass(frozen=True)
class BuildRequest:
    """A request for a comparison."""

    model: str | None
    build: str | None = None
    buckets: tuple[int, ...] = ()
    """The page sizes to compare; empty: all of the build."""
    units: tuple[str, ...] = DEVICE_UNITS
    """Compute units that are tried on a Mac, and compared where they pass."""
    tried_units: tuple[str, ...] = ()
    """Compute units that are compared without a trial, because they passed one before; with any, none is tried."""


def compare(order: BuildRequest, say: Say, machine: Machine | None = None) -> tuple[Path, BuildComparison]:
    """Compare the pages of a build, or one of its page sizes.

    Args:
        order: what to compare.
        say: receives the progress.
        machine: another one than this, for tests.

    Returns:
        The folder of the build, and what was found.

    Raises:
        UsageError: the build has no such page size.
        MissingError: there is no such model or build, it is damaged, or a library is missing.
    """
    model = find_model(order.model)[1]
    folder, build = find_build(model, fingerprint(model), order.build)
    build.check_files(folder, contents=True)
    if wrong := set(order.buckets) - set(build.buckets):
        raise UsageError(f"build {folder.name} has no pages of {min(wrong)} patches; it has {_listed(build.buckets)}")
    buckets = order.buckets or build.buckets
    found = BuildComparison(folder.name)
    machine = machine or this_machine()
    if machine.is_apple_silicon and not order.tried_units:
        found.devices = [measure(Probe(folder, build, units, model), machine, say) for units in order.units]
    for bucket in buckets:
        passed = [each.verdict.units for each in found.devices if bucket in each.verdict.good_buckets]
        _compare_page(model, folder, build, bucket, found, (*order.tried_units, *passed), say)
    return folder, found


def _compare_page(
    model: Path, folder: Path, build: Build, bucket: int, found: BuildComparison, units: Sequence[str], say: Say
) -> None:
    drawn = draw_page(bucket)
    page, ends = (drawn.values, drawn.grid), borders(build)
    say(f"page of {bucket} patches: float64 tower")
    truths = {FLOAT64: exact_streams(model, ends, page)}
    say(f"page of {bucket} patches: MLX tower")
    try:
        truths[MLX] = mlx_streams(model, ends, page)
    except ImportError as error:
        raise MissingError(f"MLX cannot be imported ({error})", REINSTALL) from None
    for name, streams in truths.items():
        found.seconds.setdefault(name, {})[bucket] = streams.seconds
    for executed, streams in _executions(folder, build, page, units, say):
        found.seconds.setdefault(executed, {})[bucket] = streams.seconds
        found.rows += rows_of(build, bucket, executed, streams, truths)
        key = f"{executed}, {bucket} patches"
        found.distances[key] = distances(streams.values["embeddings"], truths[FLOAT64].values["embeddings"])


def _executions(folder: Path, build: Build, page: Any, units: Sequence[str], say: Say) -> Iterator[tuple[str, Streams]]:
    """The packages by the interpreter, and by Core ML on some compute units."""
    bucket = len(page[0])
    say(f"page of {bucket} patches: interpreter")
    yield REFERENCE, package_streams(ReferenceTower(folder, build), build, page)
    for each in units:
        say(f"page of {bucket} patches: {each}")
        tower = DeviceTower(folder, build, each, (bucket,), say)
        yield each, package_streams(tower, build, page)
        tower.close()


def limit_of(build: Build, executed: str) -> Limit:
    """Return the limits of a match for a build, by its precision, its weights and what executes it."""
    quantised = QUANTISED_COSINES.get(build.weights)
    cosine = COSINES[build.precision] if quantised is None else quantised
    if executed != REFERENCE:
        return Limit(min(cosine, WORST_COSINE))
    if quantised is not None:
        return Limit(cosine)
    return Limit(cosine, RELATIVE[build.precision])


def rows_of(build: Build, bucket: int, executed: str, found: Streams, truths: dict[str, Streams]) -> list[BuildRow]:
    """All components of one execution against all towers."""
    limit = limit_of(build, executed)
    return [
        _row(bucket, executed, against, component, values, truth.values[component], limit)
        for against, truth in truths.items()
        for component, values in found.values.items()
    ]


def _row(bucket: int, executed: str, against: str, component: str, found: Any, expected: Any, limit: Limit) -> BuildRow:
    if not np.isfinite(found).all():
        return BuildRow(bucket, executed, against, component, np.inf, np.inf, np.inf, 0.0, str(limit), False)
    relative, largest, cosine = difference(found, expected)
    mean = float(np.abs(found.astype(np.float64) - expected).mean())
    near = cosine >= limit.cosine and (limit.relative is None or relative <= limit.relative)
    return BuildRow(bucket, executed, against, component, largest, mean, relative, cosine, str(limit), near)


def distances(found: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.float64]:
    """1 - cosine of each row, (rows,)."""
    a, b = found.astype(np.float64), expected.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(1 - (a * b).sum(axis=1) / np.maximum(norms, np.finfo(np.float64).tiny))


def _listed(buckets: Sequence[int]) -> str:
    return ", ".join(map(str, buckets))
