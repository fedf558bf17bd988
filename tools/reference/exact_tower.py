"""The vision tower in float64 with numpy: what the packages and the MLX tower are compared with.

Written from the formulas, in rows, with nothing of what makes the others fast: heads one after the other, positions
counted patch by patch, rotation as a product of complex numbers. It reads a layer's weights when their turn comes, so
it needs little memory at any size.

Source: ``modeling_dots_vision.py`` of rednote-hilab/dots.ocr, Hugging Face snapshot c0111ce6.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.protocol.model.checkpoint import read_json
from dotsctl.tools.reference.tower_tensors import TowerTensors
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Watch = Callable[[str, Rows], object]
"""Called with the name of a stage and its activations, one row for each patch, or for each embedding."""
PATCH_EMBEDDING, FINAL_NORM, MERGER = "patch embedding", "final norm", "merger"
_erf: Any = np.frompyfunc(math.erf, 1, 1)


def layer_name(number: int) -> str:
    """Stage of the residual stream after a layer; the first one is 1."""
    return f"layer {number}"


class Tensors(Protocol):
    """The source of weights."""

    def get(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """See :meth:`dotsctl.tools.reference.tower_tensors.TowerTensors.get`."""


class ExactTower:
    """Computes embeddings of one page, and shows what lies between on the way."""

    def __init__(self, tensors: Tensors, config: VisionConfig) -> None:
        """Prepare; nothing is read yet."""
        self._tensors, self._config = tensors, config

    @classmethod
    def of(cls, model: Path) -> "ExactTower":
        """The tower of a checkpoint. Raises MissingError when a file of it is missing or damaged."""
        return cls(TowerTensors(model), VisionConfig.from_json(read_json(model, "config.json")["vision_config"]))

    def embeddings(
        self, patches: NDArray[np.float32], grid: tuple[int, int], watch: Watch = lambda stage, rows: None
    ) -> Rows:
        """Embeddings (num_patches / 4, hidden_size) of patches (num_patches, 588) in the order of ``image.patchify``.

        Args:
            patches: rows as ``image.patchify`` makes them.
            grid: patches from top to bottom and from left to right.
            watch: is shown the patch embedding, what attention and MLP of each block add (``block 0 attention``,
                ``block 0 MLP``), the residual stream after each layer, the final norm and the merger.
        """
        dim, name = self._config.embed_dim, "patch_embed.patchifier"
        turns = np.exp(1j * _angles(grid, self._config.head_dim))  # (num_patches, head_dim / 2), complex
        x = patches.astype(np.float64) @ self._get(f"{name}.proj.weight", dim, 588).T  # (num_patches, embed_dim)
        x = self._rms_norm(x + self._get(f"{name}.proj.bias", dim), f"{name}.norm")
        watch(PATCH_EMBEDDING, x)
        for layer in range(self._config.num_hidden_layers):
            attended = self._attention(self._rms_norm(x, f"blocks.{layer}.norm1"), turns, f"blocks.{layer}.attn")
            watch(f"block {layer} attention", attended)
            x = x + attended
            fed = self._mlp(self._rms_norm(x, f"blocks.{layer}.norm2"), f"blocks.{layer}.mlp")
            watch(f"block {layer} MLP", fed)
            x = x + fed
            watch(layer_name(layer + 1), x)
        x = self._rms_norm(x, "post_trunk_norm") if self._config.post_norm else x
        watch(FINAL_NORM, x)
        x = self._merge(x)  # (num_patches / 4, hidden_size)
        watch(MERGER, x)
        return x

    def _get(self, name: str, *shape: int) -> Rows:
        return self._tensors.get(name, shape).astype(np.float64)

    def _rms_norm(self, x: Rows, name: str) -> Rows:
        scale = np.sqrt((x * x).mean(axis=-1, keepdims=True) + self._config.rms_norm_eps)
        return x / scale * self._get(f"{name}.weight", x.shape[1])

    def _linear(self, x: Rows, name: str, rows: int, *, bias: bool) -> Rows:
        y = x @ self._get(f"{name}.weight", rows, x.shape[1]).T
        return y + self._get(f"{name}.bias", rows) if bias else y

    def _attention(self, n: Rows, turns: NDArray[np.complex128], name: str) -> Rows:
        dim, bias = self._config.embed_dim, self._config.use_bias
        qkv = self._linear(n, f"{name}.qkv", 3 * dim, bias=bias)  # (num_patches, 3 embed_dim)
        heads = []
        parts = [np.split(part, self._config.num_attention_heads, axis=1) for part in np.split(qkv, 3, axis=1)]
        for q, k, v in zip(*parts, strict=True):  # each (num_patches, head_dim)
            scores = _turn(q, turns) @ _turn(k, turns).T / math.sqrt(self._config.head_dim)
            shares = np.exp(scores - scores.max(axis=1, keepdims=True))  # (num_patches, num_patches)
            heads.append(shares / shares.sum(axis=1, keepdims=True) @ v)
        return self._linear(np.concatenate(heads, axis=1), f"{name}.proj", dim, bias=bias)

    def _mlp(self, n: Rows, name: str) -> Rows:
        inner, bias = self._config.intermediate_size, self._config.use_bias
        gate = self._linear(n, f"{name}.fc1", inner, bias=bias)
        product = gate / (1 + np.exp(-gate)) * self._linear(n, f"{name}.fc3", inner, bias=bias)
        return self._linear(product, f"{name}.fc2", self._config.embed_dim, bias=bias)

    def _merge(self, x: Rows) -> Rows:
        width, merged = x.shape[1], 4 * x.shape[1]
        x = x - x.mean(axis=1, keepdims=True)
        x = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-6) * self._get("merger.ln_q.weight", width)
        x = (x + self._get("merger.ln_q.bias", width)).reshape(-1, merged)  # (num_patches / 4, 4 embed_dim)
        x = self._linear(x, "merger.mlp.0", merged, bias=True)
        x = x * (1 + _erf(x / math.sqrt(2)).astype(np.float64)) / 2
        return self._linear(x, "merger.mlp.2", self._config.hidden_size, bias=True)


def _angles(grid: tuple[int, int], head_dim: int) -> Rows:
    """Angle of each pair of a head for each patch, (num_patches, head_dim / 2): half by its row, half by its column."""
    quarter = head_dim // 4
    places = [
        (2 * block_row + row, 2 * block_column + column)
        for block_row in range(grid[0] // 2)
        for block_column in range(grid[1] // 2)
        for row in range(2)
        for column in range(2)
    ]
    inverse = 10_000.0 ** -(np.arange(quarter) / quarter)
    return np.array([[*(row * inverse), *(column * inverse)] for row, column in places])


def _turn(x: Rows, turns: NDArray[np.complex128]) -> Rows:
    """Rotate the pairs (d, d + head_dim / 2) of x, (num_patches, head_dim), as points of a plane, by unit numbers."""
    half = x.shape[1] // 2
    turned = (x[:, :half] + 1j * x[:, half:]) * turns
    return np.concatenate([turned.real, turned.imag], axis=1)


def difference(found: NDArray[Any], expected: NDArray[Any]) -> tuple[float, float, float]:
    """Relative error (of the Frobenius norm), largest error and smallest cosine over rows of two (rows, width)."""
    wide, exact = found.astype(np.float64), expected.astype(np.float64)
    error = wide - exact
    norms = np.linalg.norm(wide, axis=1) * np.linalg.norm(exact, axis=1)
    cosines = (wide * exact).sum(axis=1) / np.maximum(norms, np.finfo(np.float64).tiny)
    relative = np.linalg.norm(error) / np.linalg.norm(exact)
    return float(relative), float(np.abs(error).max()), float(cosines.min())
