"""The one way to call ``predict``: with input arrays that are never freed.

Core ML keeps the inputs of a prediction for about a second after it and then drops its reference on a queue of its own,
in coremltools 9.0 without the interpreter's lock. If that reference is the last one, the array is freed there, which
corrupts Python's heap and ends the process. Two measures: this module owns every input array until the process ends,
and it makes the reference count so large, or immortal, that an update lost between two threads cannot bring it to zero.
Source: ``coremlpython/CoreMLPythonArray.mm`` and the pull requests 2827 and 2829 of
https://github.com/apple/coremltools.
"""

import ctypes
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from dotsctl.protocol.errors import CommandFailedError
from numpy.typing import NDArray

Shape = tuple[int, ...]
IMMORTAL = 3 << 30
"""The reference count of an immortal object in Python 3.12 and later, where its lower 32 bits alone count."""
MANY = 1 << 30
"""References that are added in Python 3.11, which has no immortal objects. Two threads may lose one update in each
prediction; so many are never lost."""
_owned: dict[tuple[str, Shape], NDArray[np.float32]] = {}
"""All input arrays of this process by name and shape. Functions of one shape share them: each prediction is over before
the next one is prepared, and Core ML reads no input after it."""


def owned_input(name: str, shape: Shape) -> NDArray[np.float32]:
    """Return the input array of this name and shape, float32; it lives as long as the process."""
    key = (name, shape)
    if key not in _owned:
        array = np.zeros(shape, np.float32)
        _keep_for_ever(array)
        _owned[key] = array
    return _owned[key]


def predict(model: Any, inputs: Mapping[str, NDArray[np.floating]]) -> dict[str, NDArray[np.float32]]:
    """Compute one function; the inputs are copied into owned arrays.

    Args:
        model: a ``coremltools.models.CompiledMLModel``.
        inputs: the values by name, converted to float32: the bindings take no float16.

    Returns:
        The outputs by name, float32, contiguous.

    Raises:
        CommandFailedError: Core ML cannot compute it; with its own text.
    """
    arrays = {name: owned_input(name, values.shape) for name, values in inputs.items()}
    for name, values in inputs.items():
        np.copyto(arrays[name], values)
    try:
        return model.predict(arrays)
    except Exception as error:  # the bindings raise RuntimeError and others, with the framework's own text
        text = " ".join(str(error).split())
        raise CommandFailedError(f"Core ML cannot compute a prediction ({text})", "use --encoder mlx") from error


def _keep_for_ever(array: NDArray[Any]) -> None:
    """Make an array's reference count one that does not reach zero. Free-threaded builds have no coremltools."""
    address = id(array)  # of the object in CPython; its first word is the count
    if sys.version_info >= (3, 12):
        ctypes.c_uint32.from_address(address).value = IMMORTAL
    else:
        ctypes.c_ssize_t.from_address(address).value += MANY
