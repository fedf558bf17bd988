"""The operations of the converter's programs in numpy; another one, or another form of one, is an error.

All take and give float32 arrays, or wider; the interpreter rounds results to the type that the program declares.
Source of the definitions: ``coremltools.converters.mil.mil.ops.defs`` of https://github.com/apple/coremltools.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from dotsctl.protocol.errors import CommandFailedError
from numpy.typing import NDArray

Array = NDArray[Any]
Arguments = Mapping[str, Any]
PLAIN_CONV: dict[str, Any] = {"strides": [1, 1], "dilations": [1, 1], "groups": 1, "pad_type": "valid"}
_erf: Any = np.frompyfunc(math.erf, 1, 1)


def require(condition: bool, operation: str, form: object) -> None:
    """Refuse a form of an operation that the converter never writes."""
    if not condition:
        raise CommandFailedError(f"the reference interpreter does not know {operation} with {form}")


def conv(a: Arguments) -> Array:
    """1x1 convolution of (1, in, 1, patches) with (out, in, 1, 1): (1, out, 1, patches)."""
    for key, value in PLAIN_CONV.items():
        require(np.array_equal(a.get(key, value), value), "conv", f"{key} {a.get(key)}")
    x, weight = a["x"], a["weight"]
    require(x.shape[0] == x.shape[2] == 1 and weight.shape[2:] == (1, 1), "conv", f"{x.shape}, {weight.shape}")
    y = weight[:, :, 0, 0] @ x[0, :, 0]  # (out, patches)
    if "bias" in a:
        y += a["bias"][:, None]
    return y[None, :, None]


def matmul(a: Arguments) -> Array:
    """Product of the last two axes, each side transposed on request."""
    x = a["x"].swapaxes(-1, -2) if a.get("transpose_x", False) else a["x"]
    y = a["y"].swapaxes(-1, -2) if a.get("transpose_y", False) else a["y"]
    return np.matmul(x, y)


def softmax(a: Arguments) -> Array:
    """Compute softmax along one axis."""
    y = np.exp(a["x"] - a["x"].max(axis=a["axis"], keepdims=True))
    y /= y.sum(axis=a["axis"], keepdims=True)
    return y


def layer_norm(a: Arguments) -> Array:
    """Normalise over the channels of (1, channels, 1, patches), without scales and shifts."""
    x = a["x"]
    require(not {"gamma", "beta"} & a.keys(), "layer_norm", "scales or shifts")
    require(list(a["axes"]) == [1] and x.ndim == 4, "layer_norm", f"axes {a['axes']}")
    centred = x - x.mean(axis=1, keepdims=True)
    y = centred / np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + np.float32(a["epsilon"]))
    return y


def split(a: Arguments) -> list[Array]:
    """Parts along an axis, of given or of equal sizes."""
    if "split_sizes" in a:
        return np.split(a["x"], np.cumsum(a["split_sizes"])[:-1], axis=a["axis"])
    return np.split(a["x"], int(a["num_splits"]), axis=a["axis"])


def slice_by_size(a: Arguments) -> Array:
    """A piece of given size from a given corner."""
    ends = zip(a["begin"], a["size"], strict=True)
    return a["x"][tuple(slice(begin, begin + size) for begin, size in ends)]


def silu(a: Arguments) -> Array:
    """x times its logistic function."""
    return a["x"] / (1 + np.exp(-a["x"]))


def gelu(a: Arguments) -> Array:
    """Compute GELU with the error function itself."""
    require(a["mode"] == "EXACT", "gelu", f"mode {a['mode']}")
    x = a["x"]
    return x * ((1 + _erf(x * math.sqrt(0.5)).astype(x.dtype)) * x.dtype.type(0.5))


def blockwise_shift_scale(a: Arguments) -> Array:
    """Levels times scales, a scale for each block along each axis."""
    require("offset" not in a, "constexpr_blockwise_shift_scale", "offset")
    levels, scale = a["data"].astype(np.float32), a["scale"]
    for axis in range(levels.ndim):
        scale = np.repeat(scale, levels.shape[axis] // scale.shape[axis], axis=axis)
    return levels * scale


def lut_to_dense(a: Arguments) -> Array:
    """Replace each index by its value in the one table of the tensor."""
    table = a["lut"]
    require(table.size == table.shape[-2], "constexpr_lut_to_dense", f"tables of shape {table.shape}")
    return table.reshape(-1)[a["indices"]]


OPERATIONS: dict[str, Callable[[Arguments], Array | list[Array]]] = {
    "add": lambda a: a["x"] + a["y"],
    "concat": lambda a: np.concatenate(a["values"], axis=a["axis"]),
    "constexpr_blockwise_shift_scale": blockwise_shift_scale,
    "constexpr_lut_to_dense": lut_to_dense,
    "conv": conv,
    "gelu": gelu,
    "layer_norm": layer_norm,
    "matmul": matmul,
    "mul": lambda a: a["x"] * a["y"],
    "reshape": lambda a: a["x"].reshape(a["shape"]),
    "silu": silu,
    "slice_by_size": slice_by_size,
    "softmax": softmax,
    "split": split,
    "transpose": lambda a: a["x"].transpose(a["perm"]),
}
"""The operations by their names in a program; ``const`` is the interpreter's own."""
