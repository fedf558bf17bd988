"""The vision tower as Core ML programs, written operation by operation with coremltools' MIL builder.

Made for the Neural Engine: layout (1, channels, 1, patches), products as 1x1 convolutions, attention for a tile of
queries at a time (``attention.py``), norms that square no large value in float16 and have no scales of their own, and
the residual stream never cut. Operations that may be used: ``lint.OPERATIONS``.

The scales of a norm are folded into the matrices behind it, W (g * x) = (W diag(g)) x, and the merger's shifts into its
bias. Scaled norms of 1,024 channels or more fail to compile on M1 and M2 (ANEForge issue 162).

Source of the mathematics: ``modeling_dots_vision.py`` of rednote-hilab/dots.ocr, Hugging Face snapshot c0111ce6. Source
of the layout: https://github.com/apple/ml-ane-transformers; of the norm: https://github.com/Anemll/Anemll.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import Function, types
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.tools.coreml.attention import AttentionOptions, attend
from dotsctl.tools.coreml.scaling import LAST_NORM, MERGER_EPSILON, PATCH_NORM, PATCH_PROJECTION
from dotsctl.tools.coreml.stored_weights import Affine, StoredWeights

PATCH_VALUES = 588
Var = Any
"""A value of the program that is being built."""


@dataclass(frozen=True)
class TowerPart:
    """The piece of the tower that one package holds."""

    first_layer: int
    end_layer: int
    """The first layer that is not in it."""
    num_layers: int
    """The number of layers of the complete tower."""

    @property
    def has_patches(self) -> bool:
        """Return whether it begins with the patch embedding."""
        return self.first_layer == 0

    @property
    def has_merger(self) -> bool:
        """Return whether it ends with the merger."""
        return self.end_layer == self.num_layers

    @property
    def input_name(self) -> str:
        """The name of the input besides the rotary tables."""
        return "patches" if self.has_patches else "hidden"

    @property
    def output_name(self) -> str:
        """The name of the output; ``next_hidden`` is the residual stream as it is scaled."""
        return "embeddings" if self.has_merger else "next_hidden"


class TowerBuilder:
    """Builds the functions of one package; they share the stored weights."""

    def __init__(
        self,
        config: VisionConfig,
        weights: StoredWeights,
        attention: AttentionOptions,
        residual_exponent: int = 0,
    ) -> None:
        """Prepare.

        Args:
            config: sizes of the tower.
            weights: its weights, scaled already (``scaling.py``).
            attention: the form in which attention is written.
            residual_exponent: the weights make a residual stream that is ``2**residual_exponent`` times that of the
                model, so the epsilon of a norm on it is ``4**residual_exponent`` times that of the model.
        """
        self._config, self._weights, self._attention_options = config, weights, attention
        self._dtype, self._residual_exponent = weights.dtype, residual_exponent
        self._numbers: dict[str, Var] = {}

    def function(self, part: TowerPart, bucket: int, opset: Any) -> Function:
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
            x = self._merger(x) if part.has_merger else x
            function.set_outputs([x])
        return function

    def _patch_embedding(self, x: Var) -> Var:
        x = self._conv(x, PATCH_PROJECTION, self._config.embed_dim, PATCH_VALUES, bias=True)
        return self._scaled_norm(x, PATCH_NORM, self._weights.exponent(f"{PATCH_PROJECTION}.weight"))

    def _block(self, x: Var, cos: Var, sin: Var, name: str, output: str | None) -> Var:
        """x, (1, embed_dim, 1, patches), plus attention, plus the gated layers; named ``output`` if that is given."""
        width, inner, bias = self._config.embed_dim, self._config.intermediate_size, self._config.use_bias
        attended = self._attention(x, cos, sin, name)
        x = mb.add(x=x, y=self._conv(attended, f"{name}.attn.proj", width, width, bias), name=_label(name, "attended"))
        n, norm = self._norm_of_matrices(x, f"{name}.norm2")
        gate = mb.silu(x=self._conv(n, f"{name}.mlp.fc1", inner, width, bias, norm=norm), name=_label(name, "gate"))
        up = self._conv(n, f"{name}.mlp.fc3", inner, width, bias, norm=norm)
        product = mb.mul(x=gate, y=up, name=_label(name, "product"))  # (1, intermediate_size, 1, patches)
        down = self._conv(product, f"{name}.mlp.fc2", width, inner, bias)
        return mb.add(x=x, y=down, name=output or _label(name, "output"))

    def _attention(self, x: Var, cos: Var, sin: Var, block: str) -> Var:
        """Attention of all patches of the residual stream to all, (1, embed_dim, 1, patches) in and out."""
        width, heads, dim = self._config.embed_dim, self._config.num_attention_heads, self._config.head_dim
        patches, name = x.shape[3], f"{block}.attn"
        n, norm = self._norm_of_matrices(x, f"{block}.norm1")
        q, k, v = (
            mb.reshape(
                x=self._conv(n, f"{name}.qkv", 3 * width, width, self._config.use_bias, third=third, norm=norm),
                shape=(1, heads, dim, patches),
                name=_label(name, f"{letter}_heads"),
            )
            for third, letter in enumerate("qkv")
        )
        scale = self._number("attention_scale", dim**-0.5)
        # Before the product with the keys, so that scores stay small.
        q = mb.mul(x=self._turn(q, cos, sin, _label(name, "q")), y=scale, name=_label(name, "q_scaled"))
        k = self._turn(k, cos, sin, _label(name, "k"))
        joined = attend(q, k, v, self._attention_options, _label(name))  # (1, heads, head_dim, patches)
        return mb.reshape(x=joined, shape=(1, width, 1, patches), name=_label(name, "merged"))

    def _turn(self, x: Var, cos: Var, sin: Var, label: str) -> Var:
        """Rotary embedding of (1, heads, head_dim, patches): x * cos + [b, a] * sin of the halves a and b."""
        first, second = mb.split(x=x, num_splits=2, axis=2, name=f"{label}_halves")
        swapped = mb.concat(values=[second, first], axis=2, name=f"{label}_swapped")
        direct, crossed = (
            mb.mul(x=value, y=table, name=f"{label}_{kind}")
            for value, table, kind in ((x, cos, "direct"), (swapped, sin, "crossed"))
        )
        return mb.add(x=direct, y=crossed, name=f"{label}_turned")

    def _rms_norm(self, x: Var, name: str, exponent: int) -> Var:
        """RMSNorm over the channels of (1, embed_dim, 1, patches) without its scales, squaring nothing in float16.

        The mean of [x, -x] is exactly zero, so that its LayerNorm divides by the root of the mean square of x. Source:
        https://github.com/Anemll/Anemll.

        Args:
            x: ``2**exponent`` times what the model has there.
            name: of the norm.
            exponent: see ``x``.
        """
        label, width = _label(name), self._config.embed_dim
        minus_one = self._number("minus_one", -1)
        both = mb.concat(values=[x, mb.mul(x=x, y=minus_one, name=f"{label}_minus")], axis=1, name=f"{label}_both")
        epsilon = self._dtype(self._config.rms_norm_eps * 4.0**exponent)
        normed = mb.layer_norm(
            x=both, axes=[1], epsilon=epsilon, name=f"{label}_normed"
        )  # (1, 2 embed_dim, 1, patches)
        return mb.slice_by_size(x=normed, begin=[0] * 4, size=[1, width, 1, x.shape[3]], name=label)

    def _norm_of_matrices(self, x: Var, name: str) -> tuple[Var, Affine | None]:
        """RMSNorm of the residual stream, and what of it the matrices behind it have to take in; none: nothing."""
        if self._weights.folds_scales:
            return self._rms_norm(x, name, self._residual_exponent), Affine(name, self._config.embed_dim)
        return self._scaled_norm(x, name, self._residual_exponent), None

    def _scaled_norm(self, x: Var, name: str, exponent: int) -> Var:
        """RMSNorm with its scales as an operation of their own."""
        scales = self._weights.channel_scales(f"{name}.weight", self._config.embed_dim)
        return mb.mul(x=self._rms_norm(x, name, exponent), y=scales, name=f"{_label(name)}_scaled")

    def _merger(self, x: Var) -> Var:
        """(1, hidden_size, 1, patches / 4) of the residual stream (1, embed_dim, 1, patches)."""
        width, merged, exponent = self._config.embed_dim, 4 * self._config.embed_dim, self._residual_exponent
        if self._config.post_norm:
            x = self._scaled_norm(x, LAST_NORM, exponent)
            exponent = self._weights.exponent(f"{LAST_NORM}.weight")
        epsilon = self._dtype(MERGER_EPSILON * 4.0**exponent)
        x = mb.layer_norm(x=x, axes=[1], epsilon=epsilon, name="merger_normed")
        quarters = mb.split(x=x, num_splits=4, axis=3, name="merger_quarters")
        x = mb.concat(values=quarters, axis=1, name="merger_blocks")  # (1, 4 embed_dim, 1, patches / 4)
        norm = Affine("merger.ln_q", width)
        weight = self._weights.matrix("merger.mlp.0.weight", merged, merged, norm=norm)
        bias = self._weights.folded_bias("merger.mlp.0", merged, norm)
        x = mb.conv(x=x, weight=weight, bias=bias, name="merger_mlp_0")
        x = mb.gelu(x=x, mode="EXACT", name="merger_gelu")
        return self._conv(x, "merger.mlp.2", self._config.hidden_size, merged, bias=True, output="embeddings")

    def _number(self, name: str, value: float) -> Var:
        """A constant that is no tensor of the checkpoint; one value for each function, as MIL names are unique."""
        if name not in self._numbers:
            self._numbers[name] = mb.const(val=self._dtype(value), name=name)
        return self._numbers[name]

    def _conv(
        self,
        x: Var,
        name: str,
        rows: int,
        columns: int,
        bias: bool,
        *,
        third: int | None = None,
        norm: Affine | None = None,
        output: str = "",
    ) -> Var:
        """Product with a matrix (rows, columns) of the checkpoint, or with one third of its rows.

        ``norm`` is the norm whose result ``x`` is; it has no shifts.
        """
        label = output or _label(name) + ("" if third is None else f"_{'qkv'[third]}")
        weight = self._weights.matrix(f"{name}.weight", rows, columns, third=third, norm=norm)
        if not bias:
            return mb.conv(x=x, weight=weight, name=label)
        return mb.conv(x=x, weight=weight, bias=self._weights.vector(f"{name}.bias", rows, third=third), name=label)


def _label(*parts: str) -> str:
    """Name of a value, from the names of the checkpoint."""
    return "_".join(parts).replace(".", "_")
