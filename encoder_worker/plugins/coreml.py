"""The encoder plugin ``coreml``: the vision tower as Core ML packages, on the Neural Engine of a Mac.

With ``compute_units=reference`` the very same packages are executed by an interpreter on any machine, slowly. Nothing
of coremltools is imported before ``load``.
"""

import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from dotsctl.encoder_worker.blank import is_blank
from dotsctl.encoder_worker.coreml.admission import Admission
from dotsctl.encoder_worker.coreml.manifest import COMPUTE_UNITS, REFERENCE, Build, find_build
from dotsctl.encoder_worker.coreml.tower_work import page_flops
from dotsctl.encoder_worker.image import Patches, patchify, resize_window
from dotsctl.encoder_worker.opening import open_page, read_limits, window_of
from dotsctl.encoder_worker.plugin import BlankPage, EncodedPage, EncoderSpec, PageImage, Report
from dotsctl.protocol.buckets import Placement, place
from dotsctl.protocol.errors import CommandFailedError, ErrorCode, PageError, UsageError
from dotsctl.protocol.geometry import CELL_PX, PixelLimits, fit
from dotsctl.protocol.model_directory import fingerprint
from dotsctl.protocol.parts import Device
from dotsctl.protocol.verdicts import NE_SHARE
from PIL import Image

OPTIONS = {
    "compute_units": f"where to compute: {', '.join(COMPUTE_UNITS)}; else what the build was made for",
    "build": "name of the build, where there are several",
    "buckets": "numbers of patches to load of those of the build, as in 960+2016; else all",
    "ne_share": f"share of the operations to be on the Neural Engine, 0 to 1, else {NE_SHARE}; a warning tells of less",
}
DEVICES = {
    "cpu_and_ne": Device.NE,
    "all": Device.NE,
    "cpu_and_gpu": Device.GPU,
    "cpu_only": Device.CPU,
    REFERENCE: Device.CPU,
}
"""Where most of a page is computed with each choice of compute units."""
REFERENCE_FLOPS = 1.7e10
"""A second, of the interpreter: 1.44e12 of a page of 560 patches at full size took 87 s on two busy cores."""
LONG_S = 60.0
"""The supervisor takes twice as long without progress for a hang."""
FIRST_MACOS = 15
"""The first macOS whose Core ML reads packages with several functions."""


class CoreMLEncoder:
    """Encodes pages with the packages that ``dotsctl convert --encoder coreml`` made of the model."""

    def __init__(self) -> None:
        self._tower: Any = None
        self._limits = PixelLimits()
        self._buckets: tuple[int, ...] = ()
        self._dtype = np.dtype(np.float32)

    def load(self, model: Path, options: dict[str, str], report: Report) -> EncoderSpec:
        """Find the build and load it; see :class:`dotsctl.encoder_worker.plugin.Encoder`.

        Raises:
            UsageError: an unknown option, or compute units that this machine does not have.
            MissingError: there are no packages of this model, they are damaged, coremltools is not installed, or there
                is no Neural Engine.
            CommandFailedError: Core ML refuses the packages, or they compute wrong numbers here.
            OutputError: there is no room to compile the packages.
        """
        if unknown := sorted(options.keys() - OPTIONS.keys()):
            known = "; ".join(f"{key}: {meaning}" for key, meaning in OPTIONS.items())
            raise UsageError(f"encoder coreml has no option {', '.join(unknown)}. It knows {known}")
        if "compute_units" in options:
            _check_units(options["compute_units"])
        ne_share = _share(options.get("ne_share", str(NE_SHARE)))
        self._limits = read_limits(model)
        report("computing the model's fingerprint")
        digest = fingerprint(model)
        folder, build = find_build(model, digest, options.get("build"))
        units = options.get("compute_units", build.compute_units)
        _check_units(units)
        self._buckets = _chosen_buckets(options.get("buckets"), build)
        report(f"Core ML build {folder.name} on {units}, pages of {', '.join(map(str, self._buckets))} patches")
        admission = Admission(model, folder, build, units, ne_share, report)
        self._buckets = admission.before_load(self._buckets)
        self._tower = _load_tower(folder, build, units, self._buckets, report)
        admission.after_load(self._tower, self._buckets)
        self._dtype = np.dtype(build.precision)
        return EncoderSpec(digest, build.width, self._dtype.str, self._buckets, DEVICES[units])

    def encode(self, images: Sequence[PageImage]) -> list[EncodedPage]:
        """Encode the images of a request; see :class:`dotsctl.encoder_worker.plugin.Encoder`.

        Timings are ``open`` (file to pixels), ``resize`` (to patches) and ``encode`` (the tower), in milliseconds.

        Raises:
            PageError: an image is no readable picture, or cannot be resized or computed.
            BlankPage: nothing is on the page, and the client wanted to know.
        """
        try:
            return [self._encode(image) for image in images]
        except CommandFailedError as error:  # Core ML cannot compute this page; the next one may be fine
            raise PageError(str(error), ErrorCode.INTERNAL) from error

    def _encode(self, page: PageImage) -> EncodedPage:
        start = time.perf_counter()
        image, source, orientation = open_page(page)
        opened = time.perf_counter()
        limits = self._limits.lowered(page.max_pixels)
        if page.check_blank and is_blank(image):
            raise BlankPage(fit(source, orientation, limits), {"open": (opened - start) * 1e3})
        placement = place(source, orientation, limits, self._buckets, window_of(page, image))
        patches = prepare(image, placement)
        resized = time.perf_counter()
        embeddings = self._tower.encode(patches.values, patches.grid).astype(self._dtype)
        encoded = time.perf_counter()
        timings_ms = {
            "open": (opened - start) * 1e3,
            "resize": (resized - opened) * 1e3,
            "encode": (encoded - resized) * 1e3,
        }
        return EncodedPage(embeddings, patches.grid, patches.geometry, timings_ms)

    def close(self) -> None:
        """Let go of the programs."""
        if self._tower is not None:
            self._tower.close()


