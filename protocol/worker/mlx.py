"""The description that the two ``mlx`` plugins share before MLX is imported: device, type, requirements."""

import sys
from importlib.util import find_spec

from dotsctl.protocol.errors import REINSTALL
from dotsctl.protocol.machine.libraries import MLX
from dotsctl.protocol.parts import Device

CACHE_MIB = 1024
"""MLX's own limit on a Mac is nearly all of the memory."""
DTYPES = ("float32", "bfloat16", "float16")
DTYPE_HELP = (
    "number format; float16 is for M1 and M2, which emulate bfloat16, after 'dotsctl convert MODEL --float16'; on a "
    "CPU the other two are 40 times slower than float32"
)
DTYPE_DEFAULT = "bfloat16 on a GPU, float32 on a CPU"


def expected_device() -> Device:
    """Return the device that MLX computes on here: the GPU of a Mac, else the CPU."""
    return Device.GPU if sys.platform == "darwin" else Device.CPU


def item_bytes(dtype: str | None) -> int:
    """Return the bytes of a number in memory; ``dtype`` is none where the user has not chosen it."""
    return 4 if (dtype or ("bfloat16" if expected_device() is Device.GPU else "float32")) == "float32" else 2


def unavailable() -> str:
    """Return why MLX cannot run here; empty: it is installed."""
    return "" if find_spec(MLX) else f"MLX is not installed: {REINSTALL}"
