"""Powers of two that tensors are multiplied with, so that a float16 package computes the same with better numbers.

A norm divides by the length of its input, so its input may have any scale, if its epsilon has the square of it. The
epsilons of the tower, 1e-5 and 1e-6, are subnormal in float16; hardware may take such a number for zero, and a row of
zeros would then give NaN. With larger inputs the epsilons are normal numbers. Powers of two change no other digit.
"""

import math
from collections import Counter

import numpy as np
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.protocol.model.half_precision import HalfPlan

MERGER_EPSILON = 1e-6
"""The epsilon of the LayerNorm in the merger; it is fixed in the model's code."""
PATCH_PROJECTION = "patch_embed.patchifier.proj"
PATCH_NORM = "patch_embed.patchifier.norm"
LAST_NORM = "post_trunk_norm"


def normal_exponent(epsilon: float) -> int:
    """The least r >= 0 with which ``epsilon * 4**r`` is a normal float16: the input of its norm is scaled by 2**r."""
    if epsilon <= 0:
        return 0  # no scale helps
    return max(0, math.ceil(math.log(float(np.finfo(np.float16).smallest_normal) / epsilon, 4)))


def stream_exponent(config: VisionConfig) -> int:
    """The least exponent of the residual stream with which the epsilons of all norms on it are normal numbers."""
    epsilons = [config.rms_norm_eps] if config.post_norm else [config.rms_norm_eps, MERGER_EPSILON]
    return max(map(normal_exponent, epsilons))


def package_exponents(config: VisionConfig, plan: HalfPlan) -> tuple[int, dict[str, int]]:
    """The exponent of the residual stream, and exponents by tensor, for a model with measured magnitudes.

    The stream is made larger for its epsilons, as far as its magnitudes allow that. Scales of norms are folded into
    the matrices behind them, so what a plan does to these scales and undoes in the matrices is left out.

    Args:
        config: of the tower.
        plan: measured scaling of the tower.
    """
    residual_exponent = min(stream_exponent(config), plan.residual_room)
    found = Counter(plan.exponents)
    for norm, matrices in _folded(config).items():
        exponent = found.pop(f"{norm}.weight", 0)
        found.pop(f"{norm}.bias", None)
        found.update(dict.fromkeys(matrices, exponent))
    found.update(tensor_exponents(config, residual_exponent))
    found.subtract(dict.fromkeys(_stream_writers(config), plan.residual_exponent))
    return residual_exponent, {name: exponent for name, exponent in found.items() if exponent}


def _folded(config: VisionConfig) -> dict[str, list[str]]:
    """Matrices behind each norm whose scales are folded into them; of ``qkv``, its three parts."""
    found = {"merger.ln_q": ["merger.mlp.0.weight"]}
    for layer in range(config.num_hidden_layers):
        block = f"blocks.{layer}"
        found[f"{block}.norm1"] = [f"{block}.attn.qkv.weight.{third}" for third in range(3)]
        found[f"{block}.norm2"] = [f"{block}.mlp.fc1.weight", f"{block}.mlp.fc3.weight"]
    return found


def _stream_writers(config: VisionConfig) -> list[str]:
    """Tensors that are multiplied when the residual stream is; biases are included where the model has them."""
    kinds = ("weight", "bias") if config.use_bias else ("weight",)
    modules = [
        f"blocks.{layer}.{name}" for layer in range(config.num_hidden_layers) for name in ("attn.proj", "mlp.fc2")
    ]
    return [f"{PATCH_NORM}.weight", *(f"{module}.{kind}" for module in modules for kind in kinds)]


def tensor_exponents(config: VisionConfig, residual_exponent: int) -> dict[str, int]:
    """Exponents by tensor that scale the residual stream by ``2**residual_exponent`` and leave the embeddings alone.

    Included are the inputs of the norms that are not on the stream: that of the patches, and that of the merger.

    Args:
        config: of the tower.
        residual_exponent: negative for a stream with values that float16 does not hold.

    Returns:
        Exponents by name as ``TowerTensors.get`` takes it; biases are included where the model has them.
    """
    found = {f"{PATCH_PROJECTION}.{kind}": normal_exponent(config.rms_norm_eps) for kind in ("weight", "bias")}
    found |= dict.fromkeys(_stream_writers(config), residual_exponent)
    if config.post_norm:
        found[f"{LAST_NORM}.weight"] = normal_exponent(MERGER_EPSILON)
    return found
