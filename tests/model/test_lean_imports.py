"""Workers load what they compute with, and not transformers, which takes about a second."""

import subprocess
import sys
from pathlib import Path

import pytest
from dotsctl.client.cli.demo import SAMPLE_PAGES

pytestmark = pytest.mark.model


@pytest.mark.parametrize(
    ("library", "statement"),
    [
        ("mlx_lm", "import dotsctl.decoder_worker.adapter, dotsctl.decoder_worker.model"),
        ("coremltools", "from dotsctl.encoder_worker.coreml.library import import_coremltools as load; load()"),
    ],
)
def test_a_worker_starts_without_transformers(library: str, statement: str) -> None:
    pytest.importorskip(library)
    program = f"import sys; {statement}; print('transformers' in sys.modules, {library!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", "True"], done.stderr


def imported(log: str) -> set[str]:
    """The modules that a process has imported, by its log of ``PYTHONPROFILEIMPORTTIME``."""
    lines = (line.split("|") for line in log.splitlines() if line.startswith("import time:"))
    return {words[-1].strip() for words in lines}


def test_no_process_of_a_reading_imports_transformers_or_torch_and_few_import_numpy(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    found: dict[str, set[str]] = {}

    def run(*arguments: str) -> None:
        command = [sys.executable, "-P", "-m", "dotsctl", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        found[arguments[0]] = imported(done.stderr)

    run("up", "-d", "--model", "demo")
    try:
        run("ocr", str(SAMPLE_PAGES / "notice.png"))
    finally:
        run("down")
    found |= {path.stem: imported(path.read_text("utf-8", "replace")) for path in tmp_path.rglob("*.log")}
    assert {"up", "ocr", "runtime", "encoder.1", "decoder.1"} <= found.keys()
    assert {"mlx.core", "numpy"} <= found["encoder.1"] & found["decoder.1"], "the logs show what is imported"
    assert [name for name, modules in found.items() if modules & {"transformers", "torch"}] == []
    assert sorted(name for name, modules in found.items() if "numpy" in modules) == ["decoder.1", "encoder.1"]
    assert not found["up"] & {"zmq", "msgpack", "dotsctl.protocol.messages"}
