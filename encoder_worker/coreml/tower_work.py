"""The work of a page in the vision tower."""

from dotsctl.encoder_worker.coreml.manifest import Build

LINEAR = 24.5
"""Operations of a layer by patch and squared width: 2 * (4 for attention + 3 * 2.75 for the MLP)."""


def page_flops(build: Build, bucket: int) -> float:
    """Return the floating-point operations of a page of ``bucket`` patches; a multiply-add counts as two."""
    layers, width = build.chunks[-1].end_layer, build.embed_dim
    return layers * bucket * width * (LINEAR * width + 4 * bucket)
