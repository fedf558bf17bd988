"""A fast BLAS for MLX on Linux; to be called by both workers before anything imports ``mlx.core``. Does not import it.

The Linux wheel of MLX carries the reference BLAS: 4.5 GFLOP per CPU-second where OpenBLAS does 123 (256 x 1536 x 8960
in float32). MLX finds the routine by its plain name, so a library that is in the process's global symbol scope
first is the one it uses. NumPy's own OpenBLAS does not help: its symbols have a prefix.
"""

import ctypes
import importlib.util
import os
import sys
from functools import cache
from pathlib import Path

WORKERS = 2
"""The processes of a runtime that compute at the same time."""
SYSTEM_LIBRARY = "libopenblas.so.0"
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
    if _load(SYSTEM_LIBRARY):
        return f"OpenBLAS of the system ({SYSTEM_LIBRARY})"
    files = _wheel_files()
    if len(files) == len(WHEEL_PARTS) and all(_load(str(file)) for file in files):
        return f"OpenBLAS of the faiss-cpu wheel ({files[-1].name})"
    return None


def _wheel_files() -> list[Path]:
    """The parts that the faiss-cpu wheel has, in load order. The package is located, not imported."""
    found = importlib.util.find_spec("faiss")
    if found is None or found.origin is None:
        return []
    folder = Path(found.origin).parent.parent / "faiss_cpu.libs"
    candidates = [sorted(folder.glob(f"{part}*.so*")) for part in WHEEL_PARTS]
    return [files[0] for files in candidates if files]


def _load(name: str) -> bool:
    """Put a library into the global symbol scope; false when it is missing or is no BLAS of the plain kind."""
    try:
        library = ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return "openblas" not in name or hasattr(library, "cblas_sgemm")
