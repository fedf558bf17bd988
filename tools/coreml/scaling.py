"""Powers of two that tensors are multiplied with, so that a float16 package computes the same with better numbers.

A norm divides by the length of its input, so its input may have any scale, if its epsilon has the square of it. The
epsilons of the tower, 1e-5 and 1e-6, are subnormal in float16; hardware may take such a number for zero, and a row of
zeros would then give NaN. With larger inputs the epsilons are normal numbers. Powers of two change no other digit.
"""

import math

import numpy as np
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig

MERGER_EPSILON = 1e-6
"""Of the LayerNorm in the merger; it is fixed in the model's code."""
PATCH_PROJECTION = "patch_embed.patchifier.proj"
PATCH_NORM = "patch_embed.patchifier.norm"
LAST_NORM = "post_trunk_norm"


def normal_exponent(epsilon: float) -> int:
    """The least r >= 0 with which ``epsilon * 4**r`` is a normal float16: the input of its norm is scaled by 2**r."""
    return max(0, math.ceil(math.log(float(np.finfo(np.float16).smallest_normal) / epsilon, 4)))


def stream_exponent(config: VisionConfig) -> int:
    """The least exponent of the residual stream with which the epsilons of all norms on it are normal numbers."""
    epsilons = [config.rms_norm_eps] if config.post_norm else [config.rms_norm_eps, MERGER_EPSILON]
    return max(map(normal_exponent, epsilons))


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
    found[f"{PATCH_NORM}.weight"] = residual_exponent
    kinds = ("weight", "bias") if config.use_bias else ("weight",)
    for layer in range(config.num_hidden_layers):
        for name in ("attn.proj", "mlp.fc2"):
            found |= {f"blocks.{layer}.{name}.{kind}": residual_exponent for kind in kinds}
    if config.post_norm:
        found[f"{LAST_NORM}.weight"] = normal_exponent(MERGER_EPSILON)
    return found
