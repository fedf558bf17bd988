"""Checks of the machine: Python, system, libraries of the system, space on its disks."""

import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import platformdirs
from dotsctl.client.files.sizes import size_text
from dotsctl.protocol.endpoints import run_directory
from dotsctl.protocol.model.directory import PUBLISHED, installed_models, models_directory
from dotsctl.tools.doctor.report import Finding, fail, ok, warn

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 14)
OLDEST_GLIBC = (2, 35)
OLDEST_MACOS = 15
MODEL_BYTES = 7_000_000_000
"""dots.ocr takes 6.1 GB."""
LITTLE_BYTES = 1_000_000_000
LEAST_BYTES = 50_000_000


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> Finding:
    """Check whether dotsctl and its libraries exist for this Python."""
    found = f"Python {platform.python_version()}, {sys.executable}"
    if not OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        return fail("Python", found, "use Python 3.11 to 3.14: uv venv --python 3.12")
    return ok("Python", found)


def check_system(system: str = sys.platform, machine: str | None = None) -> Finding:
    """Check whether MLX exists for this system and processor."""
    machine = machine or platform.machine()
    found = f"{platform.system()} on {machine}, {os.cpu_count()} cores"
    if system == "darwin":
        if machine == "arm64":
            return ok("system", found)
        remedy = (
            "on Apple silicon install Python for arm64 ('file $(which python3)' shows what it is); Intel Macs cannot"
        )
        return fail("system", f"macOS, and Python runs on {machine}", remedy)
    if system == "linux" and machine in ("x86_64", "aarch64"):
        return ok("system", found)
    return fail("system", found, "use macOS on Apple silicon, or Linux on x86-64 or arm64")


def check_system_version(libc: tuple[str, str] | None = None, macos: str | None = None) -> Finding:
    """Check whether the wheels of MLX run on this version of the system."""
    macos = platform.mac_ver()[0] if macos is None else macos
    if macos:
        if int(macos.split(".")[0]) < OLDEST_MACOS:
            return fail("macOS", f"macOS {macos}", f"update to macOS {OLDEST_MACOS} or newer")
        return ok("macOS", f"macOS {macos}")
    name, version = libc or platform.libc_ver()
    found = f"{name or 'a C library that is not glibc'} {version}".strip()
    newest = ".".join(map(str, OLDEST_GLIBC))
    if name != "glibc" or tuple(map(int, version.split(".")[:2])) < OLDEST_GLIBC:
        remedy = f"use a Linux with glibc {newest} or newer, as Ubuntu 22.04 or Debian 12; a container of one will do"
        return fail("C library", found, remedy)
    return ok("C library", found)


def check_models_disk() -> Finding:
    """Check whether models have room."""
    if installed_models():
        return _room("space for models", models_directory(), LITTLE_BYTES, "DOTSCTL_MODELS")
    return _room("space for models", models_directory(), MODEL_BYTES, "DOTSCTL_MODELS", f"; {PUBLISHED} takes 6.1 GB")


def check_cache_disk() -> Finding:
    """Check whether the cache, with fingerprints and what is downloaded, has room."""
    return _room("space for the cache", Path(platformdirs.user_cache_path("dotsctl")), LITTLE_BYTES, "XDG_CACHE_HOME")


def check_runtime_disk() -> Finding:
    """Check whether sockets and logs of runtimes have room."""
    return _room("space for runtimes", run_directory(), LEAST_BYTES, "DOTSCTL_RUNTIME_DIR")


def check_log_disk() -> Finding:
    """Check whether logs have room: up to 24 MiB for each start of a worker that is kept."""
    return _room("space for logs", Path(platformdirs.user_log_path("dotsctl")), 10 * LEAST_BYTES, "XDG_STATE_HOME")


def _room(name: str, folder: Path, needed_bytes: int, variable: str, note: str = "") -> Finding:
    """Space where a folder is, or would be made, and whether we may write there."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    free_bytes = shutil.disk_usage(there).free
    found = f"{size_text(free_bytes)} free for {folder}"
    elsewhere = f"set {variable} to a folder on another disk"
    if not os.access(there, os.W_OK | os.X_OK):
        return fail(name, f"{there} may not be written to", f"correct its permissions, or {elsewhere}")
    if free_bytes < LEAST_BYTES:
        return fail(name, found, f"remove what is not needed, or {elsewhere}")
    if free_bytes < needed_bytes:
        return warn(name, found + note, f"remove what is not needed ('dotsctl rm --unused' helps), or {elsewhere}")
    return ok(name, found)


MACHINE_CHECKS: tuple[tuple[str, Callable[[], Finding]], ...] = (
    ("Python", check_python),
    ("system", check_system),
    ("system version", check_system_version),
    ("space for models", check_models_disk),
    ("space for the cache", check_cache_disk),
    ("space for runtimes", check_runtime_disk),
    ("space for logs", check_log_disk),
)
