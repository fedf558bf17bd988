"""Attention of both halves of the demo model while it is trained."""

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, is_causal: bool = False) -> Tensor:
    """Attention, several query heads to each key head.

    PyTorch's own kernel keeps bfloat16 slow on a CPU, and float32 is not much faster with heads of 32: there plain
    products of one page at a time take two thirds of its time.

    Args:
        q: (batch, heads, n, head_dim).
        k: (batch, kv heads, m, head_dim).
        v: like ``k``.
        mask: (n, m), true where a query may attend.
        is_causal: each query attends to what stands before it and itself, and n = m.

    Returns:
        (batch, heads, n, head_dim).
    """
    n, m, groups = q.shape[2], k.shape[2], q.shape[1] // k.shape[1]
    if q.device.type == "cuda":  # its kernels that take a mask take no groups
        k, v = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (k, v))
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal)
    if not torch.is_autocast_enabled("cpu"):
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal, enable_gqa=True)
    q, k, v = (x.bfloat16() for x in (q * q.shape[-1] ** -0.5, k, v))
    k, v = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (k, v))  # (batch, heads, m, head_dim)
    seen = torch.ones(n, m, dtype=torch.bool).tril() if is_causal else mask
    bias = None if seen is None else torch.zeros(n, m, dtype=q.dtype).masked_fill(~seen, -torch.inf)
    with torch.autocast("cpu", enabled=False):
        return torch.cat([_products(*page, bias) for page in zip(q.split(1), k.split(1), v.split(1), strict=True)])


def _products(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    scores = q @ k.transpose(-1, -2)  # (1, heads, n, m)
    return torch.softmax(scores if bias is None else scores + bias, -1) @ v
