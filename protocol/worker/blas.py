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

SYSTEM_LIBRARY = "libopenblas.so.0"
WHEEL_PARTS = ("libquadmath", "libgfortran", "libgomp", "libopenblas")
"""Libraries inside the faiss-cpu wheel; each needs the ones in front of it."""


@cache
def preload_blas() -> str | None:
    """Load an optimised BLAS for MLX and return its name for the log; None where none was found.

    The thread count is set to one for each worker, unless ``OPENBLAS_NUM_THREADS`` or ``OMP_NUM_THREADS`` is set
    already: two workers with as many threads as there are cores each slow each other down. No effect on macOS, where
    MLX computes with Metal and Accelerate.
    """
    if not sys.platform.startswith("linux"):
        return None
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
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
