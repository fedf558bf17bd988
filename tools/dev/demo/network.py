"""The demo model as a PyTorch module: dots.ocr at a few million parameters.

Modules are named so that ``state_dict`` has the keys of a dots.ocr checkpoint. The mathematics is that of the
original (Qwen2 for the text half), with smaller widths.
"""

import torch
import torch.nn.functional as F
from dotsctl.tools.dev.demo.attention import attend
from dotsctl.tools.dev.demo.tower import NetworkShape, TorchVisionTower, frequencies, rotate
from dotsctl.tools.pages.characters import CHARACTERS
from torch import Tensor, nn

CELL_SLOTS = 12
"""Characters that the auxiliary head names for one cell: up to three in each of its four patches."""
NOTHING = len(CHARACTERS)
"""Class of the auxiliary head for "no further character in this patch"."""
MOST_ROWS, MOST_COLUMNS = 40, 28
"""Cells of the largest page that the auxiliary head names places on."""
KINDS = 12
"""Classes of the auxiliary head for the element that a cell belongs to: none, then the categories of dots.ocr."""
Past = tuple[Tensor, Tensor]
"""Keys and values of one layer, (batch, kv heads, length, head_dim) each."""


class TextAttention(nn.Module):
    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.head_dim, kv_width = shape.head_dim, shape.kv_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.width, shape.width)
        self.k_proj, self.v_proj = nn.Linear(shape.width, kv_width), nn.Linear(shape.width, kv_width)
        self.o_proj = nn.Linear(shape.width, shape.width, bias=False)

    def keys(self, x: Tensor, cos: Tensor, sin: Tensor) -> Past:
        """Turned keys and values of x (batch, length, width)."""
        k, v = (p(x).view(*x.shape[:2], -1, self.head_dim).transpose(1, 2) for p in (self.k_proj, self.v_proj))
        return rotate(k, cos, sin), v

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, own: Past, before: Past | None = None) -> Tensor:
        """Attend from x (batch, length, width) to itself and to all that stands before it."""
        batch, length, width = x.shape
        q = rotate(self.q_proj(x).view(batch, length, -1, self.head_dim).transpose(1, 2), cos, sin)
        k, v = own
        mask = None
        if before is not None:
            known = before[0].shape[2]
            k, v = torch.cat([before[0], k], 2), torch.cat([before[1], v], 2)
            mask = torch.ones(length, known + length, dtype=torch.bool, device=x.device).tril(known)
        y = attend(q, k, v, mask, is_causal=mask is None)
        return self.o_proj(y.transpose(1, 2).reshape(batch, length, width))


class TextMLP(nn.Module):
    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.text_intermediate, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.text_intermediate, bias=False)
        self.down_proj = nn.Linear(shape.text_intermediate, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class TextLayer(nn.Module):
    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.width, 1e-6)
        self.post_attention_layernorm = nn.RMSNorm(shape.width, 1e-6)
        self.self_attn, self.mlp = TextAttention(shape), TextMLP(shape)

    def keys(self, x: Tensor, cos: Tensor, sin: Tensor) -> Past:
        """Keys and values of this layer for x (batch, length, width)."""
        return self.self_attn.keys(self.input_layernorm(x), cos, sin)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, own: Past, before: Past | None = None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, own, before)
        return x + self.mlp(self.post_attention_layernorm(x))


