"""The encoder plugin ``mlx``: the vision tower on the GPU of a Mac, or on the CPU under Linux.

Nothing of MLX is imported before ``load``: a fast BLAS must come first, and a missing MLX must be an error that names
what to install. Nor is numpy: the command line imports this module for its description.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dotsctl.encoder_worker.plugin import EncodedPage, EncoderSpec, PageImage, Report
from dotsctl.encoder_worker.plugins.mlx_options import MLXEncoderOptions
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.protocol.errors import REINSTALL, MissingError
from dotsctl.protocol.geometry import PixelLimits
from dotsctl.protocol.machine.memory import encoder_need, require_memory
from dotsctl.protocol.model.checkpoint import read_json, tensor_files
from dotsctl.protocol.model.directory import fingerprint
from dotsctl.protocol.model.half_precision import read_plan
from dotsctl.protocol.model.validation import validate_checkpoint
from dotsctl.protocol.parts import Device, Role
from dotsctl.protocol.worker import mlx as mlx_facts
from dotsctl.protocol.worker.blas import preload_blas
from dotsctl.protocol.worker.plugins import PluginDescription

if TYPE_CHECKING:
    from dotsctl.encoder_worker.image import Patches

WIRE_DTYPES = {"float32": "<f4", "bfloat16": "bf16", "float16": "<f2"}
"""Type of the embeddings on the wire, by the option ``dtype``."""


class MLXEncoder:
    """Reads a dots.ocr snapshot as it is. Float32 on a CPU, bfloat16 on a GPU, by default."""

    description = PluginDescription(
        help="The vision encoder on the GPU of a Mac, or on the CPU under Linux; takes pages of any size.",
        options=MLXEncoderOptions,
        memory=lambda facts, options: encoder_need(facts, mlx_facts.item_bytes(options.dtype)),
        available=lambda options: mlx_facts.unavailable(),
        device=lambda options: mlx_facts.expected_device(),
    )

    def __init__(self) -> None:
        self._runner: Any = None
        self._mx: Any = None
        self._limits = PixelLimits()

    def load(self, model: Path, options: MLXEncoderOptions, report: Report) -> EncoderSpec:
        """Load the tower; see :class:`dotsctl.encoder_worker.plugin.Encoder`, and ``mlx_options`` for the options.

        Raises:
            UsageError: a model of another kind, or one that float16 cannot compute.
            MissingError: MLX is not installed, the model is broken, or too large for this machine; or its magnitudes,
                which ``dtype=float16`` needs, were not measured.
        """
        from dotsctl.encoder_worker.opening import read_limits

        facts = validate_checkpoint(model)
        self._limits = read_limits(model)
        config = VisionConfig.from_json(read_json(model, "config.json").get("vision_config", {}))
        blas = preload_blas()
        report(f"BLAS: {blas or 'built into MLX'}")
        try:
            import mlx.core as mx
            from dotsctl.encoder_worker.plugins import tower_runner, vision_tower, vision_weights
        except ImportError as error:
            raise MissingError(f"MLX cannot be imported ({error})", REINSTALL) from None
        self._mx = mx
        mx.set_cache_limit(options.mlx_cache_mib << 20)
        on_gpu = mx.default_device().type == mx.DeviceType.gpu
        chosen = options.on(on_gpu, config.head_dim in vision_tower.FUSED_HEAD_DIMS)
        dtype = {"float32": mx.float32, "bfloat16": mx.bfloat16, "float16": mx.float16}[str(chosen.dtype)]
        require_memory(encoder_need(facts, item_bytes=dtype.size))
        report("computing the model's fingerprint")
        digest = fingerprint(model)
        plan = vision_weights.UNSCALED
        if dtype == mx.float16:
            plan = read_plan(digest, Role.ENCODER, model)
            plan.require_possible("use --encoder mlx:dtype=bfloat16")
            report(f"float16: {plan.imprecise or 'measured and exact enough'}")
        report("loading the vision tower")
        files = [str(file) for file in tensor_files(model, Role.ENCODER)]
        tower = vision_weights.load_tower(config, files, dtype, bool(chosen.compile), plan)
        self._runner = tower_runner.TowerRunner(
            tower, config, dtype, chosen.query_chunk or 0, chosen.pack_patches, on_gpu
        )
        device = Device.GPU if on_gpu else Device.CPU
        return EncoderSpec(digest, config.hidden_size, WIRE_DTYPES[str(chosen.dtype)], device=device)

    def prepare(self, image: PageImage) -> "tuple[Patches, dict[str, float]]":
        """Return the patches of an image, and the milliseconds of ``open`` (file to pixels) and ``resize``.

        Raises:
            PageError: the image is no readable picture, or cannot be resized.
            BlankPage: nothing is on the page, and the client requested this check.
        """
        from dotsctl.encoder_worker.opening import prepare_page

        return prepare_page(image, self._limits)

    def encode(self, images: "Sequence[tuple[Patches, dict[str, float]]]") -> list[EncodedPage]:
        """Encode the prepared images of a request; see :class:`dotsctl.encoder_worker.plugin.PreparingEncoder`.

        To the timings of :meth:`prepare` comes ``encode``: the tower, each image's share by its patches.

        Raises:
            PageError: an image does not fit into memory.
        """
        pages = [patches for patches, _ in images]
        start = time.perf_counter()
        embeddings = self._runner.encode([page.values for page in pages], [page.grid for page in pages])
        share_ms = (time.perf_counter() - start) * 1e3 / max(1, sum(len(page.values) for page in pages))
        return [
            EncodedPage(rows, page.grid, page.geometry, timings | {"encode": share_ms * len(page.values)})
            for rows, (page, timings) in zip(embeddings, images, strict=True)
        ]

    def close(self) -> None:
        """Free the tower and MLX's unused buffers."""
        self._runner = None
        if self._mx is not None:
            self._mx.clear_cache()
