"""The streams of three towers for one page, in one form: the residual stream between packages, and the embeddings.

Everything is in the order of ``image.patchify``, whatever order a tower computes in.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from dotsctl.encoder_worker.coreml.manifest import Build
from dotsctl.encoder_worker.coreml.tower_inputs import embeddings_of, quarter_order
from dotsctl.tools.reference.exact_tower import ExactTower, layer_name
from numpy.typing import NDArray

EMBEDDINGS = "embeddings"
Rows = NDArray[Any]
Page = tuple[NDArray[np.float32], tuple[int, int]]
"""Patches (num_patches, 588) and grid (rows, columns)."""


class PackageTower(Protocol):
    """The executor of the packages of a build: the interpreter, or Core ML."""

    def encode(
        self,
        patches: NDArray[np.float32],
        grid: tuple[int, int],
        watch: Callable[[int, NDArray[np.float32]], object] | None = None,
    ) -> NDArray[np.float32]:
        """Embeddings of a page; ``watch`` gets what each package gave."""


@dataclass(frozen=True)
class Streams:
    """The streams of one tower and one page."""

    values: dict[str, Rows]
    """The values by component, in order: as ``layer 14`` (num_patches, embed_dim); the last are ``embeddings``
    (num_patches / 4, width)."""
    seconds: float


def borders(build: Build) -> list[int]:
    """Layers after which a package ends and another one begins."""
    return [chunk.end_layer for chunk in build.chunks[:-1]]


def package_streams(tower: PackageTower, build: Build, page: Page) -> Streams:
    """Return the streams of the packages of a build."""
    ends, values = borders(build), dict[str, Rows]()
    order = quarter_order(len(page[0]))

    def watch(number: int, value: NDArray[np.float32]) -> None:
        if number <= len(ends):
            rows = np.empty((len(order), build.embed_dim), np.float32)
            rows[order] = np.ldexp(embeddings_of(value), -build.residual_exponent)  # (num_patches, embed_dim)
            values[layer_name(ends[number - 1])] = rows

    started = time.monotonic()
    embeddings = tower.encode(*page, watch)
    return Streams({**values, EMBEDDINGS: embeddings}, time.monotonic() - started)


def exact_streams(model: Path, layers: Sequence[int], page: Page) -> Streams:
    """Return the streams of the tower in float64."""
    values: dict[str, Rows] = {}
    chosen = {layer_name(layer) for layer in layers}

    def watch(stage: str, rows: Rows) -> None:
        if stage in chosen:
            values[stage] = rows.astype(np.float32)  # half of the memory, and exact enough

    started = time.monotonic()
    embeddings = ExactTower.of(model).embeddings(*page, watch)
    return Streams({**values, EMBEDDINGS: embeddings}, time.monotonic() - started)


def mlx_streams(model: Path, layers: Sequence[int], page: Page) -> Streams:
    """Return the streams of the MLX tower in float32. Raises ImportError where MLX is not installed."""
    import mlx.core as mx
    from dotsctl.tools.reference.mlx_tower import Recorder, open_tower

    tower: Any
    tower, query_chunk = open_tower(model, "float32")
    kept: dict[str, mx.array] = {}
    tower.blocks = [
        Recorder(block, layer_name(index), kept) if index in layers else block
        for index, block in enumerate(tower.blocks, 1)
    ]
    started = time.monotonic()
    embeddings = tower(mx.array(page[0]), [page[1]], query_chunk)
    mx.eval(embeddings, kept)
    seconds = time.monotonic() - started
    values = {layer_name(layer): np.array(kept[layer_name(layer)]) for layer in layers}
    return Streams({**values, EMBEDDINGS: np.array(embeddings)}, seconds)
