"""The vision tower of dots.ocr in MLX: patches of one page in, embeddings for the decoder out.

Source of the mathematics: ``modeling_dots_vision.py`` of rednote-hilab/dots.ocr, Hugging Face snapshot c0111ce6, and
its port in vLLM. The encoder plugin is the only caller; one page at a time, so attention needs no mask.
"""

from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from dotsctl.protocol.checkpoint_layout import is_harmless
from dotsctl.protocol.errors import MissingError, UsageError

PREFIXES = ("vision_tower.", "model.vision_tower.")
"""In front of the tower's tensor names; the second one is what newer conversions write."""
ROTARY_BASE = 10_000.0
FUSED_HEAD_DIMS = (64, 80, 128)
"""Head widths for which MLX on a GPU never writes the score matrix down."""
FIXED = {"num_channels": 3, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 1}
"""What no dots.ocr model has otherwise, and what the cutting of pages into patches relies on."""


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of the tower: ``vision_config`` of config.json.

    dots.ocr: embed_dim 1536, hidden_size 1536, intermediate_size 4224, num_hidden_layers 42, num_attention_heads 12,
    rms_norm_eps 1e-5, use_bias false, post_norm true; always 3 channels, patches of 14 pixels, merged 2x2.
    """

    embed_dim: int
    """Width of the tower."""
    hidden_size: int
    """Width of its result, which is the decoder's."""
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    rms_norm_eps: float
    use_bias: bool
    post_norm: bool

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "VisionConfig":
        """Read the section; raises UsageError for a key that is missing or a value that this tower cannot have."""
        for key, value in FIXED.items():
            if content.get(key, value) != value:
                raise UsageError(f"vision_config: {key} is {content[key]}, a dots.ocr model has {value}")
        try:
            config = cls(**{key: content[key] for key in cls.__dataclass_fields__})
        except KeyError as error:
            raise UsageError(f"vision_config lacks {error}: this is no dots.ocr model") from None
        if config.embed_dim % (4 * config.num_attention_heads):
            raise UsageError(
                f"vision_config: embed_dim {config.embed_dim} cannot be split into {config.num_attention_heads} heads "
                "of a width that is a multiple of 4"
            )
        return config

    @property
    def head_dim(self) -> int:
        """Width of one attention head; 128 in dots.ocr."""
        return self.embed_dim // self.num_attention_heads


