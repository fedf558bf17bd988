"""The weights of the vision tower: from the files of a checkpoint into the modules of ``vision_tower``."""

from typing import cast

import mlx.core as mx
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.encoder_worker.plugins.vision_tower import VisionTower
from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.model.half_precision import HalfPlan
from dotsctl.protocol.model.layout import PATCH_WEIGHT
from dotsctl.protocol.model.stored_layouts import TOWER, canonical_name, half_of, is_harmless, patch_matrix
from dotsctl.protocol.parts import Role
from mlx.utils import tree_flatten

PATCHES = PATCH_WEIGHT.removeprefix(TOWER)
UNSCALED = HalfPlan()


def sanitize(tensors: dict[str, mx.array]) -> dict[str, mx.array]:
    """The tower's tensors alone, named as its modules, with the patch embedding as a matrix (embed_dim, 588)."""
    kept = {
        canonical_name(name).removeprefix(TOWER): tensor
        for name, tensor in tensors.items()
        if half_of(name) is Role.ENCODER and not is_harmless(name)
    }
    if PATCHES in kept:
        kept[PATCHES] = patch_matrix(kept[PATCHES])
    return kept


def load_tower(
    config: VisionConfig,
    files: list[str],
    dtype: mx.Dtype,
    compile_elementwise: bool = False,
    plan: HalfPlan = UNSCALED,
) -> VisionTower:
    """Return the tower with the weights of a checkpoint, evaluated.

    Args:
        config: its sizes.
        files: the .safetensors files that hold the tower; nothing else in them is read.
        dtype: what to compute in.
        compile_elementwise: see :class:`VisionTower`.
        plan: powers of two to scale weights with; the embeddings stay the same.

    Raises:
        MissingError: a tensor is absent or has another shape than the configuration states.
    """
    tower = read_tower(config, files, dtype, compile_elementwise, plan)
    for _, weight in tree_flatten(tower.parameters()):
        mx.eval(weight)  # one by one: all at once, the stored tensors are in memory together with their float32 copies
    return tower


def read_tower(
    config: VisionConfig,
    files: list[str],
    dtype: mx.Dtype,
    compile_elementwise: bool = False,
    plan: HalfPlan = UNSCALED,
) -> VisionTower:
    """Tower as :func:`load_tower` gives it, not evaluated: MLX reads a tensor when something needs it."""
    tower = VisionTower(config, compile_elementwise)
    try:
        tower.load_weights(_read(files, dtype, plan))
    except ValueError as error:
        raise MissingError(f"the weights do not fit vision_config ({error})", "download the model again") from None
    _scale_epsilons(tower, plan.epsilon_factor)
    return tower


def _scale_epsilons(tower: VisionTower, factor: float) -> None:
    """Multiply the epsilon of each norm that takes the residual stream."""
    norms = [norm for block in tower.blocks for norm in (block.norm1, block.norm2)]
    norms.append(tower.post_trunk_norm if tower.post_norm else tower.merger.ln_q)
    for norm in norms:
        norm.eps *= factor


def _read(files: list[str], dtype: mx.Dtype, plan: HalfPlan) -> list[tuple[str, mx.array]]:
    """Tensors scaled and in another type, not evaluated.

    Nothing else holds those of the files, so that each is freed as soon as it is converted.
    """
    tensors: dict[str, mx.array] = {}
    for file in files:
        tensors |= sanitize(cast(dict[str, mx.array], mx.load(file)))
    return [(name, _scaled(tensor, name, plan).astype(dtype)) for name, tensor in tensors.items()]


def _scaled(tensor: mx.array, name: str, plan: HalfPlan) -> mx.array:
    """A tensor multiplied with its powers of two, in float32 where there are some."""
    factors = plan.thirds(name) if ".qkv." in name else (plan.factor(name),)
    if all(factor == 1 for factor in factors):
        return tensor
    parts = tensor.astype(mx.float32).reshape(len(factors), -1)  # a row for each factor
    return (parts * mx.array(factors)[:, None]).reshape(tensor.shape)
