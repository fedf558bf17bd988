"""The client of protocol/README.md: plain pyzmq and msgpack, run as it stands in the manual."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dotsctl.decoder_worker.plugins.fake import fake_text
from PIL import Image

from tests.process.conftest import Instance

pytestmark = pytest.mark.process
ROOT = Path(__file__).parents[2]


def run(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run the program of the manual without dotsctl on its path."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "protocol" / "README.md").read_text(), re.DOTALL)
    assert "dotsctl" not in code
    (folder / "example.py").write_text(code)
    command = [sys.executable, "-P", str(folder / "example.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder)


def test_the_client_of_the_manual_reads_a_page(start: Callable[..., Instance], tmp_path: Path) -> None:
    instance = start("fake")
    picture = ROOT / "client" / "sample_pages" / "letter.png"
    done = run(tmp_path, str(instance.runtime.directory.path / "c.sock"), str(picture))
    pixels = Image.open(picture).convert("RGB").tobytes()
    assert (done.returncode, done.stdout) == (0, fake_text(pixels) + "\n"), done.stderr


def test_a_page_that_fails_is_an_error_of_the_client_of_the_manual(
    start: Callable[..., Instance], tmp_path: Path
) -> None:
    instance = start("fake:fault=refuse")
    picture = ROOT / "client" / "sample_pages" / "letter.png"
    done = run(tmp_path, str(instance.runtime.directory.path / "c.sock"), str(picture))
    assert done.returncode == 1 and "is set to refuse this page" in done.stderr
