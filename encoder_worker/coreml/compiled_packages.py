"""Packages as the Core ML framework loads them: compiled once, to a stable place in the folder of the build.

The Neural Engine's own cache is kept by path, and compiling into a temporary folder would make every start as slow as
the first one. There is one folder for each build number of macOS (``kern.osversion``): the version that Python sees
depends on the SDK that this Python was made with.
"""

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dotsctl.protocol.errors import CommandFailedError, OutputError
from dotsctl.protocol.machine.identity import this_machine

COMPILED = "compiled-"
"""Begin of the name of the folder, in the folder of the build; the build number of macOS follows."""
UNUSED_S = 7 * 24 * 3600.0
"""The time after which another system's folder is removed: another Python or a worker may still use a younger one."""
COPIES = 2
"""The copies of one package that need room: the compiled one, and what the framework caches for the compute units."""


def compiled_folder(build: Path) -> Path:
    """Return the folder of the compiled packages of a build on this system; it need not exist."""
    return build / f"{COMPILED}{this_machine().build}"


def compiled_package(package: Path, folder: Path, ct: Any, report: Callable[[str], None]) -> Path:
    """Return a package as the framework loads it, and compile it where it is not there yet.

    Args:
        package: an ``.mlpackage``.
        folder: where compiled packages lie; made where it is missing.
        ct: the module ``coremltools``.
        report: called before a compilation.

    Raises:
        CommandFailedError: the framework refuses the package.
        OutputError: there is no room for the compiled package, or it cannot be written.
    """
    path = folder / f"{package.stem}.mlmodelc"
    if path.is_dir():
        os.utime(folder)  # it is in use
        return path
    report(f"compiling {package.name}")
    _remove_unused(folder)
    _check_room(package, folder)
    partial = folder / f".{package.stem}.{os.getpid()}.mlmodelc"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        ct.models.utils.compile_model(str(package), str(partial))
        _rename(partial, path)
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror or error})", "free some disk space") from error
    except Exception as error:  # the bindings raise RuntimeError and others, with the framework's own text
        raise CommandFailedError(f"Core ML cannot compile {package} ({error})", "convert the model again") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def _rename(partial: Path, path: Path) -> None:
    """Move a compiled package to its place, or leave there what another process has put there meanwhile."""
    try:
        partial.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _remove_unused(folder: Path) -> None:
    """Remove the folders of other systems that were not used for a week."""
    for old in folder.parent.glob(f"{COMPILED}*"):
        try:
            is_unused = old != folder and time.time() - old.stat().st_mtime > UNUSED_S
        except OSError:  # another process removes it too
            continue
        if is_unused:
            shutil.rmtree(old, ignore_errors=True)


def _check_room(package: Path, folder: Path) -> None:
    needed = COPIES * sum(file.stat().st_size for file in package.rglob("*") if file.is_file())
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise OutputError(
            f"compiling {package.name} takes about {needed / 1e6:,.0f} MB, and {existing} has {free / 1e6:,.0f} MB "
            "free",
            "free some disk space, or move the models to another disk with DOTSCTL_MODELS",
        )
