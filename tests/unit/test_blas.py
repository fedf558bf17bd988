import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from dotsctl.client.runtime.processes import WorkerProcesses
from dotsctl.client.runtime.worker_slots import DECODER
from dotsctl.protocol.worker.blas import CORE_TYPE, CORES, SYSTEM_LIBRARY, blas_kernels, blas_libraries, thread_settings

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
@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 1), (8, 4)])
def test_each_worker_gets_half_of_the_cores_as_threads(
    monkeypatch: pytest.MonkeyPatch, cores: int, threads: int
) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)))
    assert thread_settings() == {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}


@on_linux
def test_numpy_in_a_worker_has_the_threads_of_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy reads them when it is imported, so the process must have them from its start."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    program = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['OPENBLAS_NUM_THREADS'])"
    processes = WorkerProcesses(tmp_path, tmp_path, "", lambda *_: [sys.executable, "-c", program])
    processes.spawn(DECODER, 1, tmp_path / "log")
    processes.stop_all(20.0)
    assert (tmp_path / "log").read_text().split() == [thread_settings()["OMP_NUM_THREADS"], "3"]


@on_linux
def test_thread_counts_that_the_user_set_are_kept() -> None:
    assert run(OMP_NUM_THREADS="3")[0].endswith(" 3 3")
    assert run(OPENBLAS_NUM_THREADS="2")[0].endswith(" 2 1")


CORE = """
import ctypes, os, sys
from dotsctl.protocol.worker import blas
blas.preload_blas()
name = ctypes.CDLL(blas.blas_libraries()[-1]).openblas_get_corename
name.restype = ctypes.c_char_p
print(name().decode().lower(), os.environ.get(blas.CORE_TYPE))
"""


def flags(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor : 0\nmodel name : unknown\nflags : {text}\n")
    return file


@on_linux
@pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="faiss-cpu is not installed")
def test_the_kernels_are_the_fastest_that_the_processor_has_even_if_the_library_does_not_know_it() -> None:
    expected = blas_kernels(["libopenblas.so"]).get(CORE_TYPE)
    if expected is None or blas_libraries() == [SYSTEM_LIBRARY]:
        pytest.skip("the library chooses by itself here")
    done = subprocess.run([sys.executable, "-P", "-c", CORE], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == [expected.lower(), "None"], "other libraries of the process choose by themselves"


def test_kernels_follow_from_the_flags_of_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CORE_TYPE, raising=False)
    every = " ".join(CORES["SkylakeX"])
    assert blas_kernels(["x.so"], flags(tmp_path, every)) == {CORE_TYPE: "SkylakeX"}
    assert blas_kernels(["x.so"], flags(tmp_path, "sse2 avx avx2 fma")) == {CORE_TYPE: "Haswell"}
    assert blas_kernels(["x.so"], flags(tmp_path, "sse2 avx")) == {}
    assert blas_kernels(["x.so"], tmp_path / "none") == {}
    assert blas_kernels([SYSTEM_LIBRARY], flags(tmp_path, every)) == {}
    monkeypatch.setenv(CORE_TYPE, "Zen")
    assert blas_kernels(["x.so"], flags(tmp_path, every)) == {}


@pytest.mark.skipif(sys.platform != "darwin", reason="about macOS")
def test_macos_is_left_as_it_is() -> None:
    assert run()[0] == "None None None"
