"""The machine and the versions, as far as a Core ML package may behave differently on another one."""

import importlib.metadata
import platform
import subprocess
import sys
from dataclasses import dataclass

SYSCTL = "/usr/sbin/sysctl"
SYSCTL_TIMEOUT_S = 10.0
APPLE = "Apple"
"""The beginning of the chip's name on a Mac with a Neural Engine."""


@dataclass(frozen=True)
class Machine:
    """Chip and system; a new system build may compile the same package into something else."""

    chip: str
    """The chip, on a Mac as in ``Apple M2 Pro``, elsewhere the architecture."""
    system: str
    """Name and version, as in ``macOS 15.5``."""
    build: str
    """The build of the system, as in ``24F74``."""

    @property
    def macos_version(self) -> int:
        """The major version of macOS; 0 elsewhere."""
        name, _, version = self.system.partition(" ")
        major = version.partition(".")[0]
        return int(major) if name == "macOS" and major.isdecimal() else 0

    @property
    def is_apple_silicon(self) -> bool:
        """Return whether this is a Mac with a Neural Engine that Core ML can reach from here."""
        return self.system.startswith("macOS ") and self.chip.startswith(APPLE)

    def __str__(self) -> str:
        return f"{self.chip}, {self.system} ({self.build})"


def this_machine() -> Machine:
    """The machine that runs this process."""
    if sys.platform != "darwin":
        return Machine(platform.machine(), f"{platform.system()} {platform.release()}", platform.version())
    chip = _sysctl("machdep.cpu.brand_string") or platform.processor() or platform.machine()
    version = platform.mac_ver()[0]
    return Machine(chip, f"macOS {version}", _sysctl("kern.osversion") or version)


def framework_versions() -> str:
    """Return the versions of Python and coremltools that this process has, without an import of coremltools."""
    try:
        coremltools = importlib.metadata.version("coremltools")
    except importlib.metadata.PackageNotFoundError:
        coremltools = "none"
    return f"Python {platform.python_version()}, coremltools {coremltools}"


def _sysctl(name: str) -> str:
    """Return a value of the kernel; empty when it cannot be queried, then the caller has a substitute."""
    try:
        command = [SYSCTL, "-n", name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SYSCTL_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
