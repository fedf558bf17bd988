"""The vision tower as Core ML programs, written operation by operation with coremltools' MIL builder.

Made for the Neural Engine: layout (1, channels, 1, patches), products as 1x1 convolutions, attention as two matrix
products with a softmax between them for a tile of queries at a time (the fused operation fails there in numbers), norms
that square no large value in float16, and the residual stream never cut. Documented operations: ``OPERATIONS``.

Source of the mathematics: ``modeling_dots_vision.py`` of rednote-hilab/dots.ocr, Hugging Face snapshot c0111ce6. Source
of the layout: https://github.com/apple/ml-ane-transformers; of the norm: https://github.com/Anemll/Anemll.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import Function, types
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.tools.coreml.stored_weights import StoredWeights

OPERATIONS = {
    "products": {"conv", "matmul"},
    "elements": {"add", "mul", "silu", "gelu"},
    "norms": {"layer_norm", "softmax"},
    "layout": {"concat", "split", "slice_by_size", "reshape"},
    "constants": {"const", "constexpr_blockwise_shift_scale", "constexpr_lut_to_dense"},
}
"""Everything that a package may hold."""
PATCH_VALUES = 588
MERGER_EPSILON = 1e-6
Var = Any
"""A value of the program that is being built."""


@dataclass(frozen=True)
class Part:
    """The piece of the tower that one package holds."""

    first_layer: int
    end_layer: int
    """The first layer that is not in it."""
    num_layers: int
    """Of the whole tower."""

    @property
    def has_patches(self) -> bool:
        """Whether it begins with the patch embedding."""
        return self.first_layer == 0

    @property
    def has_merger(self) -> bool:
        """Whether it ends with the merger."""
        return self.end_layer == self.num_layers

    @property
    def input_name(self) -> str:
        """What the function takes besides the rotary tables."""
        return "patches" if self.has_patches else "hidden"

    @property
    def output_name(self) -> str:
        """What the function gives."""
        return "embeddings" if self.has_merger else "next_hidden"


class TowerBuilder:
    """Builds the functions of one package; they share the stored weights."""

    def __init__(self, config: VisionConfig, weights: StoredWeights, query_tile: int) -> None:
        """Prepare; ``query_tile`` is the number of queries whose scores exist at a time."""
        self._config, self._weights, self._query_tile = config, weights, query_tile
        self._dtype = weights.dtype
        self._epsilon = self._dtype(config.rms_norm_eps)
        self._numbers: dict[str, Var] = {}

    def function(self, part: Part, bucket: int, opset: Any) -> Function:
        """One function for pages of ``bucket`` patches.

        Takes ``patches`` (1, 588, 1, bucket) or ``hidden`` (1, embed_dim, 1, bucket), and the tables ``cos`` and
        ``sin`` (1, 1, head_dim, bucket); gives ``next_hidden``, shaped as ``hidden``, or ``embeddings`` (1,
        hidden_size, 1, bucket / 4). Patches are in quarter order (``encoder_worker.coreml.tower_inputs``).
        """
        config = self._config
        channels = PATCH_VALUES if part.has_patches else config.embed_dim
        table = (1, 1, config.head_dim, bucket)
        shapes = {part.input_name: (1, channels, 1, bucket), "cos": table, "sin": table}
        kind = types.fp16 if self._dtype is np.float16 else types.fp32
        inputs = {name: mb.placeholder(shape, dtype=kind) for name, shape in shapes.items()}
        self._numbers = {}
        with Function(inputs, opset_version=opset) as function:
            x, cos, sin = (function.inputs[name] for name in shapes)
            x = self._patch_embedding(x) if part.has_patches else x
            for layer in range(part.first_layer, part.end_layer):
                output = part.output_name if layer == part.end_layer - 1 and not part.has_merger else None
                x = self._block(x, cos, sin, f"blocks.{layer}", output)
            x = self._merger(x, bucket) if part.has_merger else x
            function.set_outputs([x])
        return function

    def _patch_embedding(self, x: Var) -> Var:
        name = "patch_embed.patchifier"
        x = self._conv(x, f"{name}.proj", self._config.embed_dim, PATCH_VALUES, bias=True)
        return self._rms_norm(x, f"{name}.norm")

    def _block(self, x: Var, cos: Var, sin: Var, name: str, output: str | None) -> Var:
        """x, (1, embed_dim, 1, patches), plus attention, plus the gated layers; named ``output`` if that is given."""
        width, inner, bias = self._config.embed_dim, self._config.intermediate_size, self._config.use_bias
        attended = self._attention(self._rms_norm(x, f"{name}.norm1"), cos, sin, f"{name}.attn")
        x = mb.add(x=x, y=self._conv(attended, f"{name}.attn.proj", width, width, bias), name=_label(name, "attended"))
        n = self._rms_norm(x, f"{name}.norm2")
        gate = mb.silu(x=self._conv(n, f"{name}.mlp.fc1", inner, width, bias), name=_label(name, "gate"))
        up = self._conv(n, f"{name}.mlp.fc3", inner, width, bias)
        product = mb.mul(x=gate, y=up, name=_label(name, "product"))  # (1, intermediate_size, 1, patches)
        down = self._conv(product, f"{name}.mlp.fc2", width, inner, bias)
        return mb.add(x=x, y=down, name=output or _label(name, "output"))

    def _attention(self, n: Var, cos: Var, sin: Var, name: str) -> Var:
        """Attention of all patches to all, (1, embed_dim, 1, patches) in and out."""
        width, heads, dim = self._config.embed_dim, self._config.num_attention_heads, self._config.head_dim
        patches = n.shape[3]
        q, k, v = (
            mb.reshape(
                x=self._conv(n, f"{name}.qkv", 3 * width, width, self._config.use_bias, third=third),
                shape=(1, heads, dim, patches),
                name=_label(name, f"{letter}_heads"),
            )
            for third, letter in enumerate("qkv")
        )
        scale = self._number("attention_scale", dim**-0.5)
        # Before the product with the keys, so that scores stay small.
        q = mb.mul(x=self._turn(q, cos, sin, _label(name, "q")), y=scale, name=_label(name, "q_scaled"))
        k = self._turn(k, cos, sin, _label(name, "k"))
        tiles = []
        for number, queries in enumerate(self._tiles(q, name)):
            label = _label(name, f"tile{number}")
            scores = mb.matmul(x=queries, y=k, transpose_x=True, name=f"{label}_scores")  # (1, heads, tile, patches)
            shares = mb.softmax(x=scores, axis=-1, name=f"{label}_shares")
            tiles.append(mb.matmul(x=v, y=shares, transpose_y=True, name=f"{label}_values"))  # (1, heads, dim, tile)
        joined = mb.concat(values=tiles, axis=3, name=_label(name, "joined")) if len(tiles) > 1 else tiles[0]
        return mb.reshape(x=joined, shape=(1, width, 1, patches), name=_label(name, "merged"))

    def _tiles(self, q: Var, name: str) -> list[Var]:
        """The queries in tiles of nearly equal size, each (1, heads, head_dim, tile)."""
        patches = q.shape[3]
        number = -(-patches // self._query_tile)
        if number == 1:
            return [q]
        sizes = [patches * (i + 1) // number - patches * i // number for i in range(number)]
        return list(mb.split(x=q, split_sizes=sizes, axis=3, name=_label(name, "queries")))

    def _turn(self, x: Var, cos: Var, sin: Var, label: str) -> Var:
        """Rotary embedding of (1, heads, head_dim, patches): x * cos + [b, a] * sin of the halves a and b."""
        first, second = mb.split(x=x, num_splits=2, axis=2, name=f"{label}_halves")
        swapped = mb.concat(values=[second, first], axis=2, name=f"{label}_swapped")
        direct, crossed = (
            mb.mul(x=value, y=table, name=f"{label}_{kind}")
            for value, table, kind in ((x, cos, "direct"), (swapped, sin, "crossed"))
        )
        return mb.add(x=direct, y=crossed, name=f"{label}_turned")

    def _rms_norm(self, x: Var, name: str) -> Var:
        """RMSNorm over the channels of (1, embed_dim, 1, patches), without squaring them in float16.

        The mean of [x, -x] is exactly zero, so that its LayerNorm divides by the root of the mean square of x.
        """
        label, width = _label(name), self._config.embed_dim
        minus_one = self._number("minus_one", -1)
        both = mb.concat(values=[x, mb.mul(x=x, y=minus_one, name=f"{label}_minus")], axis=1, name=f"{label}_both")
        gamma = self._weights.vector(f"{name}.weight", width, repeat=2)
        normed = mb.layer_norm(x=both, axes=[1], gamma=gamma, epsilon=self._epsilon, name=f"{label}_normed")
        return mb.slice_by_size(x=normed, begin=[0] * 4, size=[1, width, 1, x.shape[3]], name=label)

    def _merger(self, x: Var, bucket: int) -> Var:
        """(1, hidden_size, 1, bucket / 4) of the residual stream (1, embed_dim, 1, bucket)."""
        width, merged = self._config.embed_dim, 4 * self._config.embed_dim
        if self._config.post_norm:
            x = self._rms_norm(x, "post_trunk_norm")
        gamma, beta = (self._weights.vector(f"merger.ln_q.{kind}", width) for kind in ("weight", "bias"))
        epsilon = self._dtype(MERGER_EPSILON)
        x = mb.layer_norm(x=x, axes=[1], gamma=gamma, beta=beta, epsilon=epsilon, name="merger_normed")
        quarters = mb.split(x=x, num_splits=4, axis=3, name="merger_quarters")
        x = mb.concat(values=quarters, axis=1, name="merger_blocks")  # (1, 4 embed_dim, 1, bucket / 4)
        x = self._conv(x, "merger.mlp.0", merged, merged, bias=True)
        x = mb.gelu(x=x, mode="EXACT", name="merger_gelu")
        return self._conv(x, "merger.mlp.2", self._config.hidden_size, merged, bias=True, output="embeddings")

    def _number(self, name: str, value: float) -> Var:
        """A constant that is no tensor of the checkpoint; one value for each function, as MIL names are unique."""
        if name not in self._numbers:
            self._numbers[name] = mb.const(val=self._dtype(value), name=name)
        return self._numbers[name]

    def _conv(
        self, x: Var, name: str, rows: int, columns: int, bias: bool, *, third: int | None = None, output: str = ""
    ) -> Var:
        """Product with a matrix (rows, columns) of the checkpoint, or with one third of its rows."""
        label = output or _label(name) + ("" if third is None else f"_{'qkv'[third]}")
        weight = self._weights.matrix(f"{name}.weight", rows, columns, third)
        if not bias:
            return mb.conv(x=x, weight=weight, name=label)
        return mb.conv(x=x, weight=weight, bias=self._weights.vector(f"{name}.bias", rows, third=third), name=label)


def _label(*parts: str) -> str:
    """Name of a value, from the names of the checkpoint."""
    return "_".join(parts).replace(".", "_")
