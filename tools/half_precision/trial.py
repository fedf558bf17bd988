"""The trial of a plan: a model in float16, compared with float32 layer by layer."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from dotsctl.protocol.model.half_precision import LEAST_COSINE, HalfPlan
from numpy.typing import NDArray

Rows = NDArray[np.float32]
NOT_FINITE = -2.0
"""The value instead of a cosine."""


@dataclass
class Measured:
    """The findings of one computation of a tower or a decoder in float32."""

    tensors: dict[str, float] = field(default_factory=dict)
    """Largest magnitude of each tensor; those of the tower's ``qkv`` in three parts."""
    places: list[dict[str, float]] = field(default_factory=list)
    """Largest magnitudes by place, for each layer."""
    ends: dict[str, float] = field(default_factory=dict)
    """Largest magnitudes before the first layer and behind the last one."""
    streams: list[Rows] = field(default_factory=list)
    """(rows, width) after each layer; rows are the patches of the tower, or the positions of all prompts."""
    results: Rows = field(default_factory=lambda: np.empty((0, 0), np.float32))
    """(rows, width) of all pages or prompts: embeddings of the tower, or results of the last norm of the decoder."""


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


def value_of(scalar: mx.array) -> float:
    """The evaluated value of a scalar."""
    return float(cast(float, scalar.item()))


def worst_cosine(found: mx.array, expected: Rows) -> float:
    """Smallest cosine over the rows of two (rows, width); ``NOT_FINITE`` where a number is not finite."""
    wide = np.array(found.astype(mx.float32)).astype(np.float64)
    if not np.isfinite(wide).all():
        return NOT_FINITE
    exact = expected.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1) * np.linalg.norm(exact, axis=1)
    return float(((wide * exact).sum(axis=1) / np.maximum(norms, np.finfo(np.float64).tiny)).min())


def judged(plan: HalfPlan, layers: Sequence[float], result: float) -> HalfPlan:
    """The plan with its trial; the layer that loses most is named where the result is not near enough.

    A result that is not finite makes the plan impossible. One that is only less exact does not, since bfloat16, the
    alternative, has eight times the rounding error.

    Args:
        plan: without a trial.
        layers: smallest cosine of the residual stream after each layer.
        result: smallest cosine of the result.
    """
    if result >= LEAST_COSINE:
        return replace(plan, worst_cosine=result)
    if result == NOT_FINITE:
        place = layers.index(NOT_FINITE) if NOT_FINITE in layers else len(layers)
        return replace(plan, hopeless=(*plan.hopeless, f"{_place(place, layers)} gives infinite numbers"))
    losses = np.diff([1.0, *layers, result])
    loss = f"{_place(int(losses.argmin()), layers)} loses most (cosine {result:.5f}, below {LEAST_COSINE:g})"
    return replace(plan, worst_cosine=result, imprecise=loss)


def _place(place: int, layers: Sequence[float]) -> str:
    """Name of a layer, for messages; behind the last one comes the end of the half."""
    return f"layer {place + 1}" if place < len(layers) else "the part behind the last layer"