def prepare(image: Image.Image, placement: Placement) -> Patches:
    """Patches of an upright RGB image at the place that was chosen for it, white where it does not reach."""
    canvas = Image.new("RGB", placement.geometry.resized, "white")
    canvas.paste(resize_window(image, placement.content, placement.window), (0, 0))
    exactly = PixelLimits(CELL_PX**2, max(CELL_PX**2, canvas.width * canvas.height))
    patches = patchify(canvas, canvas.size, 1, exactly)
    return Patches(patches.values, placement.grid, placement.geometry)


def _check_units(units: str) -> None:
    """Raises UsageError for compute units that there are not, or not here."""
    if units not in COMPUTE_UNITS:
        raise UsageError(f"encoder coreml: compute_units={units!r} is none of {', '.join(COMPUTE_UNITS)}")
    if units == REFERENCE:
        return
    instead = "--encoder coreml:compute_units=reference computes the same on any machine, slowly; --encoder mlx is fast"
    if sys.platform != "darwin":
        raise UsageError(f"compute_units={units} needs the Core ML framework of macOS, and this is Linux. {instead}")
    version = platform.mac_ver()[0]
    if int(version.partition(".")[0]) < FIRST_MACOS:
        raise UsageError(f"compute_units={units} needs macOS {FIRST_MACOS} or later, this is {version}. {instead}")


def _share(text: str) -> float:
    """A number from 0 to 1. Raises UsageError."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"encoder coreml: ne_share={text} is no share: a number from 0 to 1")
    return share


def _chosen_buckets(text: str | None, build: Build) -> tuple[int, ...]:
    """The buckets of a build, or those of them that the user wants. Raises UsageError."""
    if text is None:
        return build.buckets
    chosen = {int(part) if part.isdecimal() else 0 for part in text.split("+")}
    if not chosen <= set(build.buckets):
        has = "+".join(map(str, build.buckets))
        raise UsageError(f"encoder coreml: buckets={text} is not among those of the build: {has}")
    return tuple(sorted(chosen))


def _warn_of_long_pages(build: Build, buckets: Sequence[int], report: Report) -> None:
    """Tell of pages that the interpreter needs so long for that the worker would be restarted."""
    patches = max(buckets)
    flops = page_flops(build, patches)
    if flops / REFERENCE_FLOPS > LONG_S:
        report(
            f"the reference interpreter may need {flops / REFERENCE_FLOPS:.0f} s for a page of {patches} patches: set "
            "DOTSCTL_STALL_TIMEOUT to more seconds than that, or lower --max-pixels"
        )


def _load_tower(folder: Path, build: Build, units: str, buckets: tuple[int, ...], report: Report) -> Any:
    """What executes the packages. Raises MissingError when coremltools is not there."""
    if units == REFERENCE:
        _warn_of_long_pages(build, buckets, report)
        from dotsctl.encoder_worker.coreml.reference_tower import ReferenceTower

        tower = ReferenceTower(folder, build)
        for bucket in buckets:
            tower.chunks(bucket)
        return tower
    from dotsctl.encoder_worker.coreml.device_tower import DeviceTower

    return DeviceTower(folder, build, units, buckets, report)
