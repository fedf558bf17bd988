"""Workers load what they compute with, and not transformers, which takes about a second."""

import subprocess
import sys

import pytest

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
