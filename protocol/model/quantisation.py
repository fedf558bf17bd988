"""The ways to store matrices of the decoder in a few bits, and what config.json says about them.

A row of a matrix is divided into groups. A group has one scale, and in the mode ``affine`` an offset. The levels of a
row are packed into 32-bit words. The file holds three tensors for a matrix: ``X.weight`` (rows, columns * bits / 32)
U32, ``X.scales`` (rows, columns / group_size), and for ``affine`` ``X.biases`` of the same shape.

Sources: ``mlx.core.quantize`` of MLX 0.32; ``quant_utils.py`` of mlx-vlm 0.7.10, which writes config.json.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.model.layout import Shape
from dotsctl.protocol.model.stored_layouts import canonical_name
from dotsctl.protocol.typed_values import brief

AFFINE = "affine"
LEVELS, SCALES, OFFSETS = ".weight", ".scales", ".biases"
"""Ends of the names of the three tensors of a matrix."""
WORD = "U32"
"""Type of the packed levels."""
WORD_BITS = 32
KEYS = ("quantization", "quantization_config")
"""Keys of config.json; mlx-vlm writes the same below both."""


@dataclass(frozen=True)
class Mode:
    """A mode of MLX, and what it can have."""

    bits: tuple[int, ...]
    group_sizes: tuple[int, ...]
    default_group_size: int
    default_bits: int
    is_affine: bool = False
    """Whether scales and offsets are numbers of the weights' own type; else a scale is one byte, without offset."""


MODES = {
    AFFINE: Mode((2, 3, 4, 5, 6, 8), (32, 64, 128), 64, 4, is_affine=True),
    "mxfp4": Mode((4,), (32,), 32, 4),
    "mxfp8": Mode((8,), (32,), 32, 8),
    "nvfp4": Mode((4,), (16,), 16, 4),
}


@dataclass(frozen=True)
class Quantisation:
    """The storage of the weights of a matrix."""

    bits: int
    """The bits of a level."""
    group_size: int
    """Weights of a row that share a scale."""
    mode: str = AFFINE
    """A key of ``MODES``."""

    def __post_init__(self) -> None:
        known = MODES.get(self.mode)
        if known is None:
            raise UsageError(f"the mode {brief(self.mode)} is not known", f"use {_either(tuple(MODES))}")
        if self.bits not in known.bits or self.group_size not in known.group_sizes:
            raise UsageError(
                f"{self.mode} of {brief(self.bits)} bits in groups of {brief(self.group_size)} is not supported: bits "
                f"are {_either(known.bits)}, groups are of {_either(known.group_sizes)}"
            )

    @property
    def kind(self) -> str:
        """The name as in the names of builds: ``4bit``, ``mxfp4``."""
        return f"{self.bits}bit" if self.is_affine else self.mode

    @property
    def is_affine(self) -> bool:
        """Tell whether each group has an offset."""
        return MODES[self.mode].is_affine

    @property
    def parts(self) -> tuple[str, ...]:
        """Ends of the names of the tensors of a matrix."""
        return (LEVELS, SCALES, OFFSETS) if self.is_affine else (LEVELS, SCALES)

    def shapes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shape of each tensor of a matrix, by the end of its name.

        Args:
            shape: rows and columns of the matrix; the columns are a multiple of the group size.
        """
        rows, columns = shape
        groups = (rows, columns // self.group_size)
        words = (rows, columns * self.bits // WORD_BITS)
        return {part: words if part == LEVELS else groups for part in self.parts}

    def weight_bytes(self, item_bytes: int) -> float:
        """Return the bytes of one weight with its share of scale and offset.

        Args:
            item_bytes: of a number that the network computes with, in which affine scales and offsets are held.
        """
        shared = 2 * item_bytes if self.is_affine else 1
        return self.bits / 8 + shared / self.group_size

    @property
    def option(self) -> str:
        """The key of ``KINDS``, where it is there: the value of the option ``bits`` that names it."""
        return str(self.bits) if self.is_affine else self.mode

    @property
    def has_usual_groups(self) -> bool:
        """Tell whether the size of the groups need not be named."""
        return KINDS.get(self.option) == self


KINDS = {
    "4": Quantisation(4, 64),
    "5": Quantisation(5, 64),
    "6": Quantisation(6, 64),
    "8": Quantisation(8, 64),
    "mxfp4": Quantisation(4, 32, "mxfp4"),
    "mxfp8": Quantisation(8, 32, "mxfp8"),
    "nvfp4": Quantisation(4, 16, "nvfp4"),
}
"""The kinds that a decoder can be converted to, by the value of ``bits``; affine ones may have other groups."""


def chosen_quantisation(bits: str, group_size: int | None = None) -> Quantisation:
    """Return what options name.

    Args:
        bits: a key of ``KINDS``.
        group_size: weights that share a scale; none: the usual number.

    Raises:
        UsageError: there is no such kind, or not with these groups.
    """
    if bits not in KINDS:
        raise UsageError(f"bits={brief(bits)} is not supported", f"use {_either(tuple(KINDS))}")
    return replace(KINDS[bits], group_size=group_size) if group_size else KINDS[bits]


@dataclass(frozen=True)
class StoredQuantisation:
    """The storage of the matrices of a checkpoint as config.json states it, of those that have ``.scales``."""

    default: Quantisation | None = None
    exceptions: Mapping[str, Quantisation] = field(default_factory=dict)
    """Other storage by the published name of the matrix, as ``model.layers.0.mlp.down_proj``."""

    def of(self, matrix: str) -> Quantisation | None:
        """Return the storage of a matrix that has scales; none: config.json does not say."""
        return self.exceptions.get(matrix, self.default)


def stored_quantisation(config: Mapping[str, Any]) -> StoredQuantisation:
    """Read what config.json says.

    Raises:
        UsageError: another program quantised the weights, or a value is none that MLX has.
    """
    key = next((key for key in KEYS if config.get(key)), None)
    if key is None:
        return StoredQuantisation()
    section = config[key]
    if not isinstance(section, dict):
        raise UsageError(f"{key} is {brief(section)}, not an object")
    if method := section.get("quant_method"):
        raise UsageError(f"{key} names the method {brief(method)}, and MLX has only {_either(tuple(MODES))}")
    exceptions = {
        canonical_name(path + LEVELS).removesuffix(LEVELS): _entry(f"{key}: {path}", entry)
        for path, entry in section.items()
        if isinstance(entry, dict)
    }
    default = _entry(key, section) if {"bits", "group_size", "mode"} & section.keys() else None
    return StoredQuantisation(default, exceptions)


def _entry(where: str, entry: dict[str, Any]) -> Quantisation:
    mode = entry.get("mode", AFFINE)
    known = MODES.get(mode) if isinstance(mode, str) else None
    bits = entry.get("bits", known and known.default_bits)
    group_size = entry.get("group_size", known and known.default_group_size)
    if type(bits) is not int or type(group_size) is not int:  # true is an int in Python, and no number in JSON
        raise UsageError(f"{where}: mode {brief(mode)}, bits {brief(bits)}, group_size {brief(group_size)} are unknown")
    try:
        return Quantisation(bits, group_size, mode)
    except UsageError as error:
        raise UsageError(f"{where}: {error.problem}") from None


def _either(values: tuple[Any, ...]) -> str:
    return " or ".join(filter(None, [", ".join(map(str, values[:-1])), str(values[-1])]))
