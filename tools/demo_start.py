"""What a training begins with: numbers that know their order, and the weights of a model that reads already."""

import math
from pathlib import Path

import torch
from dotsctl.tools.demo_network import DemoNetwork
from dotsctl.tools.demo_tokenizer import number_ids
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

ROW_DEVIATION = 0.04
"""Of the initial rows of embedding and output."""


def order_numbers(network: DemoNetwork, tokenizer: Tokenizer) -> None:
    """Give near numbers of boxes like rows in the embedding and in the output: waves of many lengths."""
    ids = number_ids(tokenizer)
    width = network.lm_head.weight.shape[1]
    places = torch.arange(len(ids), dtype=torch.float32)[:, None]
    waves = math.pi * places / torch.logspace(0.6, math.log10(2 * len(ids)), width // 2)  # (numbers, width / 2)
    rows = torch.cat([waves.cos(), waves.sin()], -1) * ROW_DEVIATION * math.sqrt(2)
    with torch.no_grad():
        for table in (network.model.embed_tokens.weight, network.lm_head.weight):
            table[ids[5:]] = rows[5:]  # the single digits are ordinary text


def start_from(network: DemoNetwork, tokenizer: Tokenizer, folder: Path) -> list[str]:
    """Take over the weights of a model of the same width; layers that it lacks begin as doing nothing.

    Args:
        network: changed in place.
        tokenizer: of the network. A token begins as the mean of the pieces that the other tokenizer cuts it into.
        folder: with ``model.safetensors`` and ``tokenizer.json``.

    Returns:
        Names of the tensors that were taken over.
    """
    found = {name: tensor.float() for name, tensor in load_file(str(folder / "model.safetensors")).items()}
    own = network.state_dict()
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
