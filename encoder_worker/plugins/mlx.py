"""The encoder plugin ``mlx``: the vision tower on the GPU of a Mac, or on the CPU under Linux.

Nothing of MLX is imported before ``load``: a fast BLAS must come first, and a missing MLX must be an error that
says what to install.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from dotsctl.encoder_worker.blank import is_blank
from dotsctl.encoder_worker.image import DEVIATION, MEAN, MERGE, PATCH_PX, decode_image, patchify
from dotsctl.encoder_worker.plugin import BlankPage, EncodedPage, EncoderSpec, PageImage, Report
from dotsctl.protocol.blas import preload_blas
from dotsctl.protocol.checkpoint import read_json, tensor_files
from dotsctl.protocol.checkpoint_validation import validate_checkpoint
from dotsctl.protocol.errors import MissingError, PageError, UsageError
from dotsctl.protocol.geometry import PixelLimits, fit
from dotsctl.protocol.memory import encoder_need, require_memory
from dotsctl.protocol.model_directory import fingerprint
from PIL import Image

OPTIONS = {
    "query_chunk": "patches that attend at a time, 0 for all at once; less memory against less speed",
}
FREED_BYTES = 1 << 30
"""Buffers that MLX may keep for reuse; its own limit on a Mac is nearly all of the memory."""
CPU_QUERY_CHUNK = 256
"""Measured on Linux: as fast as whole pages, and 77 MB instead of 856 MB of scores for 4096 patches."""
GPU_QUERY_CHUNK = 1024
"""Where the head's width has no fused kernel."""


class MLXEncoder:
    """Reads a dots.ocr snapshot as it is. Float32 on a CPU, bfloat16 on a GPU."""

    def __init__(self) -> None:
        self._tower: Any = None
        self._mx: Any = None
        self._limits = PixelLimits()

    def load(self, model: Path, options: dict[str, str], report: Report) -> EncoderSpec:
        """Load the tower; see :class:`dotsctl.encoder_worker.plugin.Encoder`.

        Raises:
            UsageError: an unknown option, a value that is no number, or a model of another kind.
            MissingError: MLX is not installed, the model is broken, or too large for this machine.
        """
        query_chunk = _read_options(options)
        facts = validate_checkpoint(model)
        self._limits = read_limits(model)
        content = read_json(model, "config.json").get("vision_config", {})
        blas = preload_blas()
        report(f"matrix products: {blas or 'as MLX brings them'}")
        try:
            import mlx.core as mx
            from dotsctl.encoder_worker.plugins import vision_tower
        except ImportError as error:
            raise MissingError(f"MLX cannot be imported ({error}): pip install 'dotsctl[all]'") from None
        self._mx = mx
        mx.set_cache_limit(FREED_BYTES)
        config = vision_tower.VisionConfig.from_json(content)
        on_gpu = mx.default_device().type == mx.DeviceType.gpu
        require_memory(encoder_need(facts, item_bytes=2 if on_gpu else 4))
        if query_chunk is None:
            fused = config.head_dim in vision_tower.FUSED_HEAD_DIMS
            query_chunk = CPU_QUERY_CHUNK if not on_gpu else 0 if fused else GPU_QUERY_CHUNK
        report("computing the model's fingerprint")
        digest = fingerprint(model)
        report("loading the vision tower")
        files = [str(file) for file in tensor_files(model, vision_tower.PREFIXES)]
        self._tower = vision_tower.load_tower(config, files, mx.bfloat16 if on_gpu else mx.float32, query_chunk)
        return EncoderSpec(digest, config.hidden_size, "bf16" if on_gpu else "<f4")

    def encode(self, images: Sequence[PageImage]) -> list[EncodedPage]:
        """Encode the images of a request; see :class:`dotsctl.encoder_worker.plugin.Encoder`.

        Timings are ``decode`` (file to pixels), ``resize`` (to patches) and ``encode`` (the tower), in milliseconds.

        Raises:
            PageError: an image is no readable picture, or cannot be resized.
            BlankPage: nothing is on the page, and the client wanted to know.
        """
        return [self._encode(image) for image in images]

    def _encode(self, page: PageImage) -> EncodedPage:
        start = time.perf_counter()
        image, source, orientation = _open(page)
        decoded = time.perf_counter()
        limits = _lowered(self._limits, page.max_pixels)
        if page.check_blank and is_blank(image):
            raise BlankPage(fit(source, orientation, limits))
        patches = patchify(image, source, orientation, limits)
        resized = time.perf_counter()
        embeddings = self._tower(self._mx.array(patches.values).astype(self._dtype), patches.grid)
        if embeddings.dtype == self._mx.bfloat16:  # numpy has no such type: its bits travel
            embeddings = embeddings.view(self._mx.uint16)
        values = np.array(embeddings)  # (num_embeddings, width)
        encoded = time.perf_counter()
        timings_ms = {
            "open": (decoded - start) * 1e3,
            "resize": (resized - decoded) * 1e3,
            "encode": (encoded - resized) * 1e3,
        }
        return EncodedPage(values, patches.grid, patches.geometry, timings_ms)

    @property
    def _dtype(self) -> Any:
        return self._tower.patch_embed.patchifier.proj.weight.dtype

    def close(self) -> None:
        """Free the tower and MLX's unused buffers."""
        self._tower = None
        if self._mx is not None:
            self._mx.clear_cache()


def _read_options(options: dict[str, str]) -> int | None:
    """The query chunk, or none where the user leaves it to us."""
    if unknown := sorted(options.keys() - OPTIONS.keys()):
        known = "; ".join(f"{key}: {meaning}" for key, meaning in OPTIONS.items())
        raise UsageError(f"encoder mlx has no option {', '.join(unknown)}. It knows {known}")
    if (text := options.get("query_chunk")) is None:
        return None
    if not text.isdecimal():
        raise UsageError(f"encoder mlx: query_chunk={text!r} is no number of patches; write query_chunk=256, 0 for all")
    return int(text)


def read_limits(model: Path) -> PixelLimits:
    """Pixel limits from preprocessor_config.json.

    Raises:
        UsageError: the file asks for another preparation of pages than that of dots.ocr.
        MissingError: the file is missing.
    """
    content = read_json(model, "preprocessor_config.json")
    ours = {
        "image_mean": list(MEAN),
        "image_std": list(DEVIATION),
        "patch_size": PATCH_PX,
        "merge_size": MERGE,
        "temporal_patch_size": 1,
    }
    for key, value in ours.items():
        if content.get(key, value) != value:
            raise UsageError(f"preprocessor_config.json: {key} is {content[key]}, pages are prepared with {value} only")
    standard = PixelLimits()
    try:
        return PixelLimits(
            int(content.get("min_pixels", standard.min_pixels)), int(content.get("max_pixels", standard.max_pixels))
        )
    except (TypeError, ValueError) as error:
        raise UsageError(f"preprocessor_config.json: {error}") from None


def _lowered(limits: PixelLimits, max_pixels: int | None) -> PixelLimits:
    """The model's limits with the user's limit, which can only lower the upper one."""
    if max_pixels is None or max_pixels >= limits.max_pixels:
        return limits
    return PixelLimits(min(limits.min_pixels, max_pixels), max_pixels)


def _open(page: PageImage) -> tuple[Image.Image, tuple[int, int], int]:
    """Upright RGB image, its stored (width, height), its EXIF orientation."""
    if page.pixels is not None:
        image = Image.fromarray(page.pixels)  # (height, width, 3) uint8
        return image, image.size, 1
    if page.content is None:
        raise PageError("the page has neither a file nor pixels")
    return decode_image(page.content)
