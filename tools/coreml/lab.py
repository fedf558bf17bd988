"""One-layer packages in every form of attention: which one a Neural Engine runs well is measured by running them.

Each holds the middle layer of the model, with its real weights, as time on the Neural Engine depends on the values. A
package of one layer compiles in seconds, so a Mac can try all of them in one session.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dotsctl.encoder_worker.coreml.manifest import function_name
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.protocol.model.buckets import check_buckets
from dotsctl.protocol.model.checkpoint import read_json
from dotsctl.tools.coreml.attention import FORMS, AttentionOptions
from dotsctl.tools.coreml.package import TARGET, write_package
from dotsctl.tools.coreml.scaling import stream_exponent, tensor_exponents
from dotsctl.tools.coreml.stored_weights import StoredWeights
from dotsctl.tools.coreml.tower import TowerBuilder, TowerPart
from dotsctl.tools.reference.tower_tensors import TowerTensors

QUERY_TILES = (128, 256, 512)


@dataclass(frozen=True)
class LabPackage:
    """One package with one function, ``function_name(patches)``.

    The function takes ``hidden`` (1, width, 1, patches), ``cos`` and ``sin`` (1, 1, head_dim, patches), and gives
    ``next_hidden`` (1, width, 1, patches), all float16.
    """

    name: str
    """The name, as in ``key-major-together-512``."""
    path: Path
    """The ``.mlpackage``; the reader may delete it before it takes the next one."""
    query_tile: int
    """Largest number of queries whose scores exist at a time."""
    split_heads: bool
    """Whether each head has products of its own."""
    attention: str
    """``key-major`` or ``query-major``."""
    patches: int
    flops: int
    """Floating-point operations of one prediction, of products alone."""
    width: int
    """Channels of the residual stream."""
    head_dim: int


def lab_packages(model: Path, patches: int, folder: Path) -> Iterator[LabPackage]:
    """Write one package after the other, on demand.

    Args:
        model: directory of the model.
        patches: of the page.
        folder: an existing one that the packages are written into.

    Raises:
        UsageError: there is no page of so many patches.
        MissingError: a file of the model is missing or damaged.
    """
    check_buckets([patches])
    config = VisionConfig.from_json(read_json(model, "config.json").get("vision_config", {}))
    residual_exponent, layer = stream_exponent(config), config.num_hidden_layers // 2
    exponents = tensor_exponents(config, residual_exponent)
    weights = StoredWeights(TowerTensors(model), "float16", "same", exponents)
    # The last layer of a tower has the merger behind it: one more layer keeps it away.
    part = TowerPart(layer, layer + 1, config.num_hidden_layers + 1)
    for form, split_heads, query_tile in itertools.product(FORMS, (False, True), QUERY_TILES):
        options = AttentionOptions(query_tile, split_heads, form)
        builder = TowerBuilder(config, weights, options, residual_exponent)
        name = f"{form}-{'split' if split_heads else 'together'}-{query_tile}"
        path = folder / f"{name}.mlpackage"
        write_package({function_name(patches): builder.function(part, patches, TARGET)}, path)
        flops = layer_flops(config, patches)
        yield LabPackage(name, path, query_tile, split_heads, form, patches, flops, config.embed_dim, config.head_dim)


def layer_flops(config: VisionConfig, patches: int) -> int:
    """Floating-point operations of the products of one layer: projections, gated layers, scores and values."""
    width = config.embed_dim
    return 2 * patches * (4 * width * width + 3 * width * config.intermediate_size) + 4 * patches * patches * width
