"""Names and shapes of all tensors of a dots.ocr checkpoint, as its two halves have them; pure arithmetic.

Source: the safetensors index of the Hugging Face snapshot rednote-hilab/dots.ocr c0111ce6, which dots.mocr shares.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

Shape = tuple[int, ...]

PATCH_PIXELS = (3, 14, 14)
"""Channels, rows and columns of a patch."""
PATCH_WEIGHT = "vision_tower.patch_embed.patchifier.proj.weight"
"""The one tensor whose axes differ between layouts; see ``stored_layouts``."""
LM_HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"


@dataclass(frozen=True)
class TextSizes:
    """Sizes of the decoder half, under the names of config.json."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    tie_word_embeddings: bool = False

    @property
    def key_width(self) -> int:
        """Columns of keys and of values, all heads together; 256 in dots.ocr."""
        return self.num_key_value_heads * (self.hidden_size // self.num_attention_heads)

    @property
    def product_weights(self) -> int:
        """Weights that every token is multiplied by: those of all layers and of the result; 1.54e9 in dots.ocr."""
        width, inner = self.hidden_size, self.intermediate_size
        layer = 2 * width**2 + 2 * width * self.key_width + 3 * width * inner
        return self.num_hidden_layers * layer + width * self.vocab_size

    def operations(self, positions: int) -> float:
        """Floating-point operations of a prefill in matrix products; the result is computed for the last position.

        Attention multiplies each position with those before it, for scores and for values. A multiplication and an
        addition count as two operations.
        """
        width = self.hidden_size
        layers = self.product_weights - width * self.vocab_size + self.num_hidden_layers * width * positions
        return 2.0 * (positions * layers + width * self.vocab_size)

    def tensors(self) -> dict[str, Shape]:
        """Shape by name; queries, keys and values have biases, no other product has one."""
        width, inner = self.hidden_size, self.intermediate_size
        found: dict[str, Shape] = {EMBEDDING: (self.vocab_size, width)}
        for index in range(self.num_hidden_layers):
            layer = f"model.layers.{index}"
            found[f"{layer}.input_layernorm.weight"] = (width,)
            found |= _linear(f"{layer}.self_attn.q_proj", width, width, bias=True)
            found |= _linear(f"{layer}.self_attn.k_proj", self.key_width, width, bias=True)
            found |= _linear(f"{layer}.self_attn.v_proj", self.key_width, width, bias=True)
            found |= _linear(f"{layer}.self_attn.o_proj", width, width)
            found[f"{layer}.post_attention_layernorm.weight"] = (width,)
            found |= _linear(f"{layer}.mlp.gate_proj", inner, width)
            found |= _linear(f"{layer}.mlp.up_proj", inner, width)
            found |= _linear(f"{layer}.mlp.down_proj", width, inner)
        found["model.norm.weight"] = (width,)
        if not self.tie_word_embeddings:
            found[LM_HEAD] = (self.vocab_size, width)
        return found


@dataclass(frozen=True)
class VisionSizes:
    """Sizes of the encoder half, under the names of ``vision_config`` in config.json."""

    embed_dim: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    use_bias: bool = False
    post_norm: bool = True

    def operations(self, patches: int) -> float:
        """Floating-point operations of a page in matrix products; 1.5e14 for 19,824 patches in dots.ocr.

        A layer multiplies each patch by the weights of queries, keys, values and result (4 dim^2) and of the gated
        network (3 dim inner); attention multiplies each patch with each other one, for scores and for values. The
        merger makes one embedding of 2x2 patches. A multiplication and an addition count as two operations.
        """
        dim, inner = self.embed_dim, self.intermediate_size
        layer = 4 * dim**2 + 3 * dim * inner + 2 * dim * patches
        merger = (4 * dim) ** 2 / 4 + dim * self.hidden_size
        return 2.0 * patches * (self.num_hidden_layers * layer + prod(PATCH_PIXELS) * dim + merger)

    def tensors(self) -> dict[str, Shape]:
        """Return the expected shape of each tensor, by name.

        The patch embedding and both products of the merger have biases whatever ``use_bias`` is, and the merger's
        norm is a LayerNorm, so it has one too.
        """
        dim, inner = self.embed_dim, self.intermediate_size
        found: dict[str, Shape] = {PATCH_WEIGHT: (dim, *PATCH_PIXELS)}
        found[PATCH_WEIGHT.replace("weight", "bias")] = (dim,)
        found["vision_tower.patch_embed.patchifier.norm.weight"] = (dim,)
        for index in range(self.num_hidden_layers):
            block = f"vision_tower.blocks.{index}"
            found[f"{block}.norm1.weight"] = (dim,)
            found |= _linear(f"{block}.attn.qkv", 3 * dim, dim, bias=self.use_bias)
            found |= _linear(f"{block}.attn.proj", dim, dim, bias=self.use_bias)
            found[f"{block}.norm2.weight"] = (dim,)
            found |= _linear(f"{block}.mlp.fc1", inner, dim, bias=self.use_bias)
            found |= _linear(f"{block}.mlp.fc3", inner, dim, bias=self.use_bias)
            found |= _linear(f"{block}.mlp.fc2", dim, inner, bias=self.use_bias)
        if self.post_norm:
            found["vision_tower.post_trunk_norm.weight"] = (dim,)
        found["vision_tower.merger.ln_q.weight"] = (dim,)
        found["vision_tower.merger.ln_q.bias"] = (dim,)
        found |= _linear("vision_tower.merger.mlp.0", 4 * dim, 4 * dim, bias=True)
        found |= _linear("vision_tower.merger.mlp.2", self.hidden_size, 4 * dim, bias=True)
        return found


def parameters(tensors: dict[str, Shape]) -> int:
    """Numbers in all tensors; 1,262,091,264 in the encoder and 1,777,088,000 in the decoder of dots.ocr."""
    return sum(prod(shape) for shape in tensors.values())


def _linear(name: str, rows: int, columns: int, *, bias: bool = False) -> Iterator[tuple[str, Shape]]:
    """Weight, and bias where there is one."""
    yield f"{name}.weight", (rows, columns)
    if bias:
        yield f"{name}.bias", (rows,)