def rotary_tables(grid: tuple[int, int], head_dim: int) -> tuple[mx.array, mx.array]:
    """Cosines and sines of the patch positions, each (num_patches, head_dim / 2) float32.

    A quarter of the head turns with the row of the patch, a quarter with its column; the second half of the head is
    the partner of the first, which makes the layout row, column, row, column. Patches come in the order of
    ``image.patchify``: the four of a 2x2 block follow each other.
    """
    height, width = grid
    quarter = head_dim // 4
    inverse = ROTARY_BASE ** -(mx.arange(quarter, dtype=mx.float32) / quarter)
    row = mx.broadcast_to(mx.arange(height)[:, None], grid)
    column = mx.broadcast_to(mx.arange(width)[None], grid)

    def in_blocks(axis: mx.array) -> mx.array:
        blocks = axis.reshape(height // 2, 2, width // 2, 2).transpose(0, 2, 1, 3)
        return blocks.reshape(-1, 1).astype(mx.float32)  # (num_patches, 1)

    angles = mx.concatenate([in_blocks(row) * inverse, in_blocks(column) * inverse], axis=-1)
    return mx.cos(angles), mx.sin(angles)


def rotate(x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
    """Turn x (heads, num_patches, head_dim) by tables (num_patches, head_dim / 2); float32 inside, as the original."""
    first, second = mx.split(x.astype(mx.float32), 2, axis=-1)
    turned = mx.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


class VisionAttention(nn.Module):
    """Attention of all patches of a page to all."""

    def __init__(self, config: VisionConfig, query_chunk: int) -> None:
        super().__init__()
        self.heads, self.query_chunk = config.num_attention_heads, query_chunk
        self.scale = config.head_dim**-0.5
        self.qkv = nn.Linear(config.embed_dim, 3 * config.embed_dim, bias=config.use_bias)
        self.proj = nn.Linear(config.embed_dim, config.embed_dim, bias=config.use_bias)

    def __call__(self, x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
        """Take and give (num_patches, embed_dim)."""
        num_patches, width = x.shape
        qkv = self.qkv(x).reshape(num_patches, 3, self.heads, -1).transpose(1, 2, 0, 3)
        q, k, v = rotate(qkv[0], cos, sin), rotate(qkv[1], cos, sin), qkv[2]  # (heads, num_patches, head_dim)
        y = self._attend(q[None], k[None], v[None])[0]
        return self.proj(y.transpose(1, 0, 2).reshape(num_patches, width))

    def _attend(self, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        """Plain attention, in chunks of queries when asked to."""
        num_patches = q.shape[2]
        if not 0 < self.query_chunk < num_patches:
            return mx.fast.scaled_dot_product_attention(q, k, v, scale=self.scale)
        parts = []
        for start in range(0, num_patches, self.query_chunk):
            queries = q[:, :, start : start + self.query_chunk]
            parts.append(mx.fast.scaled_dot_product_attention(queries, k, v, scale=self.scale))
            # Without this the score matrices of all chunks exist at once: 18 GB for a page of 19,600 patches.
            mx.eval(parts[-1])
        return mx.concatenate(parts, axis=2)


class VisionMLP(nn.Module):
    """SwiGLU; fc1 is the gate, fc3 the other factor, fc2 leads back."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.embed_dim, config.intermediate_size, bias=config.use_bias)
        self.fc2 = nn.Linear(config.intermediate_size, config.embed_dim, bias=config.use_bias)
        self.fc3 = nn.Linear(config.embed_dim, config.intermediate_size, bias=config.use_bias)

    def __call__(self, x: mx.array) -> mx.array:
        """Take and give (num_patches, embed_dim)."""
        return self.fc2(nn.silu(self.fc1(x)) * self.fc3(x))


class VisionBlock(nn.Module):
    """One of the 42 layers.

    ``nn.RMSNorm`` casts to the type of its input before it multiplies by the weight, as the original does.
    """

    def __init__(self, config: VisionConfig, query_chunk: int) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(config.embed_dim, config.rms_norm_eps)
        self.attn = VisionAttention(config, query_chunk)
        self.norm2 = nn.RMSNorm(config.embed_dim, config.rms_norm_eps)
        self.mlp = VisionMLP(config)

    def __call__(self, x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
        """Take and give (num_patches, embed_dim)."""
        x = x + self.attn(self.norm1(x), cos, sin)
        return x + self.mlp(self.norm2(x))


class Patchifier(nn.Module):
    """The convolution over whole patches, as a product with the flattened patch, and a norm."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.proj = nn.Linear(3 * 14 * 14, config.embed_dim)
        self.norm = nn.RMSNorm(config.embed_dim, config.rms_norm_eps)

    def __call__(self, patches: mx.array) -> mx.array:
        """Take (num_patches, 588), give (num_patches, embed_dim)."""
        return self.norm(self.proj(patches))


class PatchEmbed(nn.Module):
    """Holds the patchifier under the checkpoint's name."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.patchifier = Patchifier(config)


class PatchMerger(nn.Module):
    """Four patches of a 2x2 block become one embedding. Its norm is a LayerNorm with bias, unlike all others."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        merged = 4 * config.embed_dim
        self.ln_q = nn.LayerNorm(config.embed_dim, eps=1e-6)
        self.mlp = [nn.Linear(merged, merged), nn.GELU(), nn.Linear(merged, config.hidden_size)]

    def __call__(self, x: mx.array) -> mx.array:
        """Take (num_patches, embed_dim), give (num_patches / 4, hidden_size)."""
        x = self.ln_q(x).reshape(x.shape[0] // 4, -1)  # (num_patches / 4, 4 embed_dim)
        for layer in self.mlp:
            x = layer(x)
        return x


class VisionTower(nn.Module):
    """The whole encoder half of dots.ocr."""

    def __init__(self, config: VisionConfig, query_chunk: int = 0) -> None:
        """Make a tower without weights.

        Args:
            config: its sizes.
            query_chunk: attend with so many patches at a time; 0: with all at once.
        """
        super().__init__()
        self.head_dim = config.head_dim
        self.patch_embed = PatchEmbed(config)
        self.blocks = [VisionBlock(config, query_chunk) for _ in range(config.num_hidden_layers)]
        if config.post_norm:
            self.post_trunk_norm = nn.RMSNorm(config.embed_dim, config.rms_norm_eps)
        self.merger = PatchMerger(config)

    def __call__(self, patches: mx.array, grid: tuple[int, int]) -> mx.array:
        """Embeddings (num_patches / 4, hidden_size) of patches (num_patches, 588) on a grid (height, width)."""
        cos, sin = rotary_tables(grid, self.head_dim)
        x = self.patch_embed.patchifier(patches)
        for block in self.blocks:
            x = block(x, cos, sin)
        if "post_trunk_norm" in self:
            x = self.post_trunk_norm(x)
        return self.merger(x)


def sanitize(tensors: dict[str, mx.array]) -> dict[str, mx.array]:
    """The tower's tensors alone, named as its modules, with the patch embedding as a matrix (embed_dim, 588).

    The convolution's weight is (embed_dim, 3, 14, 14) in the original and (embed_dim, 14, 14, 3) in MLX conversions.
    """
    kept = {}
    for name, tensor in tensors.items():
        for prefix in PREFIXES:
            if name.startswith(prefix) and not is_harmless(name):
                kept[name.removeprefix(prefix)] = tensor
    name = "patch_embed.patchifier.proj.weight"
    if name in kept and kept[name].ndim == 4:
        weight = kept[name]
        if weight.shape[1:] == (14, 14, 3):
            weight = weight.transpose(0, 3, 1, 2)
        kept[name] = weight.reshape(weight.shape[0], -1)
    return kept


def load_tower(config: VisionConfig, files: list[str], dtype: mx.Dtype, query_chunk: int) -> VisionTower:
    """Tower with the weights of a checkpoint, evaluated.

    Args:
        config: its sizes.
        files: the .safetensors files that hold the tower; nothing else in them is read.
        dtype: what to compute in.
        query_chunk: see :class:`VisionTower`.

    Raises:
        MissingError: a tensor is absent or has another shape than the configuration says.
    """
    tower = VisionTower(config, query_chunk)
    tensors: dict[str, mx.array] = {}
    for file in files:
        stored = sanitize(cast(dict[str, mx.array], mx.load(file)))
        tensors |= {name: tensor.astype(dtype) for name, tensor in stored.items()}
        del stored  # so that each tensor is freed as soon as it is converted
    try:
        tower.load_weights(list(tensors.items()))
    except ValueError as error:
        raise MissingError(f"the weights do not fit vision_config ({error}): download the model again") from None
    for weight in tensors.values():
        mx.eval(weight)  # one by one: all at once, the stored tensors are in memory beside their float32 copies
    return tower
