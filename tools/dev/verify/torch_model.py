"""dots.ocr in plain PyTorch: tower and first step of the decoder, written from the formulas.

Sources: ``modeling_dots_vision.py`` of rednote-hilab/dots.ocr, Hugging Face snapshot c0111ce6, for the tower; the Qwen2
technical report (arXiv 2407.10671) and the shapes of the checkpoint for the decoder. Functions of tensors by name, no
modules; a convolution for the patches, cosine and sine tables for both kinds of positions, scores written down.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Get = Callable[[str], Tensor]
"""A tensor by its name in the checkpoint."""
VISION_BASE = 10_000.0


def tower_stages(patches: Tensor, grid: tuple[int, int], get: Get, config: dict[str, Any]) -> dict[str, Tensor]:
    """Activations of one image by stage, see ``dotsctl.tools.dev.verify.stages.STAGES``.

    Args:
        patches: (num_patches, 588).
        grid: patches from top to bottom and from left to right.
        get: the tensors.
        config: the section ``vision_config`` of config.json.
    """
    tower, epsilon = "vision_tower", config["rms_norm_eps"]
    patcher = f"{tower}.patch_embed.patchifier"
    kernel = get(f"{patcher}.proj.weight")  # (embed_dim, 3, 14, 14)
    images = patches.reshape(-1, 3, 14, 14)
    x = functional.conv2d(images, kernel, get(f"{patcher}.proj.bias"), stride=14).flatten(1)  # (num_patches, embed_dim)
    x = rms_norm(x, get(f"{patcher}.norm.weight"), epsilon)
    stages = {"patch embedding": x}
    heads = config["num_attention_heads"]
    tables = _vision_tables(grid, x.shape[1] // heads)
    for index in range(config["num_hidden_layers"]):
        block = f"{tower}.blocks.{index}"
        attended = _vision_attention(rms_norm(x, get(f"{block}.norm1.weight"), epsilon), block, get, heads, tables)
        x = x + attended
        fed = _swiglu(rms_norm(x, get(f"{block}.norm2.weight"), epsilon), get, *_names(f"{block}.mlp", "fc1 fc3 fc2"))
        x = x + fed
        if index == 0:
            stages |= {"block 0 attention": attended, "block 0 MLP": fed}
    if config["post_norm"]:
        x = rms_norm(x, get(f"{tower}.post_trunk_norm.weight"), epsilon)
    return stages | {"final norm": x, "merger": _merge(x, get)}


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Divide by the root mean square in float32, cast back, then multiply by the weight."""
    wide = x.float()
    return (wide / (wide.pow(2).mean(-1, keepdim=True) + epsilon).sqrt()).to(x.dtype) * weight


def _names(module: str, names: str) -> list[str]:
    return [f"{module}.{name}.weight" for name in names.split()]


def _swiglu(x: Tensor, get: Get, gate: str, up: str, down: str) -> Tensor:
    return (functional.silu(x @ get(gate).T) * (x @ get(up).T)) @ get(down).T


def _vision_tables(grid: tuple[int, int], head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (num_patches, head_dim), in the order rows, columns, rows, columns."""
    height, width = grid
    ids = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"), -1)
    ids = ids.unflatten(0, (-1, 2)).unflatten(2, (-1, 2)).transpose(1, 2).reshape(-1, 2)  # (num_patches, 2)
    steps = torch.arange(0, head_dim // 2, 2, dtype=torch.float64) / (head_dim // 2)
    angles = torch.einsum("pa,f->paf", ids.double(), VISION_BASE**-steps).flatten(1).float()
    angles = angles.repeat(1, 2)
    return angles.cos(), angles.sin()


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn x (heads, rows, head_dim): its second half, negated, is the partner of its first."""
    first, second = x.float().chunk(2, -1)
    return (x.float() * cos + torch.cat([-second, first], -1) * sin).to(x.dtype)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention of (heads, rows, head_dim) with the softmax in float32; gives (rows, heads * head_dim)."""
    scores = (q @ k.transpose(1, 2)).float() / q.shape[-1] ** 0.5  # (heads, rows, rows)
    if mask is not None:
        scores = scores + mask
    return (scores.softmax(-1).to(q.dtype) @ v).transpose(0, 1).flatten(1)


def _vision_attention(x: Tensor, block: str, get: Get, heads: int, tables: tuple[Tensor, Tensor]) -> Tensor:
    q, k, v = (x @ get(f"{block}.attn.qkv.weight").T).unflatten(1, (3, heads, -1)).permute(1, 2, 0, 3)
    return _attend(_turn(q, *tables), _turn(k, *tables), v) @ get(f"{block}.attn.proj.weight").T


def _merge(x: Tensor, get: Get) -> Tensor:
    merger = "vision_tower.merger"
    x = functional.layer_norm(x, x.shape[1:], get(f"{merger}.ln_q.weight"), get(f"{merger}.ln_q.bias"), 1e-6)
    x = functional.linear(x.reshape(-1, 4 * x.shape[1]), get(f"{merger}.mlp.0.weight"), get(f"{merger}.mlp.0.bias"))
    x = functional.gelu(x)  # the exact one
    return functional.linear(x, get(f"{merger}.mlp.2.weight"), get(f"{merger}.mlp.2.bias"))


def first_logits(ids: Tensor, placeholder: int, image: Tensor, get: Get, config: dict[str, Any]) -> Tensor:
    """Logits (vocab_size,) behind a prompt.

    Args:
        ids: (length,) with one placeholder for each row of ``image``.
        placeholder: id.
        image: (num_embeddings, width).
        get: the tensors.
        config: config.json.
    """
    x = get("model.embed_tokens.weight")[ids].clone()  # (length, width)
    x[ids == placeholder] = image.to(x.dtype)
    length, epsilon = len(ids), config["rms_norm_eps"]
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    steps = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
    angles = torch.outer(torch.arange(length).double(), float(config["rope_theta"]) ** -steps).float().repeat(1, 2)
    mask = torch.full((length, length), -torch.inf).triu(1)  # no position attends to later ones
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        normed = rms_norm(x, get(f"{layer}.input_layernorm.weight"), epsilon)
        x = x + _text_attention(normed, layer, get, config, (angles.cos(), angles.sin()), mask)
        normed = rms_norm(x, get(f"{layer}.post_attention_layernorm.weight"), epsilon)
        x = x + _swiglu(normed, get, *_names(f"{layer}.mlp", "gate_proj up_proj down_proj"))
    head = "model.embed_tokens.weight" if config.get("tie_word_embeddings") else "lm_head.weight"
    return get(head) @ rms_norm(x[-1], get("model.norm.weight"), epsilon)


def _text_attention(
    x: Tensor, layer: str, get: Get, config: dict[str, Any], tables: tuple[Tensor, Tensor], mask: Tensor
) -> Tensor:
    """Causal attention in which several heads share keys and values."""

    def project(name: str, heads: int) -> Tensor:
        weight, bias = get(f"{layer}.self_attn.{name}.weight"), get(f"{layer}.self_attn.{name}.bias")
        return functional.linear(x, weight, bias).unflatten(1, (heads, -1)).transpose(0, 1)

    heads, shared = config["num_attention_heads"], config["num_key_value_heads"]
    q = _turn(project("q_proj", heads), *tables)
    k = _turn(project("k_proj", shared), *tables).repeat_interleave(heads // shared, 0)
    v = project("v_proj", shared).repeat_interleave(heads // shared, 0)  # (heads, length, head_dim)
    return _attend(q, k, v, mask) @ get(f"{layer}.self_attn.o_proj.weight").T
