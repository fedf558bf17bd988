"""The MLX tower of a checkpoint outside of a worker, and a way to keep what one of its modules gives."""

from pathlib import Path
from typing import Any

import mlx.core as mx
from dotsctl.encoder_worker.plugins.mlx_options import MLXEncoderOptions
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.encoder_worker.plugins.vision_tower import FUSED_HEAD_DIMS, VisionTower
from dotsctl.encoder_worker.plugins.vision_weights import load_tower
from dotsctl.protocol.model.checkpoint import read_json, tensor_files
from dotsctl.protocol.parts import Role

DTYPES = {"float32": mx.float32, "bfloat16": mx.bfloat16}


def open_tower(folder: Path, dtype: str) -> tuple[VisionTower, int]:
    """The tower, and the query chunk that the encoder would use here."""
    config = VisionConfig.from_json(read_json(folder, "config.json").get("vision_config", {}))
    on_gpu = mx.default_device().type == mx.DeviceType.gpu
    chosen = MLXEncoderOptions().on(on_gpu, config.head_dim in FUSED_HEAD_DIMS)
    files = [str(file) for file in tensor_files(folder, Role.ENCODER)]
    return load_tower(config, files, DTYPES[dtype]), chosen.query_chunk or 0


class Recorder:
    """Replaces a module and keeps its output."""

    def __init__(self, module: Any, stage: str, kept: dict[str, mx.array]) -> None:
        self._module, self._stage, self._kept = module, stage, kept

    def __call__(self, *args: Any, **kwargs: Any) -> mx.array:
        """Call the module."""
        self._kept[self._stage] = self._module(*args, **kwargs)
        return self._kept[self._stage]
