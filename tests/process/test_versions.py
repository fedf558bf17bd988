"""dotsctl is updated while a runtime runs."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from dotsctl.client.connection import launch
from dotsctl.client.settings.runtime_config import PluginChoice, RuntimeConfig
from dotsctl.protocol import PROTOCOL_VERSION
from dotsctl.protocol.endpoints import instance_directory, lock_holder
from PIL import Image

from tests.conftest import HAS_PROC, processes_in, wait_gone
from tests.process.conftest import NAME, START_S, dotsctl
from tests.process.test_endings import finish

pytestmark = [pytest.mark.process, pytest.mark.skipif(not HAS_PROC, reason="examines other processes")]
ROOT = Path(__file__).parents[2]
MAJOR, MINOR = PROTOCOL_VERSION
Update = Callable[[str, tuple[int, int]], None]


@pytest.fixture
def update(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Update:
    """Start a runtime of a copy of the package; what this returns gives the copy another version."""
    package = tmp_path / "site" / "dotsctl"
    shutil.copytree(ROOT / "client" / "package", package)
    for name in ("client", "protocol", "encoder_worker", "decoder_worker"):
        shutil.copytree(ROOT / name, package / name, ignore=shutil.ignore_patterns("__pycache__", "demo_model", "*.md"))
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # a second change within a second would go unnoticed
    fake = PluginChoice.parse("fake")
    launch.start_detached(RuntimeConfig(NAME, "fake", "", fake, fake), START_S)

    def change(version: str, protocol: tuple[int, int]) -> None:
        for file, old, new in (
            (package / "__init__.py", '__version__ = "0.1.0"', f'__version__ = "{version}"'),
            (package / "protocol" / "__init__.py", f"PROTOCOL_VERSION = ({MAJOR}, {MINOR})",
             f"PROTOCOL_VERSION = {protocol}"),
        ):  # fmt: skip
            text = file.read_text()
            assert old in text
            file.write_text(text.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("version", "protocol"), [("9.0", (MAJOR + 1, 0)), ("0.9", (MAJOR, MINOR + 7)), ("0.1.1", (MAJOR, MINOR))]
)
def test_every_process_of_another_version_gets_one_line_at_once(
    run_folder: Path, tmp_path: Path, update: Update, version: str, protocol: tuple[int, int]
) -> None:
    update(version, protocol)
    page = tmp_path / "page.png"
    Image.new("RGB", (56, 56)).save(page)
    code, _, err = finish(dotsctl("ocr", str(page), "--name", NAME))
    assert code == 6 and "dotsctl down" in err and "dotsctl up" in err and "Traceback" not in err, err
    code, out, err = finish(dotsctl("status", "--name", NAME))
    assert code == 0 and "0.1.0" in out, err
    encoder = next(pid for pid in processes_in(run_folder) if b"encoder_worker" in command_of(pid))
    runtime = lock_holder(instance_directory(NAME))
    assert runtime
    os.kill(encoder, signal.SIGKILL)
    assert wait_gone(runtime, 10.0), "the next encoder is of another version, and no start would help"
    log = launch.log_files(NAME)["runtime"].read_text()
    assert "dotsctl was updated" in log and "Traceback" not in log, log
    assert not [pid for pid in processes_in(run_folder) if not wait_gone(pid, 2.0)]


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
