"""Checks of what is installed: the libraries with their versions, and the BLAS that MLX multiplies with on Linux."""

import importlib.metadata
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from dotsctl.protocol.errors import REINSTALL
from dotsctl.protocol.machine.libraries import COREMLTOOLS, INSTALL_COREML, MLX, MLX_LM
from dotsctl.protocol.worker.blas import preload_blas
from dotsctl.tools.doctor.child import answering, ask
from dotsctl.tools.doctor.report import Check, Finding, fail, ok, warn

REQUIRED = (
    "click", "httpx2", "huggingface-hub", MLX, MLX_LM, "msgpack", "numpy", "pikepdf", "pillow", "pillow-heif",
    "platformdirs", "pypdfium2", "pyzmq", "rapidfuzz", "rich", "tokenizers",
)  # fmt: skip
"""Distributions that dotsctl requires on every system."""
BLAS = "faiss-cpu"
"""Distribution with the BLAS that MLX multiplies with on Linux."""
SHAPE = (256, 1536, 2048)
"""A product of the decoder's size: rows, columns, inner length."""
FLOP = 2 * SHAPE[0] * SHAPE[1] * SHAPE[2]
SLOW = 3.0
"""The factor by which a BLAS must be faster than the one in MLX to count."""
BLAS_LIMIT_S = 60.0


def library_checks() -> list[Check]:
    """Return a check of the required libraries, one of coremltools and one of the speed of MLX."""
    return [
        Check("libraries", check_required),
        Check(COREMLTOOLS, check_coremltools),
        Check("matrix products", check_blas, 2 * BLAS_LIMIT_S + 10),
    ]


def required() -> tuple[str, ...]:
    """Return the distributions that dotsctl requires on this system, but coremltools."""
    return (*REQUIRED, BLAS) if sys.platform == "linux" else REQUIRED


def check_required() -> Finding:
    """Check whether the required libraries are installed."""
    versions, missing = _versions(required())
    if missing:
        return fail("libraries", f"{', '.join(missing)} not installed", REINSTALL)
    return ok("libraries", versions)


def check_coremltools() -> Finding:
    """Check for coremltools, without which pages are read with MLX alone and no Core ML package is built."""
    versions, missing = _versions([COREMLTOOLS])
    if missing:
        return warn(COREMLTOOLS, "not installed: no Core ML package can be built or run", INSTALL_COREML)
    return ok(COREMLTOOLS, versions)


def _versions(names: Sequence[str]) -> tuple[str, list[str]]:
    """``NAME VERSION`` of those that are installed, and the names of the others."""
    found, missing = [], []
    for name in names:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    return ", ".join(found), missing


def check_blas() -> Finding:
    """Check how fast MLX multiplies here, in children: a BLAS once loaded stays."""
    name = "matrix products"
    best = ask("dotsctl.tools.doctor.libraries", ["preload"], BLAS_LIMIT_S)
    if best.answer is None:
        return fail(name, f"MLX does not multiply: {best.how}\n{best.tail}", REINSTALL)
    if "missing" in best.answer:
        return warn(name, f"not measured: {best.answer['missing']}", REINSTALL)
    speed = best.answer["gflops"]
    if best.answer["device"] != "cpu":
        return ok(name, f"{speed:.0f} GFLOP/s on the GPU")
    plain = ask("dotsctl.tools.doctor.libraries", ["plain"], BLAS_LIMIT_S)
    bare = plain.answer["gflops"] if plain.answer else 0.0
    remedy = f"{REINSTALL}, or install OpenBLAS with the system (Debian: libopenblas0-pthread)"
    if best.answer["blas"] is None:
        return warn(name, f"{speed:.1f} GFLOP/s a thread with the BLAS that MLX brings; OpenBLAS does over 100", remedy)
    found = f"{speed:.0f} GFLOP/s a thread with {best.answer['blas']}"
    if bare and speed < SLOW * bare:
        return warn(name, f"{found}, no faster than {bare:.1f} with the one that MLX brings", remedy)
    return ok(name, found + (f"; {bare:.1f} with the one that MLX brings" if bare else ""))


def measure(words: Sequence[str]) -> dict[str, Any]:
    """Measure in a child: GFLOP/s of float32 products on one thread, with an OpenBLAS or with MLX's own BLAS."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    blas = preload_blas() if words == ["preload"] else None
    try:
        import mlx.core as mx
    except ImportError as error:
        return {"missing": f"MLX cannot be imported ({error})"}
    rows, columns, inner = SHAPE
    left, right = mx.ones((rows, inner)), mx.ones((inner, columns))
    best_s = float("inf")
    for _ in range(2):
        start = time.perf_counter()
        mx.eval(left @ right)  # (rows, columns)
        best_s = min(best_s, time.perf_counter() - start)
    device = "cpu" if mx.default_device().type == mx.DeviceType.cpu else "gpu"
    return {"gflops": FLOP / best_s / 1e9, "blas": blas, "device": device}


if __name__ == "__main__":
    answering(sys.argv[1:], measure)
