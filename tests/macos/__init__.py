"""A stand-in for macOS under Linux: its system calls, and processes that take Linux for macOS."""

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("libsystem.c")


def compiler() -> str | None:
    """Return the C compiler of this machine; None where there is none."""
    return shutil.which("cc")


def build_libsystem(folder: Path) -> Path:
    """Compile the stand-in for Apple's libSystem into ``folder`` and return the shared library."""
    library = folder / "libsystem.so"
    command = [str(compiler()), "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-O1", "-o", library, SOURCE]
    subprocess.run(command, check=True, timeout=60)
    return library