class TorchTextModel(nn.Module):
    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(TextLayer(shape) for _ in range(shape.text_layers))
        self.norm = nn.RMSNorm(shape.width, 1e-6)

    def _angles(self, first: int, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        inverse = frequencies(self.shape.head_dim, self.shape.rope_theta).to(device)
        angles = (torch.arange(first, first + length, device=device)[:, None] * inverse).repeat(1, 2)
        return angles.cos(), angles.sin()  # (length, head_dim) each

    def read(self, x: Tensor) -> list[Past]:
        """Keys and values of each layer for what stands before all answers, x (pages, length, width)."""
        cos, sin = self._angles(0, x.shape[1], x.device)
        pasts = []
        for layer in self.layers:
            pasts.append(layer.keys(x, cos, sin))
            if len(pasts) < len(self.layers):  # of the last layer nothing but the keys is ever used
                x = layer(x, cos, sin, pasts[-1])
        return pasts

    def answer(self, x: Tensor, pasts: list[Past], page_of: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the hidden states of x (answers, m, width), each behind the page that ``page_of`` names.

        Returns:
            (answers, m, width) after all layers, and after each of the layers that are ``asked``.
        """
        cos, sin = self._angles(pasts[0][0].shape[2], x.shape[1], x.device)
        states = []
        for layer, (keys, values) in zip(self.layers, pasts, strict=True):
            x = layer(x, cos, sin, layer.keys(x, cos, sin), (keys[page_of], values[page_of]))
            states.append(x)
        return self.norm(x), [states[number - 1] for number in asked(len(states))]


def asked(layers: int) -> list[int]:
    """Layers of a text half of so many, counted from 1, that name the cell that is read next: half, and all but one."""
    return sorted({max(1, layers // 2), max(1, layers - 1)})


class AuxiliaryHeads(nn.Module):
    """The further outputs, for training alone: by patches and cells their characters, place and kind of element, and by
    the text half, halfway and before its last layer, the cell that it is about to read.

    The place is not given to the tower, whose attention knows distances only; a page's edges reveal it, and
    without this loss the tower does not learn to search for them.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.glyphs = nn.Linear(shape.vision_width, CELL_SLOTS // 4 * (NOTHING + 1))
        self.characters = nn.Linear(shape.width, CELL_SLOTS * (NOTHING + 1))
        self.row, self.column = nn.Linear(shape.width, MOST_ROWS), nn.Linear(shape.width, MOST_COLUMNS)
        self.kind = nn.Linear(shape.width, KINDS)
        self.next_cell = nn.ModuleList(nn.Linear(shape.width, shape.width) for _ in asked(shape.text_layers))

    def forward(self, features: Tensor, page: Tensor) -> dict[str, Tensor]:
        """Logits of every question, (batch, cells, ...).

        Args:
            features: (batch, 4 cells, vision width) of the patches.
            page: (batch, cells, width) of the cells.
        """
        slots = (*page.shape[:2], CELL_SLOTS, NOTHING + 1)
        return {
            "glyphs": self.glyphs(features).view(slots),
            "characters": self.characters(page).view(slots),
            "row": self.row(page),
            "column": self.column(page),
            "kind": self.kind(page),
        }

    def cells(self, states: list[Tensor], page: Tensor) -> Tensor:
        """Return the logits (asked layers, answers, m, cells) of the cell in which the next token begins.

        Args:
            states: (answers, m, width) of the text half, after each of the layers that are ``asked``.
            page: (answers, cells, width) of the page that each answer is about.
        """
        width = page.shape[-1]
        shown = F.rms_norm(page, (width,)).transpose(1, 2) * width**-0.5  # (answers, width, cells)
        named = [ask(F.rms_norm(x, (width,))) for ask, x in zip(self.next_cell, states, strict=True)]
        return torch.stack([x @ shown for x in named])


class DemoNetwork(nn.Module):
    """Both halves, and heads for training alone."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.vision_tower = TorchVisionTower(shape)
        self.model = TorchTextModel(shape)
        self.lm_head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        self.auxiliary = AuxiliaryHeads(shape)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02 if parameter.shape[-1] > 400 else 0.04)
            elif name.endswith("bias") and "patchifier" not in name:
                nn.init.zeros_(parameter)

    def read(self, page: Tensor, before: Tensor) -> list[Past]:
        """Compute what all answers about some pages share.

        Args:
            page: (pages, cells, width) embeddings of ``vision_tower``.
            before: (n,) token ids in front of them.
        """
        front = self.model.embed_tokens(before).expand(len(page), -1, -1)
        return self.model.read(torch.cat([front, page], 1))  # of (pages, n + cells, width)

    def answer(self, pasts: list[Past], page_of: Tensor, after: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Run a teacher-forced pass over answers.

        Args:
            pasts: from ``read``.
            page_of: (answers,) which page each answer is about.
            after: (answers, m) token ids behind the page: end of the prompt, then the answer.

        Returns:
            Hidden states (answers, m, width), of which ``lm_head`` makes logits; and those of the layers ``asked``.
        """
        return self.model.answer(self.model.embed_tokens(after), pasts, page_of)
