"""The pixel pipeline against that of transformers: pixel values, not resampling or normalisation apart."""

import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from dotsctl.encoder_worker.image import patchify
from dotsctl.protocol.geometry import PixelLimits
from PIL import Image

pytestmark = pytest.mark.model

SMALL = PixelLimits(3136, 300_000)
NARROW = PixelLimits(60_000, 80_000)
"""Nearly every page has to grow or to shrink."""
STANDARD = PixelLimits()
"""Those of dots.ocr."""
CASES = [
    # Whole cells, and sides that are no multiple of one.
    (SMALL, (28, 28)),
    (SMALL, (100, 37)),
    (SMALL, (333, 517)),
    (SMALL, (29, 600)),
    (SMALL, (255, 131)),
    (SMALL, (561, 475)),
    # Halves of a cell, which round to the even neighbour: 42 to 56, 70 to 56, 98 to 112, 126 to 112.
    (SMALL, (42, 70)),
    (SMALL, (70, 42)),
    (SMALL, (70, 70)),
    (SMALL, (98, 126)),
    (SMALL, (126, 210)),
    (SMALL, (154, 42)),
    # Too small, down to half a cell.
    (SMALL, (14, 14)),
    (SMALL, (14, 97)),
    (SMALL, (41, 15)),
    (SMALL, (15, 111)),
    (NARROW, (43, 211)),
    (NARROW, (200, 250)),
    # Too large.
    (SMALL, (1000, 900)),
    (SMALL, (1501, 233)),
    (NARROW, (401, 399)),
    (NARROW, (17, 2999)),
    (NARROW, (2999, 17)),
    # Real pages.
    (STANDARD, (595, 842)),
    (STANDARD, (1239, 1755)),
    (STANDARD, (3517, 3311)),
]
Make = Callable[[PixelLimits], Any]


@pytest.fixture(scope="module")
def processor() -> Make:
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what transformers says of itself while it is imported
        module = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
    return lambda limits: module.Qwen2VLImageProcessorPil(
        min_pixels=limits.min_pixels, max_pixels=limits.max_pixels, patch_size=14, temporal_patch_size=1, merge_size=2
    )


def noise(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.mark.parametrize(("limits", "size"), CASES)
def test_patches_equal_those_of_transformers_bit_for_bit(
    processor: Make, limits: PixelLimits, size: tuple[int, int]
) -> None:
    image = noise(size)
    expected = processor(limits)(images=[image], return_tensors="np")
    found = patchify(image, size, 1, limits)
    assert expected["image_grid_thw"].tolist() == [[1, *found.grid]]
    assert expected["pixel_values"].dtype == found.values.dtype == np.float32
    assert np.array_equal(found.values, expected["pixel_values"])


@pytest.mark.parametrize(
    ("limits", "size", "theirs", "ours"),
    [
        (SMALL, (1000, 14), (2, 34), (2, 72)),
        (PixelLimits(79_000, 80_000), (31, 1999), (162, 4), (128, 2)),
    ],
    ids=["half a cell rounds to none, which transformers takes for a page that is too small", "both limits are passed"],
)
def test_where_transformers_and_the_official_parser_differ_the_parser_is_followed(
    processor: Make, limits: PixelLimits, size: tuple[int, int], theirs: tuple[int, int], ours: tuple[int, int]
) -> None:
    found = processor(limits)(images=[noise(size)], return_tensors="np")
    assert found["image_grid_thw"].tolist() == [[1, *theirs]]
    assert patchify(noise(size), size, 1, limits).grid == ours
