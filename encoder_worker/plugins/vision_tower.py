"""The vision tower of dots.ocr in MLX: patches of one or more images in, embeddings for the decoder out.

Source of the mathematics: ``modeling_dots_vision.py`` of rednote-hilab/dots.ocr, Hugging Face snapshot c0111ce6, and
its port in vLLM. Rows of all images go through the network together; attention alone is done for each by itself.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial, reduce
from itertools import accumulate, pairwise

import mlx.core as mx
import mlx.nn as nn
from dotsctl.encoder_worker.plugins import numpy_attention
from dotsctl.encoder_worker.plugins.gpu_pace import GpuPace
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.encoder_worker.plugins.vision_math import PLAIN, Elementwise, compiled, rotary_tables, rotate

FUSED_HEAD_DIMS = (64, 80, 128)
"""Head widths for which MLX on a GPU never writes the score matrix down."""


class Places:
    """The places of the rows of a call: the same for all blocks."""

    def __init__(
        self, grids: Sequence[tuple[int, int]], head_dim: int, query_chunk: int, pace: GpuPace | None = None
    ) -> None:
        """Compute the tables; the arguments are those of :class:`VisionTower`'s call."""
        self.cos, self.sin = rotary_tables(grids, head_dim)
        self.cu_seqlens = (0, *accumulate(height * width for height, width in grids))
        """First row of each image, and the number of rows behind them."""
        self.query_chunk, self.pace = query_chunk, pace

    def in_rows(self, x: mx.array, flop_a_row: float, compute: Callable[[mx.array], mx.array]) -> mx.array:
        """Compute something that each row of x (num_patches, width) goes through by itself, in short submissions."""
        if self.pace is None:
            return compute(x)
        parts = []
        for piece in self.pieces(len(x), flop_a_row, 0):
            parts.append(compute(x[piece]))
            self.evaluate(parts[-1], len(parts[-1]) * flop_a_row)
        return mx.concatenate(parts) if len(parts) > 1 else parts[0]

    def pieces(self, num_rows: int, flop_a_row: float, most_rows: int) -> Iterable[slice]:
        """Cut rows into pieces that are computed one after the other; ``most_rows`` of each, 0: any number."""
        if self.pace is not None:
            return self.pace.pieces(num_rows, flop_a_row, most_rows)
        step = most_rows or num_rows
        return (slice(start, start + step) for start in range(0, num_rows, step))

    def evaluate(self, part: mx.array, flop: float) -> None:
        """Compute a piece of so many operations to its end."""
        if self.pace is None:
            mx.eval(part)
        else:
            self.pace.timed(flop, partial(mx.eval, part))


class VisionAttention(nn.Module):
    """Attention of all patches of an image to all of the same image."""

    def __init__(self, config: VisionConfig, by: Elementwise) -> None:
        super().__init__()
        self.heads, self.by = config.num_attention_heads, by
        self.scale = config.head_dim**-0.5
        self.qkv = nn.Linear(config.embed_dim, 3 * config.embed_dim, bias=config.use_bias)
        self.proj = nn.Linear(config.embed_dim, config.embed_dim, bias=config.use_bias)

    def __call__(self, x: mx.array, places: Places) -> mx.array:
        """Take and give (num_patches, embed_dim)."""
        num_patches, width = x.shape
        qkv = places.in_rows(x, 6 * width**2, self.qkv).reshape(num_patches, 3, self.heads, -1).transpose(1, 2, 0, 3)
        q, k = (rotate(part, places.cos, places.sin, self.by) for part in (qkv[0], qkv[1]))
        v = qkv[2]  # q, k, v: (heads, num_patches, head_dim)
        parts = []
        for start, end in pairwise(places.cu_seqlens):
            parts += self._attend(q[None, :, start:end], k[None, :, start:end], v[None, :, start:end], places)
        y = mx.concatenate(parts, axis=2) if len(parts) > 1 else parts[0]  # (1, heads, num_patches, head_dim)
        return places.in_rows(y[0].transpose(1, 0, 2).reshape(num_patches, width), 2 * width**2, self.proj)

    def _attend(self, q: mx.array, k: mx.array, v: mx.array, places: Places) -> list[mx.array]:
        """Attention within one image, (1, heads, rows, head_dim) for each chunk of its queries."""
        num_patches, chunk = q.shape[2], places.query_chunk
        if numpy_attention.applies(q):
            return [numpy_attention.attend(q[0], k[0], v[0], self.scale, chunk)[None]]
        if places.pace is None and not 0 < chunk < num_patches:
            return [mx.fast.scaled_dot_product_attention(q, k, v, scale=self.scale)]
        flop_a_query = 4 * num_patches * q.shape[1] * q.shape[3]
        parts = []
        for piece in places.pieces(num_patches, flop_a_query, chunk):
            parts.append(mx.fast.scaled_dot_product_attention(q[:, :, piece], k, v, scale=self.scale))
            # Without this the score matrices of all chunks exist at once: 18 GB for a page of 19,600 patches.
            places.evaluate(parts[-1], parts[-1].shape[2] * flop_a_query)
        return parts


