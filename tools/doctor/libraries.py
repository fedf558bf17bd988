"""Checks of what is installed: the extras with their versions, and the BLAS that MLX multiplies with on Linux."""

import importlib.metadata
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from dotsctl.protocol.machine.libraries import COREML_EXTRA, COREMLTOOLS, MLX, MLX_EXTRA, MLX_LM
from dotsctl.protocol.worker.blas import preload_blas
from dotsctl.tools.doctor.child import answering, ask
from dotsctl.tools.doctor.report import Check, Finding, fail, ok, warn
from dotsctl.tools.doctor.setup import Setup

BASE = ("pyzmq", "msgpack", "numpy", "pillow", "click", "platformdirs", "rich")
EXTRAS = {
    MLX_EXTRA: ((MLX, MLX_LM, "tokenizers"), "reads pages with MLX"),
    "blas": (("faiss-cpu",), "makes MLX fast on Linux"),
    COREML_EXTRA: ((COREMLTOOLS,), "runs the encoder on the Neural Engine"),
    "pdf": (("pypdfium2", "pillow-heif"), "reads PDF and HEIC"),
    "hub": (("huggingface-hub", "httpx2"), "downloads models"),
}
"""Distributions of each extra, and what it does."""
SHAPE = (256, 1536, 2048)
"""A product of the decoder's size: rows, columns, inner length."""
FLOP = 2 * SHAPE[0] * SHAPE[1] * SHAPE[2]
SLOW = 3.0
"""The factor by which a BLAS must be faster than the one in MLX to count."""
BLAS_LIMIT_S = 60.0


def library_checks(setup: Setup) -> list[Check]:
    """A check for the base, one for each extra that exists for this system, and one for the speed."""
    names = [name for name in EXTRAS if _exists(name)]
    return [
        Check("base", check_base),
        *(Check(f"extra {name}", partial(check_extra, name, setup)) for name in names),
        Check("matrix products", check_blas, 2 * BLAS_LIMIT_S + 10),
    ]


def _exists(extra: str) -> bool:
    if extra == "blas":
        return sys.platform == "linux"
    return extra != COREML_EXTRA or sys.platform == "darwin" or os.uname().machine == "x86_64"


def check_base() -> Finding:
    """Check whether the required libraries are installed."""
    versions, missing = _versions(BASE)
    if missing:
        return fail("base", f"{', '.join(missing)} not installed", "pip install --force-reinstall dotsctl")
    return ok("base", versions)


def check_extra(extra: str, setup: Setup) -> Finding:
    """Check whether an extra is installed; it must be where the chosen plugins need it."""
    name, (distributions, purpose) = f"extra {extra}", EXTRAS[extra]
    versions, missing = _versions(distributions)
    if not missing:
        return ok(name, versions)
    found = f"{', '.join(missing)} not installed, which {purpose}"
    remedy = f"pip install 'dotsctl[{extra}]'"
    needed = extra in setup.extras
    return fail(name, found, remedy) if needed else warn(name, found, remedy)


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
        return fail(name, f"MLX does not multiply: {best.how}\n{best.tail}", "pip install 'dotsctl[all]'")
    if "missing" in best.answer:
        return warn(name, f"not measured: {best.answer['missing']}", "pip install 'dotsctl[mlx]'")
    speed = best.answer["gflops"]
    if best.answer["device"] != "cpu":
        return ok(name, f"{speed:.0f} GFLOP/s on the GPU")
    plain = ask("dotsctl.tools.doctor.libraries", ["plain"], BLAS_LIMIT_S)
    bare = plain.answer["gflops"] if plain.answer else 0.0
    remedy = "pip install 'dotsctl[blas]', or install OpenBLAS with the system (Debian: libopenblas0-pthread)"
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
