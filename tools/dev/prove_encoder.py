"""The proof of a Core ML build on any machine: its saved packages, executed, against the tower in float64.

python -P -m dotsctl.tools.dev.prove_encoder MODEL --build float16 --grid 20x28
"""

import json
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from dotsctl.client.cli.printing import exiting_on_error
from dotsctl.encoder_worker.coreml.manifest import Build, find_build
from dotsctl.encoder_worker.coreml.reference_tower import ReferenceTower
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.model.directory import find_model, fingerprint
from dotsctl.protocol.model.half_precision import LIMIT
from dotsctl.tools.coreml.lint_values import CUT_LIMIT, FLOAT16_LIMIT, lint_values
from dotsctl.tools.reference.exact_tower import difference
from dotsctl.tools.verify_coreml.streams import borders, exact_streams, package_streams
from numpy.typing import NDArray

LARGEST_SHOWN = 5
KIB = 1024


@dataclass(frozen=True)
class PartError:
    """Error of the residual stream after a package, or of the embeddings."""

    name: str
    relative_error: float
    """The relative error of the Frobenius norm."""
    max_error: float
    min_cosine: float
    """The smallest cosine over patches, or over embeddings."""


@dataclass(frozen=True)
class Proof:
    """The measurements with one page of random pixels."""

    build: str
    grid: tuple[int, int]
    parts: tuple[PartError, ...]
    """The parts in order; the last one is the embeddings."""
    largest: dict[str, float]
    """Largest magnitudes of all values, by name."""
    findings: tuple[str, ...]
    """Values beyond a limit of float16; none for a float32 build."""
    interpreter_s: float
    exact_s: float
    peak_memory_gib: float
    """The peak memory of this process, in GiB."""


def prove(model: Path, folder: Path, build: Build, grid: tuple[int, int], seed: int = 0) -> Proof:
    """Compute one page of random pixels both ways.

    Args:
        model: directory of the model.
        folder: of the build.
        build: its manifest.
        grid: patches from top to bottom and from left to right; their product must be a bucket of the build.
        seed: of the pixels.

    Raises:
        UsageError: the build has no such bucket.
    """
    count = grid[0] * grid[1]
    if count not in build.buckets or grid[0] % 2 or grid[1] % 2:
        raise UsageError(
            f"a grid of {grid[0]}x{grid[1]} is no even one of the buckets {', '.join(map(str, build.buckets))}"
        )
    patches = np.random.default_rng(seed).normal(size=(count, 588)).astype(np.float32)
    tower = ReferenceTower(folder, build)
    found = package_streams(tower, build, (patches, grid))
    exact = exact_streams(model, borders(build), (patches, grid))
    parts = tuple(_part(name, found.values[name], exact.values[name]) for name in found.values)
    programs = tower.chunks(count)
    findings = tuple(map(str, lint_values(programs))) if build.precision == "float16" else ()
    largest = {name: peak for chunk in programs for name, peak in chunk.magnitudes.items()}
    largest = dict(sorted(largest.items(), key=lambda item: -item[1])[:LARGEST_SHOWN])
    return Proof(folder.name, grid, parts, largest, findings, found.seconds, exact.seconds, _peak_memory_gib())


def _part(name: str, found: NDArray[Any], exact: NDArray[Any]) -> PartError:
    return PartError(name, *difference(found, exact))


def _peak_memory_gib() -> float:
    unit = 1 if sys.platform == "darwin" else KIB  # of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / KIB**3


def _text(proof: Proof) -> str:
    rows, columns = proof.grid
    lines = [f"build {proof.build}, {rows}x{columns} = {rows * columns} patches"]
    lines += [
        f"  {part.name:<12} relative error {part.relative_error:.2e}  largest {part.max_error:.2e}  "
        f"smallest cosine {part.min_cosine:.7f}"
        for part in proof.parts
    ]
    lines.append(
        f"  largest values (limits in float16: products {LIMIT:.0f}, pieces of the last axis {CUT_LIMIT:.0f}, "
        f"others {FLOAT16_LIMIT:.0f}):"
    )
    lines += [f"    {peak:12.2f}  {name}" for name, peak in proof.largest.items()]
    lines += [f"  BEYOND A LIMIT: {finding}" for finding in proof.findings]
    times = f"interpreter {proof.interpreter_s:.1f} s, float64 tower {proof.exact_s:.1f} s"
    return "\n".join([*lines, f"  {times}, peak memory {proof.peak_memory_gib:.2f} GiB"])


@click.command()
@click.argument("model")
@click.option("--build", "name", help="Name of the build; else as the encoder plugin chooses.")
@click.option("--grid", default="", help="ROWSxCOLUMNS of patches; else a flat one of the smallest bucket.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the random pixels.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--limit", type=float, help="Exit with 1 when the relative error of the embeddings is larger.")
def main(model: str, name: str | None, grid: str, seed: int, as_json: bool, limit: float | None) -> None:
    """Execute a saved build on one page of random pixels and compare it with the tower in float64."""
    with exiting_on_error():
        _, directory = find_model(model)
        folder, build = find_build(directory, fingerprint(directory), name)
        build.check_files(folder, contents=True)
        proof = prove(directory, folder, build, _grid(grid, build), seed)
    click.echo(json.dumps(asdict(proof)) if as_json else _text(proof))
    if limit is not None and not proof.parts[-1].relative_error <= limit:
        click.echo(f"error: the relative error is above {limit:g}", err=True)
        sys.exit(1)


def _grid(text: str, build: Build) -> tuple[int, int]:
    if not text:
        return 2, min(build.buckets) // 2
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal()):
        raise UsageError(f"{text!r} is no grid", "write it as in --grid 20x28")
    return int(rows), int(columns)


if __name__ == "__main__":
    main()
