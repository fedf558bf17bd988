"""The compute unit ``reference``: executes a function of a saved package with numpy, on any machine.

It proves what a program computes, with the weights as they are stored and with each result rounded to its declared type
once; not what a Neural Engine computes, which may round and add up otherwise inside of an operation. Values are held
in float32, whatever their type, because numpy multiplies float16 matrices slowly; each is freed at its last use.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from dotsctl.encoder_worker.coreml.operations import OPERATIONS
from dotsctl.encoder_worker.coreml.package import DTYPES, Package
from dotsctl.protocol.errors import CommandFailedError
from numpy.typing import NDArray

COPIES = ("concat", "reshape", "transpose")
"""Operations whose results hold the values of their operands, and are not measured."""
EARLY = ("const", "constexpr_")
"""Operations that depend on no input; they are computed when they are needed, not kept."""

Array = NDArray[Any]


class Interpreter:
    """One function of one package. The weights stay on the disk and are expanded one at a time."""

    def __init__(self, package: Path, function: str) -> None:
        """Read the program.

        Raises:
            MissingError: the package is damaged, or has no such function.
            CommandFailedError: the program has an operation that the converter never writes.
        """
        self._package = Package(package)
        message, self._block = self._package.function(function)
        self.inputs = {one.name: _shape_and_type(one.type) for one in message.inputs}
        """Shape and type of each input."""
        self._constants = {op.outputs[0].name: op for op in self._block.operations if op.type.startswith(EARLY)}
        self.steps = [op for op in self._block.operations if not op.type.startswith(EARLY)]
        """The operations that run with each page, as messages of MIL.proto, in order."""
        unknown = {op.type for op in self._block.operations if op.type != "const"} - OPERATIONS.keys()
        if unknown:
            names = ", ".join(sorted(unknown))
            raise CommandFailedError(f"{package} has operations that dotsctl never writes: {names}")
        self._last_use = {name: index for index, op in enumerate(self.steps) for name in _operands(op)}
        self.magnitudes: dict[str, float] = {}
        """Largest magnitude of each computed value over all runs, before rounding, by name; infinite for a value that
        holds something that is not a number."""

    def run(self, inputs: Mapping[str, Array], requested: Iterable[str] = ()) -> dict[str, Array]:
        """Return the function's outputs by name, and the values of other names that are ``requested``, all float32.

        Raises:
            CommandFailedError: inputs of wrong names or shapes, or a name that no value has.
        """
        kept = {*self._block.outputs, *requested}
        values = self._take(inputs)
        found: dict[str, Array] = {}
        with np.errstate(over="ignore", invalid="ignore"):  # float16 overflows become infinite, as on the device
            for index, op in enumerate(self.steps):
                results = self._compute(op, values)
                for output, result in zip(op.outputs, results, strict=True):
                    if op.type not in COPIES:
                        self._measure(output.name, result)
                    values[output.name] = _rounded(result, _shape_and_type(output.type), is_rounded=op.type in COPIES)
                    if output.name in kept:
                        found[output.name] = values[output.name]
                for name in (*_operands(op), *(output.name for output in op.outputs)):
                    if self._last_use.get(name, -1) <= index:
                        values.pop(name, None)
        if missing := kept - found.keys():
            raise CommandFailedError(f"{self._package.path} computes no value {', '.join(sorted(missing))}")
        return found

    def _measure(self, name: str, values: Array) -> None:
        peak = max(float(values.max()), -float(values.min()))
        self.magnitudes[name] = max(math.inf if math.isnan(peak) else peak, self.magnitudes.get(name, 0.0))

    def _take(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs rounded to their declared types."""
        given = {name: values.shape for name, values in inputs.items()}
        expected = {name: shape for name, (shape, _) in self.inputs.items()}
        if given != expected:
            raise CommandFailedError(f"{self._package.path} takes {expected}, it was given {given}")
        return {name: _rounded(values, self.inputs[name]) for name, values in inputs.items()}

    def _compute(self, op: Any, values: Mapping[str, Array]) -> list[Array]:
        """Results of one operation, not rounded."""
        arguments: dict[str, Any] = {}
        for key, argument in op.inputs.items():
            operands = [self._operand(binding, values) for binding in argument.arguments]
            arguments[key] = operands if key == "values" else operands[0]
        results = OPERATIONS[op.type](arguments)
        return results if isinstance(results, list) else [results]

    def _operand(self, binding: Any, values: Mapping[str, Array]) -> Any:
        """A computed value, or a constant: an array in float32 if it is of floating point."""
        if binding.WhichOneof("binding") == "value":
            return _widened(self._package.value(binding.value))
        if binding.name in values:
            return values[binding.name]
        op = self._constants[binding.name]
        if op.type == "const":
            return _widened(self._package.value(op.attributes["val"]))
        return _rounded(self._compute(op, values)[0], _shape_and_type(op.outputs[0].type))


def _operands(op: Any) -> list[str]:
    """Names of the values that an operation takes."""
    bindings = (binding for argument in op.inputs.values() for binding in argument.arguments)
    return [binding.name for binding in bindings if binding.WhichOneof("binding") == "name"]


def _shape_and_type(message: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    tensor = message.tensorType
    return tuple(d.constant.size for d in tensor.dimensions), DTYPES[tensor.dataType]


def _widened(value: Any) -> Any:
    return value.astype(np.float32) if isinstance(value, np.ndarray | np.floating) and value.dtype == "f2" else value


def _rounded(values: Array, declared: tuple[tuple[int, ...], np.dtype[Any]], *, is_rounded: bool = False) -> Array:
    """Return float32 values, rounded to the declared type unless they are rounded already.

    Raises:
        CommandFailedError: they have another shape than the declared one.
    """
    shape, dtype = declared
    if values.shape != shape:
        raise CommandFailedError(f"a value of shape {values.shape} is declared as {shape}: the package is damaged")
    if dtype == np.float16 and not is_rounded:
        with np.errstate(over="ignore"):
            return values.astype(np.float16).astype(np.float32)
    return values.astype(np.float32, copy=False)
