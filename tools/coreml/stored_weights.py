"""Weights as constants of a Core ML program: each read, compressed and held once for all functions of a package.

A constant with the same ``weight_id`` in several functions is written once; coremltools does not detect by itself
while it saves functions that were built side by side.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types
from dotsctl.protocol.errors import UsageError
from dotsctl.tools.coreml.compressed_weights import Palette, Scaled, palette, scaled_int4, scaled_int8
from dotsctl.tools.reference.tower_tensors import TowerTensors
from numpy.typing import NDArray

Matrix = NDArray[Any] | Scaled | Palette
SCHEMES: dict[str, Callable[[NDArray[np.float32]], Scaled | Palette] | None] = {
    "same": None,
    "int8": lambda matrix: scaled_int8(matrix, per_tensor=False),
    "int8-per-tensor": lambda matrix: scaled_int8(matrix, per_tensor=True),
    "int4": scaled_int4,
    "palette6": palette,
}
"""The ways to store matrices, by the name of the option; norms and biases stay as they are."""
UNFOLDED = frozenset(SCHEMES) - {"same"}
"""Schemes in which a norm's scales stay outside of the matrices: a column that is scaled up takes the few levels of its
neighbours."""
FIRST_LAYER = "blocks.0."
"""The layer whose errors go through all other layers, so int4 stores it in 8 bits: on print, a smallest cosine of 0.964
instead of 0.943 with the demo model."""
NUMPY_TYPES = {"float16": np.float16, "float32": np.float32}


@dataclass(frozen=True)
class Affine:
    """Scales, and shifts if there are any, of a norm whose result goes into a matrix.

    A matrix may take several results of the norm side by side, as the merger does: its columns repeat the scales.
    """

    name: str
    """The name of the norm's module: ``NAME.weight`` are the scales, ``NAME.bias`` the shifts."""
    width: int
    """Channels of the norm."""

    def scales(self, tensors: TowerTensors, columns: int) -> NDArray[np.float32]:
        """(columns,) of the matrix."""
        return np.tile(tensors.get(f"{self.name}.weight", (self.width,)), columns // self.width)

    def shifts(self, tensors: TowerTensors, columns: int) -> NDArray[np.float32]:
        """(columns,) of the matrix."""
        return np.tile(tensors.get(f"{self.name}.bias", (self.width,)), columns // self.width)


class StoredWeights:
    """Constants of one package. Tensors are read when the first function needs them, and dropped once compressed."""

    def __init__(
        self, tensors: TowerTensors, precision: str, scheme: str, exponents: Mapping[str, int] | None = None
    ) -> None:
        """Prepare.

        Args:
            tensors: of the checkpoint.
            precision: a key of ``NUMPY_TYPES``.
            scheme: a key of ``SCHEMES``.
            exponents: a tensor is multiplied by ``2**exponent`` before it is stored. Names are those that
                ``TowerTensors.get`` takes, as ``blocks.3.mlp.fc2.weight``; one third of the rows of a tensor has its
                own entry, added to that of the tensor: ``blocks.3.attn.qkv.weight.2`` are the values' rows.
        """
        self.dtype: Any = NUMPY_TYPES[precision]
        self._tensors, self._scheme = tensors, SCHEMES[scheme]
        self.folds_scales = scheme not in UNFOLDED
        """Whether the scales of an RMSNorm are folded into the matrices behind it."""
        self._exponents = dict(exponents or {})
        self._held: dict[str, Any] = {}

    def exponent(self, name: str, third: int | None = None) -> int:
        """The power of two that a tensor, or a third of it, is multiplied by."""
        own = 0 if third is None else self._exponents.get(f"{name}.{third}", 0)
        return self._exponents.get(name, 0) + own

    def matrix(
        self, name: str, rows: int, columns: int, *, third: int | None = None, norm: Affine | None = None
    ) -> Any:
        """Weight (rows, columns, 1, 1) of a convolution, or the first, second or last third of its rows.

        Args:
            name: of the tensor.
            rows: of the tensor.
            columns: of the tensor.
            third: which third of the rows; none: all rows.
            norm: the norm in front of the matrix, whose scales are folded into its columns.
        """

        def load() -> Matrix:
            values = self._scaled(name, (rows, columns), third)
            if norm is not None:
                values = values * norm.scales(self._tensors, columns)
            scheme = SCHEMES["int8"] if self._scheme is scaled_int4 and name.startswith(FIRST_LAYER) else self._scheme
            return self._narrow(values, name) if scheme is None else scheme(values)

        key = name if third is None else f"{name}.{third}"
        return self._dense(key, self._hold(key, load))

    def vector(self, name: str, size: int, *, third: int | None = None) -> Any:
        """A bias, (size,), or a third of it."""
        key = name if third is None else f"{name}.{third}"
        return _constant(key, self._hold(key, lambda: self._narrow(self._scaled(name, (size,), third), name)))

    def channel_scales(self, name: str, size: int) -> Any:
        """A norm's weight, (1, size, 1, 1), as a factor of (1, size, 1, patches)."""
        held = self._hold(name, lambda: self._narrow(self._scaled(name, (size,), None), name))
        return _constant(name, held[None, :, None, None])

    def folded_bias(self, name: str, columns: int, norm: Affine) -> Any:
        """The bias (rows,) of a square matrix (rows, columns) behind a norm whose shifts are folded into it."""

        def load() -> NDArray[Any]:
            matrix = self._scaled(f"{name}.weight", (columns, columns), None)
            shifts = norm.shifts(self._tensors, columns).astype(np.float64)
            bias = self._scaled(f"{name}.bias", (columns,), None)
            return self._narrow((bias + matrix @ shifts).astype(np.float32), f"{name}.bias")

        return _constant(f"{name}.bias", self._hold(f"{name}.bias", load))

    def _scaled(self, name: str, shape: tuple[int, ...], third: int | None) -> NDArray[np.float32]:
        """A tensor of the checkpoint, or a third of its rows, times its power of two."""
        values = self._tensors.get(name, shape)
        values = values if third is None else np.split(values, 3)[third]
        exponent = self.exponent(name, third)
        return np.ldexp(values, exponent) if exponent else values

    def _hold(self, key: str, load: Callable[[], Any]) -> Any:
        if key not in self._held:
            self._held[key] = load()
        return self._held[key]

    def _dense(self, name: str, stored: Matrix) -> Any:
        """The matrix as the convolution takes it, with the operation that undoes its compression."""
        if isinstance(stored, Scaled):
            dtype = np.dtype(np.int8) if stored.bits == 8 else types.np_int4_dtype
            levels = _constant(f"{name}.levels", stored.levels.view(dtype)[:, :, None, None])
            scales = _constant(f"{name}.scales", self._narrow(stored.scales, name)[:, :, None, None])
            return mb.constexpr_blockwise_shift_scale(data=levels, scale=scales, name=mb_name(f"{name}.dense"))
        if isinstance(stored, Palette):
            indices = _constant(f"{name}.indices", stored.indices.view(types.np_uint6_dtype)[:, :, None, None])
            colours = self._narrow(stored.colours, name)[None, None, None, None, :, None]  # (1, 1, 1, 1, 64, 1)
            table = _constant(f"{name}.colours", colours)
            return mb.constexpr_lut_to_dense(indices=indices, lut=table, name=mb_name(f"{name}.dense"))
        return _constant(name, stored[:, :, None, None])

    def _narrow(self, values: NDArray[np.float32], name: str) -> NDArray[Any]:
        """Return values in the package's precision. Raises UsageError for values that it cannot hold."""
        peak = float(np.abs(values).max())
        if not peak <= float(np.finfo(self.dtype).max):
            raise UsageError(f"{name} has the value {peak:g}, too large for float16", "convert with precision float32")
        return values.astype(self.dtype)


def mb_name(name: str) -> str:
    """Name of a constant, from the name of a tensor."""
    return name.replace(".", "_")


def _constant(name: str, values: NDArray[Any]) -> Any:
    made = mb.const(val=values, name=mb_name(name))
    made.op.weight_id = name
    return made
