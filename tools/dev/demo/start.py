"""The start of a training: numbers that know their order, and the weights of a model that reads already."""

import math
import re
from pathlib import Path

import torch
from dotsctl.tools.dev.demo.network import DemoNetwork
from dotsctl.tools.dev.demo.tokenizer import number_ids
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

NOISE = 0.03
"""Added to widened weights, as a share of their deviation: equal copies would stay equal for ever."""
ROW_DEVIATION = 0.04
"""The deviation of the initial rows of embedding and output."""


def order_numbers(network: DemoNetwork, tokenizer: Tokenizer) -> None:
    """Give near numbers of boxes similar rows in the embedding and in the output: waves of many lengths."""
    ids = number_ids(tokenizer)
    width = network.lm_head.weight.shape[1]
    places = torch.arange(len(ids), dtype=torch.float32)[:, None]
    waves = math.pi * places / torch.logspace(0.6, math.log10(2 * len(ids)), width // 2)  # (numbers, width / 2)
    rows = torch.cat([waves.cos(), waves.sin()], -1) * ROW_DEVIATION * math.sqrt(2)
    with torch.no_grad():
        for table in (network.model.embed_tokens.weight, network.lm_head.weight):
            table[ids[5:]] = rows[5:]  # the single digits are ordinary text


def start_from(network: DemoNetwork, tokenizer: Tokenizer, folder: Path) -> list[str]:
    """Copy the weights of a model of the same width or a part of it; layers that it lacks begin as doing nothing.

    Args:
        network: changed in place.
        tokenizer: of the network. A token begins as the mean of the pieces that the other tokenizer cuts it into.
        folder: with ``model.safetensors`` and ``tokenizer.json``.

    Returns:
        Names of the tensors that were copied.
    """
    found = {name: tensor.float() for name, tensor in load_file(str(folder / "model.safetensors")).items()}
    own = network.state_dict()
    narrow = found["model.norm.weight"].shape[0]
    if narrow < network.model.shape.width:
        found = widened(found, own, narrow)
    taken = {name: tensor for name, tensor in found.items() if name in own and tensor.shape == own[name].shape}
    network.load_state_dict(taken, strict=False)
    layers = [(f"vision_tower.blocks.{i}.", block) for i, block in enumerate(network.vision_tower.blocks)]
    layers += [(f"model.layers.{i}.", layer) for i, layer in enumerate(network.model.layers)]
    for prefix, layer in layers:
        if not any(name.startswith(prefix) for name in taken):
            _silence(layer)
    other = Tokenizer.from_file(str(folder / "tokenizer.json"))
    with torch.no_grad():
        for name, table, first in (
            ("model.embed_tokens.weight", network.model.embed_tokens.weight, 0.5),
            ("lm_head.weight", network.lm_head.weight, 0.7),
        ):
            if name in found and found[name].shape[1] == table.shape[1]:
                _take_rows(table, found[name], tokenizer, other, first)
                taken[name] = found[name]
    order_numbers(network, tokenizer)
    return sorted(taken)


def widened(found: dict[str, Tensor], own: dict[str, Tensor], narrow: int) -> dict[str, Tensor]:
    """Weights of a model whose text half is narrower, so that the wider one computes the same.

    Each value of the narrow model's stream stands in the wide one several times; what reads the stream is divided by
    that number. New heads and inner values begin at random and are not listened to.

    Args:
        found: of the narrow model, whose attention heads are as wide as those of the network.
        own: of the network, freshly made.
        narrow: width of the stream.
    """
    times = own["model.norm.weight"].shape[0] // narrow
    result = dict(found)
    for name, tensor in found.items():
        reads = name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight", "up_proj.weight"))
        if name == "lm_head.weight" or name == "model.embed_tokens.weight":
            result[name] = tensor.repeat(1, times) / (times if name == "lm_head.weight" else 1)
        elif reads:
            result[name] = own[name].clone()
            kept = min(len(tensor), len(own[name]))
            result[name][:kept] = tensor[:kept].repeat(1, times) / times
        elif name.endswith(("o_proj.weight", "down_proj.weight")):
            result[name] = torch.zeros_like(own[name])
            kept = min(tensor.shape[1], own[name].shape[1])
            result[name][:, :kept] = tensor[:, :kept].repeat(times, 1)
        elif name.endswith("_proj.bias"):
            result[name] = torch.zeros_like(own[name])
            result[name][: len(tensor)] = tensor
        elif name.startswith("vision_tower.merger.mlp.2") or re.fullmatch(r"model\..*norm\.weight", name):
            result[name] = tensor.repeat(times, *[1] * (tensor.dim() - 1))
        if result[name] is not tensor:
            result[name] += NOISE * result[name].std() * torch.randn_like(result[name])
    return result


def _silence(layer: nn.Module) -> None:
    """Zero what a layer adds, so that it passes everything on; training finds a use for it."""
    for name, parameter in layer.named_parameters():
        if name.endswith(("attn.proj.weight", "mlp.fc2.weight", "o_proj.weight", "down_proj.weight")):
            nn.init.zeros_(parameter)


def _take_rows(table: Tensor, rows: Tensor, tokenizer: Tokenizer, other: Tokenizer, first: float) -> None:
    """Fill a table's rows from those of the other tokenizer's pieces, the first one weighted by ``first``."""
    for token, number in tokenizer.get_vocab().items():
        same = other.token_to_id(token)  # marks and single bytes
        pieces = [same] if same is not None else other.encode(tokenizer.decode([number])).ids
        if len(pieces) == 1:
            table[number] = rows[pieces[0]]
        elif pieces:
            table[number] = first * rows[pieces[0]] + (1 - first) * rows[pieces[1:]].mean(0)
