"""Where the tower is cut into packages, so that each has fewer bytes of weights than the Neural Engine takes. Pure."""

import itertools
from collections.abc import Sequence

from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.protocol.errors import UsageError
from dotsctl.tools.coreml.options import BITS, PRECISIONS, ConversionOptions

WEIGHT_LIMIT_BYTES = 1_000_000_000
"""Of one package. macOS up to 26 refuses more than 2 GiB on the Neural Engine (apple/coremltools pull 2593); for macOS
27 a limit of 1 GiB was reported, above which the CPU is used silently."""


def plan_chunks(config: VisionConfig, options: ConversionOptions) -> list[tuple[int, int, int]]:
    """First layer, end layer and bytes of weights of each package, as equal in size as whole layers allow.

    Raises:
        UsageError: a package would reach the limit, or there are more packages than layers.
    """
    sizes = _layer_bytes(config, options)
    numbers = range(1, len(sizes) + 1) if options.chunks is None else [options.chunks]
    if numbers[-1] > len(sizes):
        raise UsageError(f"{numbers[-1]} chunks: the tower has only {len(sizes)} layers")
    for number in numbers:
        ends = cut(sizes, number)
        parts = [(first, end, sum(sizes[first:end])) for first, end in itertools.pairwise([0, *ends])]
        largest = max(size for _, _, size in parts)
        if largest < WEIGHT_LIMIT_BYTES:
            return parts
    raise UsageError(
        f"with {numbers[-1]} chunks a package would have {largest:,} bytes of weights, the Neural Engine takes less "
        f"than {WEIGHT_LIMIT_BYTES:,}: ask for more chunks, or leave the number out"
    )


def _layer_bytes(config: VisionConfig, options: ConversionOptions) -> list[int]:
    """Bytes of weights of each layer; the patch embedding counts for the first, the merger for the last one."""
    width, inner, merged = config.embed_dim, config.intermediate_size, 4 * config.embed_dim
    bits = BITS[options.weights] or PRECISIONS[options.precision]
    sizes = [(4 * width * width + 3 * width * inner) * bits / 8] * config.num_hidden_layers
    sizes[0] += 588 * width * bits / 8
    sizes[-1] += merged * (merged + config.hidden_size) * bits / 8
    vectors = 8 * (4 * width + inner) * PRECISIONS[options.precision] / 8
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
