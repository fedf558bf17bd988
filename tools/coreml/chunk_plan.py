"""Where the tower is cut into packages, so that each is small enough for the compiler of the Neural Engine. Pure."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.protocol.errors import UsageError
from dotsctl.tools.coreml.options import BITS, PRECISIONS, ConversionOptions

DENSE_LIMIT_BYTES = 500_000_000
"""Of one package, with its weights in the precision that it computes in: M1 and M2 expand compressed weights when they
compile (ANEForge, cross-chip notes). macOS up to 26 refuses more than 2 GiB on the Neural Engine (apple/coremltools
pull 2593), for macOS 27 a limit of 1 GiB was reported. Half of that keeps each step of the compiler short, as its time
and memory grow with the number of operations (lightvector/KataGo pull 1202)."""


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
    """Packages as equal in size as whole layers allow, as few as the limit allows unless a number is given.

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
        f"Neural Engine is {DENSE_LIMIT_BYTES:,}: use more chunks, or leave the number out"
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
    """Ends of ``number`` runs of layers such that the largest run is as small as it can be."""
    low, high = max(sizes), sum(sizes)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(_fill(sizes, middle)) <= number else (middle + 1, high)
    ends = _fill(sizes, low)
    while len(ends) < number:  # fewer runs suffice for this size: split the longest
        start, end = max(itertools.pairwise([0, *ends]), key=lambda run: run[1] - run[0])
        ends = sorted([*ends, (start + end) // 2])
    return ends


def _fill(sizes: Sequence[int], limit: int) -> list[int]:
    """Ends of runs that are filled one after the other up to ``limit``."""
    ends, total = [], 0
    for index, size in enumerate(sizes):
        if total + size > limit:
            ends.append(index)
            total = 0
        total += size
    return [*ends, len(sizes)]
