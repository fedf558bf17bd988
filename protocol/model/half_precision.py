"""Scaling of a model for float16: powers of two that are folded into its weights, computed from measured magnitudes.

float16 ends at 65,504, and the Neural Engine at 32,752 for results of matrix products. Three places of a transformer
layer can be scaled by a power of two without changing its result, and in float32 without another rounding:

- the complete residual stream: each RMSNorm divides by its size, if epsilon is multiplied by the square;
- a value that is linear between two products (the output of a norm, the values of attention, the factor ``up`` of
  SwiGLU): the product before it is multiplied, the product behind it is divided;
- queries against keys, since scores are products of both.

The gate of SwiGLU and the scores go through non-linear functions, so they cannot be scaled: where they are too large,
the plan names the layer. ``tools/half_precision`` measures magnitudes and writes a plan; the encoder plugin ``mlx``,
the decoder plugin ``mlx`` and the Core ML conversion apply it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.protocol.model.directory import command_name, derived_directory
from dotsctl.protocol.model.files import read_file
from dotsctl.protocol.parts import Role
from dotsctl.protocol.typed_values import WrongValueError, from_json

LIMIT = 32752.0
"""Largest magnitude of any number. Results of products beyond it were seen to become infinite on Neural Engines
(ANEForge issue 115); float16 itself ends at twice that."""
TARGET = 4094.0
"""Largest magnitude that a plan leaves in a place that it can scale. An eighth of the limit, because pages of users may
have larger magnitudes than the drawn pages that were measured; M1 to M3 also cut no larger values along the patches."""
LEAST_COSINE = 0.9999
"""Cosine between a token in float16 and in float32; below it, a plan names the layer that loses most."""
MAX_EXPONENT = 126
"""Powers of two beyond it are no float32 numbers."""
FORMAT = 1


@dataclass(frozen=True)
class Site:
    """A value inside a model that may be scaled by a power of two, or, without writers, may not."""

    name: str
    """The name for messages: ``layer 3: values``."""
    peak: float
    """Largest measured magnitude."""
    writers: tuple[str, ...] = ()
    """Tensors to multiply when the value is multiplied."""
    readers: tuple[str, ...] = ()
    """Tensors to divide when the value is multiplied."""
    partner_peak: float = 0.0
    """Largest measured magnitude of a second value that is divided when this one is multiplied."""


@dataclass(frozen=True)
class HalfPlan:
    """Powers of two for one half of a model."""

    residual_exponent: int = 0
    """The residual stream is multiplied by 2 to this power, so each epsilon on it by 4 to this power."""
    residual_room: int = 0
    """The largest power with which the stream and the weights that write it stay within their limits."""
    exponents: dict[str, int] = field(default_factory=dict)
    """Power of two that a tensor is multiplied with, by its name in the half; absent: 0. The parts of ``qkv`` have the
    name of the tensor and a number: ``blocks.0.attn.qkv.weight.2`` are the rows of the values."""
    hopeless: tuple[str, ...] = ()
    """Layers that float16 cannot compute whatever is scaled, each with its number and its magnitude."""
    worst_cosine: float | None = None
    """Smallest cosine of any token between a float16 computation with this plan and float32, on the measured pages."""
    imprecise: str = ""
    """The layer that loses most by rounding, where that cosine is below ``LEAST_COSINE``; scaling cannot change it."""
    format: int = FORMAT

    def __post_init__(self) -> None:
        powers = (self.residual_exponent, *self.exponents.values())
        if any(abs(power) > MAX_EXPONENT for power in powers):
            raise ValueError(f"an exponent is beyond {MAX_EXPONENT}")

    def factor(self, name: str) -> float:
        """Power of two to multiply a tensor with."""
        return 2.0 ** self.exponents.get(name, 0)

    def thirds(self, name: str) -> tuple[float, float, float]:
        """Powers of two for the rows of queries, keys and values in a joint tensor."""
        return self.factor(f"{name}.0"), self.factor(f"{name}.1"), self.factor(f"{name}.2")

    @property
    def epsilon_factor(self) -> float:
        """Number to multiply the epsilon of each norm of the residual stream with."""
        return 4.0**self.residual_exponent

    def require_possible(self, remedy: str) -> None:
        """Raise UsageError with the layers that cannot be computed in float16, if there are some.

        Args:
            remedy: imperative sentence without a full stop.
        """
        if self.hopeless:
            raise UsageError(f"float16 cannot compute this model: {'; '.join(self.hopeless)}", f"{remedy}")


def solve(stream: Site, sites: Sequence[Site], tensors: Mapping[str, float]) -> HalfPlan:
    """Choose the smallest exponents that bring every magnitude down to ``TARGET``, and every weight below ``LIMIT``.

    Args:
        stream: the residual stream.
        sites: all other values. They are scaled in this order, each for the weights as those before have left them.
        tensors: largest magnitude of each tensor; writers and readers that are not among them are ignored.
    """
    weights = _Weights(tensors)
    residual_room = weights.bounds(stream)[1]
    residual_exponent = weights.scale(stream)
    hopeless = []
    for site in (stream, *sites):
        exponent = residual_exponent if site is stream else weights.scale(site)
        left = max(math.ldexp(site.peak, exponent), math.ldexp(site.partner_peak, -exponent))
        if not left <= LIMIT:  # not a number counts as larger
            hopeless.append(f"{site.name} reach {max(site.peak, site.partner_peak):,.0f}, more than {LIMIT:,.0f}")
    for name, peak in tensors.items():
        if not weights.peak(name) <= LIMIT:
            hopeless.append(f"{name} has the value {peak:,.0f}, more than {LIMIT:,.0f}")
    used = {name: exponent for name, exponent in weights.exponents.items() if exponent}
    return HalfPlan(residual_exponent, residual_room, used, tuple(hopeless))


class _Weights:
    """Exponents of all tensors while they are chosen."""

    def __init__(self, tensors: Mapping[str, float]) -> None:
        self._tensors = tensors
        self.exponents = dict.fromkeys(tensors, 0)

    def peak(self, name: str) -> float:
        """The largest magnitude of a tensor with its present exponent."""
        return math.ldexp(self._tensors[name], self.exponents[name])

    def bounds(self, site: Site) -> tuple[int, int]:
        """The least exponent that a value and its readers need, and the largest that it and its writers allow."""
        most = [_room(self.peak(name), LIMIT) for name in site.writers if name in self._tensors]
        least = [-_room(self.peak(name), LIMIT) for name in site.readers if name in self._tensors]
        return max([-_room(site.partner_peak, TARGET), *least]), min([_room(site.peak, TARGET), *most])

    def scale(self, site: Site) -> int:
        """Scale a value by the exponent nearest to 0 within its bounds; without writers it stays as it is."""
        if not site.writers:
            return 0
        least, most = self.bounds(site)
        exponent = min(most, max(least, 0))
        for names, sign in ((site.writers, 1), (site.readers, -1)):
            for name in names:
                if name in self._tensors:
                    self.exponents[name] += sign * exponent
        return exponent


def _room(peak: float, limit: float) -> int:
    """The largest exponent with which ``peak`` stays at most ``limit``; 0 for what is not finite."""
    if not math.isfinite(peak):
        return 0
    return math.floor(math.log2(limit / max(peak, limit * 2.0**-64)))


def plan_file(digest: str, half: Role) -> Path:
    """File with the plan for a half of the model with this fingerprint."""
    return derived_directory(digest) / f"float16-{half}.json"


def read_plan(digest: str, half: Role, model: Path) -> HalfPlan:
    """The plan that ``dotsctl convert --float16`` has written.

    Args:
        digest: fingerprint of the model.
        half: which half.
        model: its folder.

    Raises:
        MissingError: there is none, or it is damaged; with the command that makes it.
    """
    path, remedy = plan_file(digest, half), f"dotsctl convert {command_name(model)} --float16"
    try:
        plan = from_json(HalfPlan, read_file(path))
    except FileNotFoundError:
        raise MissingError(f"dtype=float16 needs the measured magnitudes of the {half}", f"{remedy}") from None
    except (OSError, WrongValueError) as error:
        raise MissingError(f"{path} cannot be read ({error})", f"{remedy} --force") from None
    if plan.format != FORMAT:
        raise MissingError(f"{path} is of format {plan.format}, this dotsctl reads {FORMAT}", f"{remedy} --force")
    return plan