class VisionMLP(nn.Module):
    """SwiGLU; fc1 is the gate, fc3 the other factor, fc2 leads back."""

    def __init__(self, config: VisionConfig, by: Elementwise) -> None:
        super().__init__()
        self.by = by
        self.fc1 = nn.Linear(config.embed_dim, config.intermediate_size, bias=config.use_bias)
        self.fc2 = nn.Linear(config.intermediate_size, config.embed_dim, bias=config.use_bias)
        self.fc3 = nn.Linear(config.embed_dim, config.intermediate_size, bias=config.use_bias)

    def __call__(self, x: mx.array) -> mx.array:
        """Take and give (num_patches, embed_dim)."""
        return self.fc2(self.by.swiglu(self.fc1(x), self.fc3(x)))


class VisionBlock(nn.Module):
    """One of the 42 layers.

    ``nn.RMSNorm`` casts to the type of its input before it multiplies by the weight, as the original does.
    """

    def __init__(self, config: VisionConfig, by: Elementwise) -> None:
        super().__init__()
        self.flop_a_row = 6 * config.embed_dim * config.intermediate_size
        self.norm1 = nn.RMSNorm(config.embed_dim, config.rms_norm_eps)
        self.attn = VisionAttention(config, by)
        self.norm2 = nn.RMSNorm(config.embed_dim, config.rms_norm_eps)
        self.mlp = VisionMLP(config, by)

    def __call__(self, x: mx.array, places: Places) -> mx.array:
        """Take and give (num_patches, embed_dim)."""
        x = x + self.attn(self.norm1(x), places)
        return places.in_rows(x, self.flop_a_row, lambda rows: rows + self.mlp(self.norm2(rows)))


class Patchifier(nn.Module):
    """The convolution over complete patches, as a product with the flattened patch, and a norm."""

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

    def __call__(self, patches: mx.array) -> mx.array:
        """Take (num_patches, 588), give (num_patches, embed_dim)."""
        return self.patchifier(patches)


class PatchMerger(nn.Module):
    """Four patches of a 2x2 block become one embedding. Its norm is a LayerNorm with bias, unlike all others."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        merged = 4 * config.embed_dim
        self.flop_a_row = 2 * merged * (merged + config.hidden_size)
        self.ln_q = nn.LayerNorm(config.embed_dim, eps=1e-6)
        self.mlp = [nn.Linear(merged, merged), nn.GELU(), nn.Linear(merged, config.hidden_size)]

    def __call__(self, x: mx.array, places: Places) -> mx.array:
        """Take (num_patches, embed_dim), give (num_patches / 4, hidden_size)."""
        x = self.ln_q(x).reshape(x.shape[0] // 4, -1)  # (num_patches / 4, 4 embed_dim)
        return places.in_rows(x, self.flop_a_row, lambda rows: reduce(lambda y, layer: layer(y), self.mlp, rows))


class VisionTower(nn.Module):
    """The complete encoder half of dots.ocr."""

    def __init__(self, config: VisionConfig, compile_elementwise: bool = False) -> None:
        """Make a tower without weights.

        Args:
            config: its sizes.
            compile_elementwise: fuse what :class:`Elementwise` names; the same numbers up to rounding.
        """
        super().__init__()
        by = compiled() if compile_elementwise else PLAIN
        self.head_dim, self.post_norm = config.head_dim, config.post_norm
        self.patch_embed = PatchEmbed(config)
        self.blocks = [VisionBlock(config, by) for _ in range(config.num_hidden_layers)]
        if config.post_norm:
            self.post_trunk_norm = nn.RMSNorm(config.embed_dim, config.rms_norm_eps)
        self.merger = PatchMerger(config)

    def __call__(
        self,
        patches: mx.array,
        grids: Sequence[tuple[int, int]],
        query_chunk: int = 0,
        pace: GpuPace | None = None,
    ) -> mx.array:
        """Return the embeddings of all images, (num_patches / 4, hidden_size), those of the first image first.

        What an image gives does not depend on the other images, apart from rounding.

        Args:
            patches: (num_patches, 588), those of all images one after the other.
            grids: patches from top to bottom and from left to right of each image.
            query_chunk: attend with at most so many patches at a time; 0: with any number.
            pace: the size of submissions to a GPU; none: each layer is one, or one for each chunk of queries.
        """
        places = Places(grids, self.head_dim, query_chunk, pace)
        x = self.patch_embed(patches)  # (num_patches, embed_dim)
        for block in self.blocks:
            x = block(x, places)
        if self.post_norm:
            x = self.post_trunk_norm(x)
        return self.merger(x, places)  # (num_patches / 4, hidden_size)
