"""Weights as constants of a Core ML program: each read, compressed and held once for all functions of a package.

A constant with the same ``weight_id`` in several functions is written once; coremltools does not find out by itself
while it saves functions that were built side by side.
"""

from collections.abc import Callable
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
"""How matrices are stored, by the name of the option; norms and biases stay as they are."""
NUMPY_TYPES = {"float16": np.float16, "float32": np.float32}


class StoredWeights:
    """Constants of one package. Tensors are read when the first function needs them, and dropped once compressed."""

    def __init__(self, tensors: TowerTensors, precision: str, scheme: str) -> None:
        """Prepare; ``precision`` and ``scheme`` are keys of the tables above."""
        self.dtype: Any = NUMPY_TYPES[precision]
        self._tensors, self._scheme = tensors, SCHEMES[scheme]
        self._held: dict[str, Any] = {}

    def matrix(self, name: str, rows: int, columns: int, third: int | None = None) -> Any:
        """Weight (rows, columns, 1, 1) of a convolution, or the first, second or last third of its rows."""

        def load() -> Matrix:
            values = _third(self._tensors.get(name, (rows, columns)), third)
            return self._narrow(values, name) if self._scheme is None else self._scheme(values)

        key = name if third is None else f"{name}.{third}"
        return self._dense(key, self._hold(key, load))

    def vector(self, name: str, size: int, *, repeat: int = 1, third: int | None = None) -> Any:
        """A norm's weight or a bias, (size,), or a third of it; repeated end to end if asked."""

        def load() -> NDArray[Any]:
            values = np.tile(_third(self._tensors.get(name, (size,)), third), repeat)
            return self._narrow(values, name)

        key = name if third is None else f"{name}.{third}"
        return _constant(key, self._hold(key, load))

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
        """In the package's precision. Raises UsageError for values that it cannot hold."""
        peak = float(np.abs(values).max())
        if not peak <= float(np.finfo(self.dtype).max):
            raise UsageError(f"{name} has the value {peak:g}, too large for float16: convert with precision float32")
        return values.astype(self.dtype)


def mb_name(name: str) -> str:
    """Name of a constant, from the name of a tensor."""
    return name.replace(".", "_")


def _constant(name: str, values: NDArray[Any]) -> Any:
    made = mb.const(val=values, name=mb_name(name))
    made.op.weight_id = name
    return made


def _third(values: NDArray[np.float32], third: int | None) -> NDArray[np.float32]:
    return values if third is None else np.split(values, 3)[third]
