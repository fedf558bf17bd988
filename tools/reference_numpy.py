"""The vision tower in NumPy with float64, written from the formulas alone: what other implementations are held to.

Source of the formulas: ``modeling_dots_vision.py`` of rednote-hilab/dots.ocr, Hugging Face snapshot c0111ce6. Slow and
plain on purpose: heads one after the other, positions counted patch by patch, rotation as a product of complex numbers.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Get = Callable[[str], Array]
"""A tensor by its name in the checkpoint without ``vision_tower.``; kept by nobody, so that a large one is freed."""

MERGER_EPSILON = 1e-6


def positions(grid: tuple[int, int]) -> list[tuple[int, int]]:
    """Row and column of each patch in the order of the input: block by block, the four of a block together."""
    return [
        (2 * block_row + row, 2 * block_column + column)
        for block_row in range(grid[0] // 2)
        for block_column in range(grid[1] // 2)
        for row in range(2)
        for column in range(2)
    ]


def tower_stages(patches: Array, grid: tuple[int, int], get: Get, vision_config: dict[str, Any]) -> dict[str, Array]:
    """Activations of one image by stage, see ``verify_stages.STAGES``; float64.

    Args:
        patches: (num_patches, 588).
        grid: patches from top to bottom and from left to right.
        get: the tensors.
        vision_config: the section of config.json.
    """
    heads, epsilon = vision_config["num_attention_heads"], vision_config["rms_norm_eps"]
    weight = _wide(get("patch_embed.patchifier.proj.weight"))
    if weight.shape[1:] == (14, 14, 3):  # as MLX conversions have it
        weight = weight.transpose(0, 3, 1, 2)
    x = patches.astype(np.float64) @ weight.reshape(len(weight), -1).T + _wide(get("patch_embed.patchifier.proj.bias"))
    x = rms_norm(x, _wide(get("patch_embed.patchifier.norm.weight")), epsilon)  # (num_patches, embed_dim)
    stages = {"patch embedding": x}
    turn = rotation(grid, x.shape[1] // heads)
    for index in range(vision_config["num_hidden_layers"]):
        name = f"blocks.{index}"
        attended = attention(rms_norm(x, _wide(get(f"{name}.norm1.weight")), epsilon), name, get, heads, turn)
        x = x + attended
        fed = feed_forward(rms_norm(x, _wide(get(f"{name}.norm2.weight")), epsilon), name, get)
        x = x + fed
        if index == 0:
            stages |= {"block 0 attention": attended, "block 0 MLP": fed}
    if vision_config["post_norm"]:
        x = rms_norm(x, _wide(get("post_trunk_norm.weight")), epsilon)
    return stages | {"final norm": x, "merger": merge(x, get)}


def _wide(tensor: Array) -> Array:
    return tensor.astype(np.float64)


def rms_norm(x: Array, weight: Array, epsilon: float) -> Array:
    """Divide each row by the root of its mean square."""
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight


def rotation(grid: tuple[int, int], head_dim: int) -> Array:
    """Complex numbers of length 1, (num_patches, head_dim / 2): the first half by rows, the second by columns."""
    quarter = head_dim // 4
    frequencies = [10000.0 ** (-2 * i / (head_dim // 2)) for i in range(quarter)]
    angles = [[place * f for place in both for f in frequencies] for both in positions(grid)]
    return np.exp(1j * np.array(angles))


def attention(x: Array, name: str, get: Get, heads: int, turn: Array) -> Array:
    """Attention of one block without its residual; takes and gives (num_patches, embed_dim)."""
    width = x.shape[1]
    dim = width // heads
    qkv = x @ _wide(get(f"{name}.attn.qkv.weight")).T  # (num_patches, 3 embed_dim)
    found = []
    for head in range(heads):
        q, k, v = (qkv[:, part * width + head * dim :][:, :dim] for part in range(3))  # (num_patches, head_dim)
        scores = _turned(q, turn) @ _turned(k, turn).T / math.sqrt(dim)  # (num_patches, num_patches)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        found.append(weights / weights.sum(-1, keepdims=True) @ v)
    return np.concatenate(found, -1) @ _wide(get(f"{name}.attn.proj.weight")).T


def _turned(x: Array, turn: Array) -> Array:
    """Number d and number d + head_dim / 2 of a row are the two parts of a complex number."""
    half = x.shape[1] // 2
    turned = (x[:, :half] + 1j * x[:, half:]) * turn
    return np.concatenate([turned.real, turned.imag], -1)


def feed_forward(x: Array, name: str, get: Get) -> Array:
    """SwiGLU of one block without its residual; takes and gives (num_patches, embed_dim)."""
    gate = x @ _wide(get(f"{name}.mlp.fc1.weight")).T
    inner = gate / (1 + np.exp(-gate)) * (x @ _wide(get(f"{name}.mlp.fc3.weight")).T)
    return inner @ _wide(get(f"{name}.mlp.fc2.weight")).T


def merge(x: Array, get: Get) -> Array:
    """Four patches of a block become one embedding, (num_patches / 4, hidden_size)."""
    centred = x - x.mean(-1, keepdims=True)
    x = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + MERGER_EPSILON)
    x = x * _wide(get("merger.ln_q.weight")) + _wide(get("merger.ln_q.bias"))
    x = x.reshape(len(x) // 4, -1)  # (num_patches / 4, 4 embed_dim)
    x = x @ _wide(get("merger.mlp.0.weight")).T + _wide(get("merger.mlp.0.bias"))
    x = x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2  # the exact GELU
    return x @ _wide(get("merger.mlp.2.weight")).T + _wide(get("merger.mlp.2.bias"))
