"""The results of the implementations of ``verify``, and how activations are taken from the inside of a tower."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
from dotsctl.tools.reference.mlx_tower import Recorder
from numpy.typing import NDArray

STAGES = ("patch embedding", "block 0 attention", "block 0 MLP", "final norm", "merger")
"""Attention and MLP are what they add to the rows, without the residual."""
LOGITS = "first-step logits"


class Inputs(NamedTuple):
    """The inputs of a model for one page."""

    ids: list[int]
    patches: NDArray[np.float32]
    """(num_patches, 588)."""


@dataclass
class Results:
    """The results of one implementation for the pages."""

    stages: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Activations of the first page by stage; (num_patches, embed_dim), of the merger (num_embeddings, width)."""
    logits: NDArray[Any] | None = None
    """(vocab_size,) of the first page's first step; none: not computed."""
    inputs: list[Inputs] | None = None
    """The inputs of each page by its own processor; none: it got our ids and patches."""
    tokens: list[list[int]] | None = None
    """Greedy answer to each page without end tokens; none: not computed."""
    embeddings: list[NDArray[Any]] | None = None
    """(num_embeddings, width) of each page; none: not kept."""


def record(tower: Any, run: Callable[[], mx.array]) -> dict[str, NDArray[Any]]:
    """Activations by stage, float32, while ``run`` calls the tower.

    Works for every tower whose modules are named as the checkpoint's tensors are: ours, and that of mlx-vlm.
    """
    places = [
        (tower, "patch_embed", STAGES[0]),
        (tower.blocks[0], "attn", STAGES[1]),
        (tower.blocks[0], "mlp", STAGES[2]),
        (tower, "post_trunk_norm", STAGES[3]),
        (tower, "merger", STAGES[4]),
    ]
    kept: dict[str, mx.array] = {}
    modules = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
    for owner, name, stage in places:
        setattr(owner, name, Recorder(getattr(owner, name), stage, kept))
    try:
        mx.eval(run())
    finally:
        for owner, name, module in modules:
            setattr(owner, name, module)
    return {stage: np.array(kept[stage].astype(mx.float32)) for stage in STAGES}
