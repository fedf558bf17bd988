"""A stand-in for macOS under Linux: its system calls, and processes that take Linux for macOS."""

import os
import shutil
import subprocess
import sysconfig
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


def environment(folder: Path) -> dict[str, str]:
    """Return the environment variables with which a Python process under Linux believes that it runs on macOS.

    Args:
        folder: gets the shared library; it must stay as long as processes are started.
    """
    paths = [str(SOURCE.with_name("site")), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        "PYTHONPATH": os.pathsep.join(paths),
        "LD_PRELOAD": str(build_libsystem(folder)),
        "_PYTHON_SYSCONFIGDATA_NAME": sysconfig._get_sysconfigdata_name(),  # Python was built for Linux all the same
    }
