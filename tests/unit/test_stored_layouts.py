"""Names and axes of each layout, as the published ones."""

import numpy as np
import pytest
from dotsctl.protocol.model.layout import PATCH_PIXELS, TextSizes, VisionSizes
from dotsctl.protocol.model.stored_layouts import LAYOUTS, canonical_name, half_of, patch_matrix, patch_shapes
from dotsctl.protocol.parts import Role

VISION = VisionSizes(32, 64, 96, 2, 4)
TEXT = TextSizes(64, 128, 2, 4, 2, 100)


def stored(name: str, layout: str) -> str:
    """The name of a published tensor in a layout."""
    prefix, published = max(
        ((prefix, published) for prefix, published in LAYOUTS[layout].items() if name.startswith(published)),
        key=lambda pair: len(pair[1]),
    )
    return prefix + name.removeprefix(published)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_tensor_of_every_layout_has_its_published_name_and_half(layout: str) -> None:
    for half, sizes in ((Role.ENCODER, VISION), (Role.DECODER, TEXT)):
        for name in sizes.tensors():  # type: ignore[attr-defined]
            assert canonical_name(stored(name, layout)) == name
            assert half_of(stored(name, layout)) is half


def test_the_head_that_mlx_vlm_stores_below_the_model_is_the_head() -> None:
    assert stored("lm_head.weight", "mlx-vlm") == "language_model.model.lm_head.weight"
    assert canonical_name("language_model.model.lm_head.scales") == "lm_head.scales"


@pytest.mark.parametrize("name", ["visual.blocks.0.attn.qkv.weight", "language_model.lm", "", "transformer.h.0"])
def test_a_name_of_no_layout_stays_as_it_is_and_belongs_to_no_half(name: str) -> None:
    assert canonical_name(name) == name
    assert half_of(name) is None


def test_the_patch_embedding_of_every_shape_is_the_same_matrix() -> None:
    published = np.arange(5 * 588, dtype=np.float32).reshape(5, *PATCH_PIXELS)
    matrix = published.reshape(5, 588)
    for weight in (published, np.ascontiguousarray(published.transpose(0, 2, 3, 1)), matrix):
        assert weight.shape in patch_shapes(5)
        assert np.array_equal(patch_matrix(weight), matrix)
