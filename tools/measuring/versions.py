"""Versions of Python and of the libraries that a measurement depends on."""

import platform
from importlib.metadata import PackageNotFoundError, version

from dotsctl.protocol.machine.libraries import COREMLTOOLS, MLX, MLX_LM

LIBRARIES = (
    "dotsctl",
    MLX,
    MLX_LM,
    "mlx-vlm",
    "torch",
    "transformers",
    COREMLTOOLS,
    "numpy",
    "pillow",
    "tokenizers",
)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that are installed, by name."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
