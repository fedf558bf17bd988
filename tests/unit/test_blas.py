import importlib.util
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from dotsctl.protocol.worker.blas import preload_blas
printed = preload_blas()
import ctypes
print(printed, os.environ.get("OPENBLAS_NUM_THREADS"), os.environ.get("OMP_NUM_THREADS"))
print(hasattr(ctypes.CDLL(None), "cblas_sgemm"), "mlx.core" in sys.modules, "faiss" in sys.modules)
"""

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux needs another BLAS")


def run(**environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PATH": "/usr/bin:/bin", **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@on_linux
@pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="faiss-cpu is not installed")
def test_a_fast_blas_is_in_the_global_scope_before_mlx_is_imported() -> None:
    printed, facts = run()
    assert "OpenBLAS" in printed
    assert facts == "True False False"


@on_linux
def test_each_worker_gets_one_thread() -> None:
    assert run()[0].endswith(" 1 1")


@on_linux
def test_thread_counts_that_the_user_set_are_kept() -> None:
    assert run(OMP_NUM_THREADS="3")[0].endswith(" 3 3")
    assert run(OPENBLAS_NUM_THREADS="2")[0].endswith(" 2 1")


@pytest.mark.skipif(sys.platform != "darwin", reason="about macOS")
def test_macos_is_left_as_it_is() -> None:
    assert run()[0] == "None None None"
