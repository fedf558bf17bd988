"""A fast BLAS for MLX on Linux; to be called by both workers before anything imports ``mlx.core``. Does not import it.

The Linux wheel of MLX carries the reference BLAS: 4.5 GFLOP per CPU-second where OpenBLAS does 123 (256 x 1536 x 8960
in float32). MLX finds the routine by its plain name, so a library that is in the process's global symbol scope
first is the one it uses. NumPy's own OpenBLAS does not help: its symbols have a prefix.

The OpenBLAS of the faiss-cpu wheel is of 2021. On a processor that it does not know it takes kernels without AVX,
which are 4 to 5 times slower than those that it has (measured on a Xeon of 2023), so the kernels are chosen here.
"""

import ctypes
import importlib.util
import os
import sys
from functools import cache
from pathlib import Path

from dotsctl.protocol.model.files import read_file

WORKERS = 2
"""The processes of a runtime that compute at the same time."""
SYSTEM_LIBRARY = "libopenblas.so.0"
CPU_INFO = Path("/proc/cpuinfo")
CORE_TYPE = "OPENBLAS_CORETYPE"
CORES = {
    "SkylakeX": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx2", "fma"},
    "Haswell": {"avx2", "fma"},
}
"""Kernels by the flags of a processor that they need, the fastest first; on arm64 the library knows its processors."""
WHEEL_PARTS = ("libquadmath", "libgfortran", "libgomp", "libopenblas")
"""Libraries inside the faiss-cpu wheel; each needs the ones in front of it."""


def usable_cores() -> int:
    """Return the cores that this process may use; at least one."""
    if sys.platform.startswith("linux"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_settings() -> dict[str, str]:
    """Return the environment variables for the BLAS threads of a worker: half of the cores; empty on macOS.

    Two workers with as many threads as there are cores each slow each other down. A number that the user has set in
    ``OPENBLAS_NUM_THREADS`` or ``OMP_NUM_THREADS`` is kept. A process gets them at its start, because NumPy reads them
    when it is imported.
    """
    if not sys.platform.startswith("linux"):
        return {}
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, usable_cores() // WORKERS))
    return {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS") or threads}


@cache
def preload_blas() -> str | None:
    """Load an optimised BLAS for MLX and return its name for the log; None where none was found.

    The number of its threads is that of :func:`thread_settings`. No effect on macOS, where MLX computes with Metal and
    Accelerate.
    """
    if not sys.platform.startswith("linux"):
        return None
    os.environ.update(thread_settings())
    libraries = blas_libraries()
    before = os.environ.get(CORE_TYPE)
    os.environ.update(blas_kernels(libraries))
    try:
        is_loaded = bool(libraries) and all(map(_load, libraries))
    finally:  # other libraries, as NumPy's newer OpenBLAS, know better
        if before is None:
            os.environ.pop(CORE_TYPE, None)
    if not is_loaded:
        return None
    where = "the system" if libraries == [SYSTEM_LIBRARY] else "the faiss-cpu wheel"
    return f"OpenBLAS of {where} ({Path(libraries[-1]).name})"


def blas_libraries() -> list[str]:
    """Return the libraries that :func:`preload_blas` loads, in load order; empty: there is none, or none is needed."""
    if not sys.platform.startswith("linux"):
        return []
    return [SYSTEM_LIBRARY] if _load(SYSTEM_LIBRARY) else list(map(str, _wheel_files()))


def blas_kernels(libraries: list[str], cpu_info: Path = CPU_INFO) -> dict[str, str]:
    """Return the environment variable that chooses the kernels of libraries while they are loaded; empty: none does.

    The user's own choice holds, and so does that of a system's library, which is as new as the system.

    Args:
        libraries: those of :func:`blas_libraries`.
        cpu_info: description of the processors, in the form of Linux.
    """
    if CORE_TYPE in os.environ or not libraries or libraries == [SYSTEM_LIBRARY]:
        return {}
    try:
        lines = read_file(cpu_info).decode("utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    return next(({CORE_TYPE: core} for core, needed in CORES.items() if needed <= flags), {})


def _wheel_files() -> list[Path]:
    """The parts that the faiss-cpu wheel has, in load order, or none. The package is located, not imported."""
    found = importlib.util.find_spec("faiss")
    if found is None or found.origin is None:
        return []
    folder = Path(found.origin).parent.parent / "faiss_cpu.libs"
    candidates = [sorted(folder.glob(f"{part}*.so*")) for part in WHEEL_PARTS]
    return [files[0] for files in candidates] if all(candidates) else []


def _load(name: str) -> bool:
    """Put a library into the global symbol scope; false when it is missing or is no BLAS of the plain kind."""
    try:
        library = ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return "openblas" not in name or hasattr(library, "cblas_sgemm")
