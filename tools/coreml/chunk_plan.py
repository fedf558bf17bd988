"""The cuts of the tower into packages, so that each is small enough for the compiler of the Neural Engine. Pure."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.protocol.errors import UsageError
from dotsctl.tools.coreml.options import BITS, PRECISIONS, ConversionOptions

DENSE_LIMIT_BYTES = 500_000_000
"""The limit of one package, with weights in the precision that it computes in: M1 and M2 expand compressed ones when
they compile (ANEForge, cross-chip notes). macOS up to 26 refuses more than 2 GiB on the Neural Engine
(apple/coremltools pull 2593), for macOS 27 a limit of 1 GiB was reported. Half of that keeps each step of the compiler
short, as its time and memory grow with the number of operations (lightvector/KataGo pull 1202)."""


@dataclass(frozen=True)
class PlannedChunk:
    """The layers of one package."""

    first_layer: int
    end_layer: int
    """The first layer that is not in it."""
    stored_bytes: int
    """Estimated size of its weights on the disk."""
    dense_bytes: int
    """Estimated size of its weights as they are computed with."""


def plan_chunks(config: VisionConfig, options: ConversionOptions) -> list[PlannedChunk]:
    """Return packages as equal in size as complete layers allow, as few as the limit allows unless a number is given.

    Raises:
        UsageError: a package would reach the limit, or there are more packages than layers.
    """
    dense = _layer_bytes(config, PRECISIONS[options.precision], PRECISIONS[options.precision])
    stored = _layer_bytes(config, BITS[options.weights] or PRECISIONS[options.precision], PRECISIONS[options.precision])
    numbers = range(1, len(dense) + 1) if options.chunks is None else [options.chunks]
    if numbers[-1] > len(dense):
        raise UsageError(f"{numbers[-1]} chunks: the tower has only {len(dense)} layers")
    for number in numbers:
        runs = itertools.pairwise([0, *cut(dense, number)])
        chunks = [PlannedChunk(first, end, sum(stored[first:end]), sum(dense[first:end])) for first, end in runs]
        largest = max(chunk.dense_bytes for chunk in chunks)
        if largest < DENSE_LIMIT_BYTES:
            return chunks
    raise UsageError(
        f"with {numbers[-1]} chunks a package would have {largest:,} bytes of expanded weights, and the limit for the "
        f"Neural Engine is {DENSE_LIMIT_BYTES:,}",
        "use more chunks, or leave the number out",
    )


def _layer_bytes(config: VisionConfig, matrix_bits: float, vector_bits: int) -> list[int]:
    """Bytes of weights of each layer; the patch embedding counts for the first, the merger for the last one."""
    width, inner, merged = config.embed_dim, config.intermediate_size, 4 * config.embed_dim
    sizes = [(4 * width * width + 3 * width * inner) * matrix_bits / 8] * config.num_hidden_layers
    sizes[0] += 588 * width * matrix_bits / 8
    sizes[-1] += merged * (merged + config.hidden_size) * matrix_bits / 8
    vectors = 8 * (4 * width + inner) * vector_bits / 8
    return [int(size + vectors) for size in sizes]


def cut(sizes: Sequence[int], number: int) -> list[int]:
    """Ends of ``number`` runs of layers: the largest run is as small as it can be, then all are as equal as can be."""
    low, high = max(sizes), sum(sizes)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _runs_needed(sizes, middle) <= number else (middle + 1, high)
    totals = [0, *itertools.accumulate(sizes)]
    # The best way to cut the first layers, by their number: the sum of the squares of the runs, and their ends.
    best: list[tuple[float, list[int]]] = [(0, []), *[(math.inf, [])] * len(sizes)]
    for _ in range(number):
        longer = [(math.inf, list[int]())]
        for end in range(1, len(totals)):
            fitting = [start for start in range(end) if totals[end] - totals[start] <= low]
            ways = [(best[start][0] + (totals[end] - totals[start]) ** 2, [*best[start][1], end]) for start in fitting]
            longer.append(min(ways))
        best = longer
    return best[-1][1]


def _runs_needed(sizes: Sequence[int], limit: int) -> int:
    """Runs that are filled one after the other up to ``limit``."""
    runs, total = 1, 0
    for size in sizes:
        if total + size > limit:
            runs, total = runs + 1, 0
        total += size
    return runs
