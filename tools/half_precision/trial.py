"""The trial of a plan: what float16 makes of a model, compared with float32 layer by layer."""

from collections.abc import Sequence
from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from dotsctl.protocol.half_precision import LEAST_COSINE, HalfPlan
from numpy.typing import NDArray

Rows = NDArray[np.float32]


class WideLinear(nn.Linear):
    """A product of float16 matrices that adds up in float32 and is rounded once, as the GPU of a Mac computes it.

    MLX 0.32 on a CPU multiplies float16 matrices 46 times slower than float32 ones.
    """

    def __call__(self, x: mx.array) -> mx.array:
        """Take (..., inputs) in float16, give (..., outputs) in float16."""
        wide = x.astype(mx.float32) @ self.weight.astype(mx.float32).T  # (..., outputs)
        if "bias" in self:
            wide = wide + self.bias
        return wide.astype(x.dtype)


def widen(network: nn.Module) -> None:
    """Let every product of a network add up in float32."""
    for module in network.modules():
        if type(module) is nn.Linear:
            module.__class__ = WideLinear


def largest(values: mx.array) -> mx.array:
    """The largest magnitude, a scalar that is not evaluated."""
    return mx.abs(values).max()


def worst_cosine(found: mx.array, expected: Rows) -> float:
    """Smallest cosine over the rows of two (rows, width); -1 where a number is not finite."""
    wide = np.array(found.astype(mx.float32)).astype(np.float64)
    if not np.isfinite(wide).all():
        return -1.0
    exact = expected.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1) * np.linalg.norm(exact, axis=1)
    return float(((wide * exact).sum(axis=1) / np.maximum(norms, np.finfo(np.float64).tiny)).min())


def judged(plan: HalfPlan, layers: Sequence[float], result: float) -> HalfPlan:
    """The plan with its trial; the layer that loses most is named where the result is not near enough.

    Args:
        plan: without a trial.
        layers: smallest cosine of the residual stream after each layer.
        result: smallest cosine of the result.
    """
    if result >= LEAST_COSINE:
        return replace(plan, worst_cosine=result)
    losses = np.diff([1.0, *layers, result])
    place = int(losses.argmin())
    name = f"layer {place + 1}" if place < len(layers) else "the part behind the last layer"
    problem = f"{name} loses most of what float16 loses (cosine {result:.5f}, at least {LEAST_COSINE:g} is needed)"
    return replace(plan, worst_cosine=result, hopeless=(*plan.hopeless, problem))
