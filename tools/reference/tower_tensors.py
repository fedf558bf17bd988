"""The vision tower's tensors straight from safetensors files, one at a time.

The safetensors library cannot give bfloat16 to numpy, and MLX or torch would be large dependencies for that alone.
"""

from pathlib import Path
from typing import Any

import numpy as np
from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.model.checkpoint import tensor_files
from dotsctl.protocol.model.layout import PATCH_WEIGHT
from dotsctl.protocol.model.safetensors_header import StoredTensor, read_header
from dotsctl.protocol.model.stored_layouts import TOWER, canonical_name, patch_matrix
from dotsctl.protocol.parts import Role
from numpy.typing import NDArray

STORED: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


class TowerTensors:
    """Reads a tensor on demand; the files are mapped, not loaded."""

    def __init__(self, model: Path) -> None:
        """Read the headers. Raises MissingError when a file is missing or damaged."""
        self.model = model
        self._places: dict[str, tuple[Path, StoredTensor]] = {}
        for file in tensor_files(model, Role.ENCODER):
            self._places |= {canonical_name(name): (file, tensor) for name, tensor in read_header(file).items()}

    def get(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """One tensor in float32, which holds each of the stored types exactly.

        Args:
            name: without the leading ``vision_tower.``.
            shape: the shape by the configuration; the patch embedding is (embed_dim, 588) whatever its file has.

        Raises:
            MissingError: it is absent, or has another type or shape.
        """
        if TOWER + name not in self._places:
            raise MissingError(f"{self.model} has no tensor {TOWER}{name}", "download the model again")
        file, stored = self._places[TOWER + name]
        if stored.dtype not in STORED:
            raise MissingError(f"{file}: {TOWER}{name} is stored as {stored.dtype}; read are {', '.join(STORED)}")
        values = _read(file, stored)
        if TOWER + name == PATCH_WEIGHT:
            values = patch_matrix(values)  # (embed_dim, 588)
        if values.shape != shape:
            raise MissingError(
                f"{file}: {TOWER}{name} has shape {values.shape}, config.json has {shape}", "download it again"
            )
        return values


def _read(file: Path, stored: StoredTensor) -> NDArray[np.float32]:
    dtype = STORED[stored.dtype]
    raw = np.memmap(file, dtype, "r", stored.start, (stored.size_bytes // dtype.itemsize,))
    if stored.dtype == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32).reshape(stored.shape)
    return raw.astype(np.float32).reshape(stored.shape)
