"""The encoder plugin ``coreml``: the vision tower as Core ML packages, on the Neural Engine of a Mac.

With ``compute_units=reference`` the very same packages are executed by an interpreter on any machine, slowly. Nothing
of coremltools or numpy is imported before ``load``.
"""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dotsctl.encoder_worker.coreml.manifest import REFERENCE, Build, find_build
from dotsctl.encoder_worker.coreml.offers import offers
from dotsctl.encoder_worker.coreml.options import DEVICES, CoreMLEncoderOptions, check_units, unavailable, usual_units
from dotsctl.encoder_worker.coreml.tower_work import page_flops
from dotsctl.encoder_worker.plugin import EncodedPage, EncoderSpec, PageImage, Report
from dotsctl.protocol.errors import CommandFailedError, ErrorCode, PageError
from dotsctl.protocol.geometry import PixelLimits
from dotsctl.protocol.machine.memory import encoder_need
from dotsctl.protocol.model.directory import fingerprint
from dotsctl.protocol.worker.plugins import PluginDescription

if TYPE_CHECKING:
    from dotsctl.encoder_worker.image import Patches

FLOAT16_BYTES = 2
REFERENCE_FLOPS = 1.7e10
"""A second, of the interpreter: 1.44e12 of a page of 560 patches at full size took 87 s on two busy cores."""
LONG_S = 60.0
"""The supervisor takes twice as long without progress for a hang."""


class CoreMLEncoder:
    """Encodes pages with the packages that ``dotsctl convert --encoder coreml`` made of the model."""

    description = PluginDescription(
        help="The vision encoder as Core ML packages on the Neural Engine of a Mac; takes pages of fixed sizes.",
        options=CoreMLEncoderOptions,
        memory=lambda facts, options: encoder_need(facts, FLOAT16_BYTES),
        available=unavailable,
        device=lambda options: DEVICES[usual_units(options)],
        offers=offers,
    )

    def __init__(self) -> None:
        self._tower: Any = None
        self._limits = PixelLimits()
        self._buckets: tuple[int, ...] = ()
        self._dtype: Any = None

    def load(self, model: Path, options: CoreMLEncoderOptions, report: Report) -> EncoderSpec:
        """Find the build and load it; see :class:`dotsctl.encoder_worker.plugin.Encoder`.

        Raises:
            UsageError: compute units that this machine does not have, or page sizes that the build has not.
            MissingError: there are no packages of this model, they are damaged, coremltools is not installed, or there
                is no Neural Engine.
            CommandFailedError: Core ML refuses the packages, or they compute wrong numbers here.
            OutputError: there is no room to compile the packages.
        """
        import numpy as np
        from dotsctl.encoder_worker.coreml.admission import Admission
        from dotsctl.encoder_worker.opening import read_limits

        if options.compute_units is not None:
            check_units(options.compute_units)
        self._limits = read_limits(model)
        report("computing the model's fingerprint")
        digest = fingerprint(model)
        folder, build = find_build(model, digest, options.build)
        units = options.compute_units or build.compute_units
        check_units(units)
        self._buckets = options.buckets_of(build)
        report(f"Core ML build {folder.name} on {units}, pages of {', '.join(map(str, self._buckets))} patches")
        admission = Admission(model, folder, build, units, options.ne_share, report)
        self._buckets = admission.before_load(self._buckets)
        self._tower = _load_tower(folder, build, units, self._buckets, report)
        admission.after_load(self._tower, self._buckets)
        self._dtype = np.dtype(build.precision)
        return EncoderSpec(digest, build.width, self._dtype.str, self._buckets, DEVICES[units])

    def prepare(self, image: PageImage) -> "tuple[Patches, dict[str, float]]":
        """Return the patches of an image in its bucket, and the milliseconds of ``open`` (to pixels) and ``resize``.

        Raises:
            PageError: the image is no readable picture, or cannot be resized.
            BlankPage: nothing is on the page, and the client requested this check.
        """
        from dotsctl.encoder_worker.coreml.bucket_patches import patches_in_bucket
        from dotsctl.encoder_worker.opening import prepare_page

        return prepare_page(image, self._limits, partial(patches_in_bucket, buckets=self._buckets))

    def encode(self, images: "Sequence[tuple[Patches, dict[str, float]]]") -> list[EncodedPage]:
        """Encode the prepared images of a request; see :class:`dotsctl.encoder_worker.plugin.PreparingEncoder`.

        To the timings of :meth:`prepare` comes ``encode``, the tower.

        Raises:
            PageError: Core ML cannot compute an image.
        """
        try:
            return [self._encode(*image) for image in images]
        except CommandFailedError as error:  # Core ML cannot compute this page; the next one may be fine
            raise PageError(error.problem, error.remedy, code=ErrorCode.INTERNAL) from error

    def _encode(self, patches: "Patches", timings_ms: dict[str, float]) -> EncodedPage:
        start = time.perf_counter()
        embeddings = self._tower.encode(patches.values, patches.grid).astype(self._dtype)
        encode_ms = (time.perf_counter() - start) * 1e3
        return EncodedPage(embeddings, patches.grid, patches.geometry, {**timings_ms, "encode": encode_ms})

    def close(self) -> None:
        """Release the programs."""
        if self._tower is not None:
            self._tower.close()


def _warn_of_long_pages(build: Build, buckets: Sequence[int], report: Report) -> None:
    """Warn of pages that take the interpreter so long that the worker would be restarted."""
    patches = max(buckets)
    flops = page_flops(build, patches)
    if flops / REFERENCE_FLOPS > LONG_S:
        report(
            f"the reference interpreter may need {flops / REFERENCE_FLOPS:.0f} s for a page of {patches} patches: set "
            "DOTSCTL_STALL_TIMEOUT to more seconds than that, or lower --max-pixels"
        )


def _load_tower(folder: Path, build: Build, units: str, buckets: tuple[int, ...], report: Report) -> Any:
    """Return the tower that executes the packages. Raises MissingError when coremltools is not there."""
    if units == REFERENCE:
        _warn_of_long_pages(build, buckets, report)
        from dotsctl.encoder_worker.coreml.reference_tower import ReferenceTower

        tower = ReferenceTower(folder, build)
        for bucket in buckets:
            tower.chunks(bucket)
        return tower
    from dotsctl.encoder_worker.coreml.device_tower import DeviceTower

    return DeviceTower(folder, build, units, buckets, report)
