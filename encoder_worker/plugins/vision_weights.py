"""The weights of the vision tower: from the files of a checkpoint into the modules of ``vision_tower``."""

from typing import cast

import mlx.core as mx
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.encoder_worker.plugins.vision_tower import VisionTower
from dotsctl.protocol.checkpoint_layout import is_harmless
from dotsctl.protocol.errors import MissingError

PREFIXES = ("vision_tower.", "model.vision_tower.")
"""In front of the tower's tensor names; the second one is what newer conversions write."""


def sanitize(tensors: dict[str, mx.array]) -> dict[str, mx.array]:
    """The tower's tensors alone, named as its modules, with the patch embedding as a matrix (embed_dim, 588).

    The convolution's weight is (embed_dim, 3, 14, 14) in the original and (embed_dim, 14, 14, 3) in MLX conversions.
    """
    kept = {}
    for name, tensor in tensors.items():
        for prefix in PREFIXES:
            if name.startswith(prefix) and not is_harmless(name):
                kept[name.removeprefix(prefix)] = tensor
    name = "patch_embed.patchifier.proj.weight"
    if name in kept and kept[name].ndim == 4:
        weight = kept[name]
        if weight.shape[1:] == (14, 14, 3):
            weight = weight.transpose(0, 3, 1, 2)
        kept[name] = weight.reshape(weight.shape[0], -1)
    return kept


def load_tower(
    config: VisionConfig, files: list[str], dtype: mx.Dtype, compile_elementwise: bool = False
) -> VisionTower:
    """Tower with the weights of a checkpoint, evaluated.

    Args:
        config: its sizes.
        files: the .safetensors files that hold the tower; nothing else in them is read.
        dtype: what to compute in.
        compile_elementwise: see :class:`VisionTower`.

    Raises:
        MissingError: a tensor is absent or has another shape than the configuration says.
    """
    tower = VisionTower(config, compile_elementwise)
    weights = _read(files, dtype)
    try:
        tower.load_weights(weights)
    except ValueError as error:
        raise MissingError(f"the weights do not fit vision_config ({error}): download the model again") from None
    for _, weight in weights:
        mx.eval(weight)  # one by one: all at once, the stored tensors are in memory beside their float32 copies
    return tower


def _read(files: list[str], dtype: mx.Dtype) -> list[tuple[str, mx.array]]:
    """Tensors in another type, not evaluated.

    Nothing else holds those of the files, so that each is freed as soon as it is converted.
    """
    tensors: dict[str, mx.array] = {}
    for file in files:
        tensors |= sanitize(cast(dict[str, mx.array], mx.load(file)))
    return [(name, tensor.astype(dtype)) for name, tensor in tensors.items()]
