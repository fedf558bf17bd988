"""The layouts in which checkpoints of dots.ocr are stored: as published, and as converters write them.

A layout has its own prefixes of tensor names, and some store the patch embedding with other axes. Everything that reads
a checkpoint goes through this table and knows the published names alone.

Sources: the index of rednote-hilab/dots.ocr (snapshot c0111ce6); ``mlx_vlm/models/dots_ocr`` of mlx-vlm 0.7.10, and
what its ``convert`` wrote from a random checkpoint.
"""

from math import prod
from typing import Any

from dotsctl.protocol.model.layout import PATCH_PIXELS, Shape
from dotsctl.protocol.parts import Role

TOWER, TEXT, HEAD = "vision_tower.", "model.", "lm_head."
"""The published prefixes: of the encoder, of the decoder, and of the decoder's result."""


LAYOUTS = {
    "published": {TOWER: TOWER, TEXT: TEXT, HEAD: HEAD},
    "transformers": {"model.vision_tower.": TOWER, TEXT: TEXT, HEAD: HEAD},
    "mlx-vlm": {TOWER: TOWER, "language_model.model.": TEXT, "language_model.model.lm_head.": HEAD},
}
"""The published prefix by the stored one, for every layout that is read. The second is that of newer versions of
transformers when they save a model; in the third the head lies below the model."""
_PUBLISHED = sorted(
    {stored: published for prefixes in LAYOUTS.values() for stored, published in prefixes.items()}.items(),
    key=lambda pair: -len(pair[0]),
)
"""Stored and published prefixes, the longest first, because some are the beginning of others."""
_MLX_PATCH = (*PATCH_PIXELS[1:], PATCH_PIXELS[0])
"""Rows, columns and channels of a patch, as convolutions of MLX have them."""


def canonical_name(name: str) -> str:
    """Return the published name of a stored tensor; a name of no layout stays as it is."""
    for stored, published in _PUBLISHED:
        if name.startswith(stored):
            return published + name.removeprefix(stored)
    return name


def half_of(name: str) -> Role | None:
    """Return the half of the model that a stored tensor belongs to; none: it has a name of no layout."""
    published = canonical_name(name)
    if published.startswith(TOWER):
        return Role.ENCODER
    return Role.DECODER if published.startswith((TEXT, HEAD)) else None


def is_harmless(name: str) -> bool:
    """Return whether a tensor is a table of rotary frequencies, which some programs save and loaders must leave out.

    Both halves compute their own.
    """
    return name.endswith((".inv_freq", ".rotary_emb.cos_cached", ".rotary_emb.sin_cached"))


def patch_shapes(dim: int) -> list[Shape]:
    """Return the shapes of the patch embedding: as published, as MLX has it, and flat in the published order."""
    return [(dim, *PATCH_PIXELS), (dim, *_MLX_PATCH), (dim, prod(PATCH_PIXELS))]


def patch_matrix(weight: Any) -> Any:
    """Return the patch embedding as a matrix (dim, 588), its columns in the published order: channel, row, column.

    Args:
        weight: an array of NumPy or MLX with one of the shapes of :func:`patch_shapes`.
    """
    if weight.ndim == 4 and tuple(weight.shape[1:]) == _MLX_PATCH:
        weight = weight.transpose(0, 3, 1, 2)
    return weight.reshape(weight.shape[0], -1)
