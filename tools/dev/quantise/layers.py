"""Each layer of a Core ML build against the tower in float64, by the reference interpreter.

Every page goes through the float64 tower once; its residual stream after each layer waits on the disk for the builds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from dotsctl.encoder_worker.coreml.bucket_patches import prepare
from dotsctl.encoder_worker.coreml.interpreter import Interpreter
from dotsctl.encoder_worker.coreml.manifest import Build, Chunk, function_name
from dotsctl.encoder_worker.coreml.tower_inputs import embeddings_of, patches_input, quarter_order, rotary_inputs
from dotsctl.encoder_worker.image import Patches
from dotsctl.encoder_worker.opening import open_page
from dotsctl.encoder_worker.plugin import PageImage
from dotsctl.protocol.geometry import PixelLimits
from dotsctl.protocol.model.buckets import place
from dotsctl.tools.reference.exact_tower import MERGER, PATCH_EMBEDDING, ExactTower, difference, layer_name
from numpy.typing import NDArray

Array = NDArray[Any]
PATCH_EMBEDDING_VALUE = "patch_embed_patchifier_norm_scaled"
"""Names of values in the programs of ``dotsctl.tools.coreml.tower``."""


@dataclass(frozen=True)
class Component:
    """The error of one component, over all pages."""

    name: str
    """``patch embedding``, ``layer N`` for the residual stream after it, or ``merger`` for the embeddings."""
    score: float
    """1 less the relative error, at least 0: 1.0 is identical."""
    relative_error: float
    """The relative error of the Frobenius norm; the mean over pages."""
    min_cosine: float
    """The smallest cosine over patches, or over embeddings, of all pages."""


def prepared(page: PageImage, limits: PixelLimits, build: Build) -> Patches:
    """A page as the plugin coreml gives it to the packages. Raises PageError."""
    image, source, orientation = open_page(page)
    return prepare(image, place(source, orientation, limits, build.buckets))


def exact_stages(tower: ExactTower, patches: Patches, folder: Path) -> dict[str, Path]:
    """Files with the exact patch embedding, residual streams and embeddings of a page, float64."""
    files: dict[str, Path] = {}

    def keep(stage: str, rows: NDArray[np.float64]) -> None:
        if stage in (PATCH_EMBEDDING, MERGER) or stage.startswith("layer "):
            files[stage] = folder / f"{len(files)}.npy"
            np.save(files[stage], rows)

    tower.embeddings(patches.values, patches.grid, keep)
    return files


@dataclass
class LayerErrors:
    """Relative errors and smallest cosines of one build, by component, as pages are added."""

    relative: dict[str, list[float]] = field(default_factory=dict)
    smallest: dict[str, list[float]] = field(default_factory=dict)

    def add(self, stage: str, found: Array, exact: Array) -> None:
        """Compare one component of one page, (patches or embeddings, width)."""
        relative, _, smallest = difference(found, exact)
        self.relative.setdefault(stage, []).append(relative)
        self.smallest.setdefault(stage, []).append(smallest)

    def components(self) -> tuple[Component, ...]:
        """The components in the order of the tower."""
        means = {stage: float(np.mean(values)) for stage, values in self.relative.items()}
        return tuple(
            Component(stage, max(0.0, 1.0 - mean), mean, min(self.smallest[stage])) for stage, mean in means.items()
        )


def run_build(
    folder: Path, build: Build, patches: Patches, exact: Mapping[str, Path], errors: LayerErrors
) -> NDArray[np.float32]:
    """Embeddings (num_embeddings, width) of a page by a build; every component is compared on the way.

    Args:
        folder: of the build.
        build: its manifest.
        patches: of a page; their number is a bucket of the build.
        exact: what :func:`exact_stages` gave for the same patches.
        errors: where the comparison goes.
    """
    count = len(patches.values)
    order = quarter_order(count)
    cosines, sines = rotary_inputs(patches.grid, build.head_dim)
    value, name = patches_input(patches.values), "patches"
    for chunk in build.chunks:
        interpreter = Interpreter(folder / chunk.file, function_name(count))
        requested = _values(chunk, is_last=chunk is build.chunks[-1])
        found = interpreter.run({name: value, "cos": cosines, "sin": sines}, requested)
        for inner, stage in requested.items():
            stream = found.pop(inner) if stage != MERGER else found[inner]
            exponent = 0 if stage == MERGER else -build.residual_exponent
            # (patches in quarter order, embed_dim), or (num_embeddings, width)
            rows = np.ldexp(embeddings_of(stream), exponent)
            expected = np.load(exact[stage], mmap_mode="r")
            errors.add(stage, rows, expected if stage == MERGER else expected[order])
            value = stream
        name = "hidden"
    return embeddings_of(value).astype(np.float32)


def _values(chunk: Chunk, *, is_last: bool) -> dict[str, str]:
    """Stage by the name of its value in a package, in order; the last one is the package's output."""
    names = {PATCH_EMBEDDING_VALUE: PATCH_EMBEDDING} if chunk.first_layer == 0 else {}
    names |= {f"blocks_{layer}_output": layer_name(layer + 1) for layer in range(chunk.first_layer, chunk.end_layer)}
    if is_last:
        return names | {"embeddings": MERGER}
    del names[f"blocks_{chunk.end_layer - 1}_output"]
    return names | {"next_hidden": layer_name(chunk.end_layer)}
