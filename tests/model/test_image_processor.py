"""The pixel pipeline against that of transformers."""

import logging
import warnings

import numpy as np
import pytest
from dotsctl.encoder_worker.image import patchify
from dotsctl.protocol.geometry import PixelLimits
from PIL import Image

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def processor() -> object:
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what transformers says of itself while it is imported
        module = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
    return module.Qwen2VLImageProcessorPil(
        min_pixels=3136, max_pixels=300_000, patch_size=14, temporal_patch_size=1, merge_size=2
    )


@pytest.mark.parametrize("size", [(28, 28), (100, 37), (333, 517), (1000, 900), (29, 600), (41, 15)])
def test_patches_equal_those_of_transformers_bit_for_bit(processor, size: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    expected = processor(images=[image], return_tensors="np")
    found = patchify(image, size, 1, PixelLimits(3136, 300_000))
    assert expected["image_grid_thw"].tolist() == [[1, *found.grid]]
    assert np.array_equal(found.values, expected["pixel_values"])
