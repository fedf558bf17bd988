"""Input that cannot be read, through the command line, the demo model and real workers: each page fails alone."""

import os
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from dotsctl.protocol.messages import PageFailed
from dotsctl.protocol.model.directory import demo_directory
from PIL import Image

from tests.hostile_pdfs import laughs
from tests.process.conftest import Instance, dotsctl

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        not (demo_directory() / "model.safetensors").is_file(), reason="client/demo_model has no model.safetensors"
    ),
]
GOOD = Path(__file__).parents[2] / "client" / "sample_pages" / "notice.png"
TIMEOUT_S = 50.0


@dataclass(frozen=True)
class Bad:
    """An input that cannot be read, and words of the one line that the user gets."""

    path: Path
    words: tuple[str, ...]


def claiming(width_px: int, height_px: int) -> bytes:
    """A PNG of a few bytes that says it has this size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    header = width_px.to_bytes(4, "big") + height_px.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def unreadable(folder: Path) -> Bad:
    """A file without permission; root may read every file, so root gets a link that leads nowhere."""
    path = folder / "unreadable.png"
    if os.geteuid() == 0:
        path.symlink_to(folder / "nowhere.png")
        return Bad(path, ("no such file", "check the name"))
    shutil.copy(GOOD, path)
    path.chmod(0)
    return Bad(path, ("may not read", "chmod u+r"))


@pytest.fixture
def bad(tmp_path: Path) -> list[Bad]:
    """One of each kind that users have sent."""
    contents = {
        "empty": b"",
        "truncated": GOOD.read_bytes()[: GOOD.stat().st_size // 2],
        "text": b"Dear reader,\nthis is no picture.\n",
        "bomb": claiming(60_000, 60_000),
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.png").write_bytes(content)
    Image.new("RGB", (10, 2001), "white").save(tmp_path / "long.png")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("no picture")
    return [
        Bad(tmp_path / "missing.png", ("no such file", "check the name")),
        Bad(tmp_path / "empty.png", ("is empty", "export the page again")),
        unreadable(tmp_path),
        Bad(tmp_path / "truncated.png", ("damaged", "export the page again")),
        Bad(tmp_path / "text.png", ("text and no picture", "name the scan itself")),
        Bad(tmp_path / "long.png", ("10x2001 px", "200 times", "cut it into pages")),
        Bad(tmp_path / "bomb.png", ("3600000000 pixels", "lower resolution")),
        Bad(tmp_path / "folder", ("no picture in this folder", "name one with")),
    ]


def ocr(*arguments: str | Path) -> tuple[int, str, str]:
    process = dotsctl("ocr", "--model", "demo", "--encoder", "mlx", "--decoder", "mlx", *map(str, arguments))
    out, err = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, out, err


def check_lines(err: str, bad: list[Bad]) -> None:
    """Each bad input has exactly one line, with its name and the remedy."""
    for one in bad:
        lines = [line for line in err.splitlines() if str(one.path) in line]
        assert len(lines) == 1, f"{one.path.name} has {len(lines)} lines:\n{err}"
        assert lines[0].startswith(f"{one.path}:1: ")
        assert all(word in lines[0] for word in one.words), lines[0]


def test_every_kind_of_bad_input_is_one_line_and_the_other_pages_are_read(
    run_folder: Path, bad: list[Bad], tmp_path: Path
) -> None:
    pixel = tmp_path / "pixel.png"
    Image.new("RGB", (1, 1), "white").save(pixel)
    half = len(bad) // 2
    inputs = [*(one.path for one in bad[:half]), GOOD, *(one.path for one in bad[half:]), pixel]
    code, out, err = ocr(*inputs)
    assert code == 1, err
    check_lines(err, bad)
    sources = tuple(f"{path}:1: " for path in inputs)
    summary = f"2 pages read, 1 blank ({pixel}:1), {len(bad)} failed"
    assert [line for line in err.splitlines() if not line.startswith(sources)] == [summary]
    texts = dict(part.split(" <==\n", 1) for part in out.removeprefix("==> ").split("\n==> "))
    assert len(texts[str(GOOD)].strip()) > 20, out
    assert texts[str(pixel)].strip() == ""


def test_input_of_which_nothing_can_be_read_is_exit_code_4(run_folder: Path, bad: list[Bad]) -> None:
    code, out, err = ocr(*(one.path for one in bad))
    assert (code, out.strip()) == (4, ""), err
    check_lines(err, bad)


def test_a_page_of_one_pixel_reads_as_empty(run_folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), "white").save(tmp_path / "pixel.png")
    code, out, err = ocr(tmp_path / "pixel.png")
    assert (code, out.strip()) == (0, "")
    assert err.startswith("1 page read, 1 blank (")


def test_a_file_of_another_client_is_decoded_within_the_render_timeout_of_the_settings(
    start: Callable[..., Instance],
) -> None:
    instance = start("mlx", "mlx", model=str(demo_directory()), model_name="demo", render_timeout_s=1.0)
    answer = instance.read([laughs()])[0]
    assert isinstance(answer, PageFailed) and "not rendered within 1 s" in answer.message
