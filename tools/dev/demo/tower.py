"""The vision tower of the demo model as a PyTorch module, and the sizes of both halves.

Modules are named so that ``state_dict`` has the keys of a dots.ocr checkpoint. The mathematics is that of the original
(Hugging Face remote code of dots.ocr), with smaller widths.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from dotsctl.tools.dev.demo.attention import attend
from torch import Tensor, nn

WHITE = ((1 - 0.48145466) / 0.26862954, (1 - 0.4578275) / 0.26130258, (1 - 0.40821073) / 0.27577711)
"""A white pixel after the normalisation of dots.ocr (CLIP mean and deviation)."""


@dataclass(frozen=True)
class NetworkShape:
    """Sizes of both halves.

    The text half is wider: a cell of small print holds ten characters, and its embedding has to keep them apart.
    """

    vision_width: int = 128
    vision_layers: int = 4
    vision_heads: int = 4
    vision_intermediate: int = 352
    width: int = 256
    text_layers: int = 4
    heads: int = 8
    kv_heads: int = 4
    text_intermediate: int = 320
    vocabulary: int = 1500
    rope_theta: float = 10000.0

    @property
    def vision_head_dim(self) -> int:
        """Width of one attention head of the tower."""
        return self.vision_width // self.vision_heads

    @property
    def head_dim(self) -> int:
        """Width of one attention head of the text half."""
        return self.width // self.heads


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x (batch, heads, length, head_dim) by tables (length, head_dim)."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


def frequencies(dim: int, theta: float) -> Tensor:
    """(dim / 2,) inverse frequencies."""
    return theta ** -(torch.arange(0, dim, 2, dtype=torch.float32) / dim)


def page_angles(rows: int, columns: int, head_dim: int) -> Tensor:
    """(4 rows columns, head_dim) angles [y, x, y, x] of all patches, the four of a cell after each other."""
    y, x = torch.meshgrid(torch.arange(2 * rows), torch.arange(2 * columns), indexing="ij")

    def in_cells(axis: Tensor) -> Tensor:
        return axis.reshape(rows, 2, columns, 2).permute(0, 2, 1, 3).reshape(-1, 1)

    inverse = frequencies(head_dim // 2, 10000.0)
    return torch.cat([in_cells(y) * inverse, in_cells(x) * inverse], -1).repeat(1, 2)


class TorchVisionAttention(nn.Module):
    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.heads = shape.vision_heads
        self.qkv = nn.Linear(shape.vision_width, 3 * shape.vision_width, bias=False)
        self.proj = nn.Linear(shape.vision_width, shape.vision_width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # (batch, heads, length, head_dim)
        y = attend(rotate(q, cos, sin), rotate(k, cos, sin), v)
        return self.proj(y.transpose(1, 2).reshape(batch, length, width))


class TorchVisionMLP(nn.Module):
    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.fc1 = nn.Linear(shape.vision_width, shape.vision_intermediate, bias=False)
        self.fc2 = nn.Linear(shape.vision_intermediate, shape.vision_width, bias=False)
        self.fc3 = nn.Linear(shape.vision_width, shape.vision_intermediate, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.silu(self.fc1(x)) * self.fc3(x))


class TorchVisionBlock(nn.Module):
    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(shape.vision_width, 1e-5), nn.RMSNorm(shape.vision_width, 1e-5)
        self.attn, self.mlp = TorchVisionAttention(shape), TorchVisionMLP(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), cos, sin)
        return x + self.mlp(self.norm2(x))


class TorchPatchifier(nn.Module):
    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, shape.vision_width, 14, 14)
        self.norm = nn.RMSNorm(shape.vision_width, 1e-5)
        nn.init.normal_(self.proj.weight, std=0.06)
        with torch.no_grad():  # a white patch maps to zero: without this nothing is learnt
            white = torch.tensor(WHITE).view(3, 1, 1).expand(3, 14, 14)
            self.proj.bias.copy_(-(self.proj.weight * white).sum((1, 2, 3)))

    def forward(self, patches: Tensor) -> Tensor:
        return self.norm(F.linear(patches, self.proj.weight.flatten(1), self.proj.bias))


class TorchPatchEmbed(nn.Module):
    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.patchifier = TorchPatchifier(shape)


class TorchPatchMerger(nn.Module):
    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.ln_q = nn.LayerNorm(shape.vision_width, 1e-6)
        merged = 4 * shape.vision_width
        self.mlp = nn.Sequential(nn.Linear(merged, merged), nn.GELU(), nn.Linear(merged, shape.width))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        return self.mlp(self.ln_q(x).reshape(batch, length // 4, 4 * width))  # (batch, cells, width)


class TorchVisionTower(nn.Module):
    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.head_dim = shape.vision_head_dim
        self.patch_embed = TorchPatchEmbed(shape)
        self.blocks = nn.ModuleList(TorchVisionBlock(shape) for _ in range(shape.vision_layers))
        self.post_trunk_norm = nn.RMSNorm(shape.vision_width, 1e-5)
        self.merger = TorchPatchMerger(shape)

    def features(self, patches: Tensor, rows: int, columns: int) -> Tensor:
        """Patches (batch, 4 rows columns, 588) -> what the merger takes (batch, 4 rows columns, vision width)."""
        angles = page_angles(rows, columns, self.head_dim).to(patches.device)
        cos, sin = angles.cos(), angles.sin()
        x = self.patch_embed.patchifier(patches)
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.post_trunk_norm(x)

    def forward(self, patches: Tensor, rows: int, columns: int) -> Tensor:
        """Patches (batch, 4 rows columns, 588) -> embeddings (batch, rows columns, width)."""
        return self.merger(self.features(patches, rows, columns))
