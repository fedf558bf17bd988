"""Options of the encoder plugin ``coreml``, and where it can compute with them. Imports no coremltools."""

import platform
import sys
from dataclasses import dataclass
from importlib.util import find_spec

from dotsctl.encoder_worker.coreml.manifest import COMPUTE_UNITS, REFERENCE, Build
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.machine.libraries import COREMLTOOLS, INSTALL_COREML
from dotsctl.protocol.machine.verdicts import NE_SHARE, NE_UNITS
from dotsctl.protocol.parts import Device
from dotsctl.protocol.worker.plugin_options import option

FIRST_MACOS = 15
"""The first macOS whose Core ML reads packages with several functions."""
SIZE_OPTION = "buckets"
DEVICES = {
    "cpu_and_ne": Device.NE,
    "all": Device.NE,
    "cpu_and_gpu": Device.GPU,
    "cpu_only": Device.CPU,
    REFERENCE: Device.CPU,
}
"""The device that computes most of a page with each choice of compute units."""
INSTEAD = "--encoder coreml:compute_units=reference computes the same on any machine, slowly; --encoder mlx is fast"


@dataclass(frozen=True)
class CoreMLEncoderOptions:
    """The options that the user chose; none: left to the build."""

    compute_units: str | None = option(
        None, "where to compute", choices=COMPUTE_UNITS, shown_default="what the build was made for"
    )
    build: str | None = option(None, "name of the build", shown_default="the only one, or float16")
    buckets: tuple[int, ...] | None = option(
        None, "numbers of patches to load of those of the build", minimum=1, shown_default="all of the build"
    )
    ne_share: float = option(
        NE_SHARE,
        "share of the operations to be on the Neural Engine; less is a warning",
        minimum=0,
        maximum=1,
    )

    def buckets_of(self, build: Build) -> tuple[int, ...]:
        """Return the page sizes to load, ascending. Raises UsageError for one that the build has not."""
        if self.buckets is None:
            return build.buckets
        if missing := sorted(set(self.buckets) - set(build.buckets)):
            has = "+".join(map(str, build.buckets))
            raise UsageError(
                f"encoder coreml: buckets={missing[0]} is not among those of the build: {has}", "choose among these"
            )
        return self.buckets


def check_units(units: str) -> None:
    """Refuse compute units that this machine does not have. Raises UsageError."""
    if units == REFERENCE:
        return
    if sys.platform != "darwin":
        raise UsageError(f"compute_units={units} needs the Core ML framework of macOS, and this is Linux", INSTEAD)
    version = platform.mac_ver()[0]
    if int(version.partition(".")[0]) < FIRST_MACOS:
        raise UsageError(f"compute_units={units} needs macOS {FIRST_MACOS} or later, this is {version}", INSTEAD)


def usual_units(options: CoreMLEncoderOptions) -> str:
    """Return the compute units that are chosen, or those that builds are usually made for."""
    return options.compute_units or NE_UNITS[0]


def unavailable(options: CoreMLEncoderOptions) -> str:
    """Return why the encoder cannot run here with these options; empty: nothing is known."""
    try:
        check_units(usual_units(options))
    except UsageError as error:
        return str(error)
    return "" if find_spec(COREMLTOOLS) else f"{COREMLTOOLS} is not installed: {INSTALL_COREML}"
