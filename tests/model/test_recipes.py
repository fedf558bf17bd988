"""The recipes of ``client/README.md`` read real pages with the demo model."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dotsctl.tools.dev.manual_commands import blocks
from PIL import Image

pytest.importorskip("mlx.core")
pytest.importorskip("pypdfium2")
pytestmark = pytest.mark.model
ROOT = Path(__file__).parents[2]
PAGES = ("letter.png", "notice.png")
LETTER, NOTICE = "two books", "side door"
READ = {
    "document.save": ([LETTER], ["letter.html"]),
    'client.ocr(["client': ([LETTER, NOTICE], []),
    "report.pdf": (["1 of 2", "2 of 2", "books"], []),
    "client.stream(": ([LETTER], []),
    "client.stream_cells": (["Text (", LETTER], []),
    "Image.open": ([LETTER, NOTICE], []),
    "client.events": ([LETTER, NOTICE, "ok"], []),
    "missing.png": ([LETTER, "there is no such file"], []),
    "AsyncClient": ([LETTER], []),
    "Page.from_record": ([LETTER], []),
    "HintBlock(": ([LETTER], []),
}
"""Words that only one recipe has; then words that it prints, and files that it writes."""


def dotsctl(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-P", "-m", "dotsctl", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_recipe_reads_the_sample_pages_with_the_demo_model(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One runtime serves all of them, as a user's would."""
    folder = tmp_path / "client" / "sample_pages"
    folder.mkdir(parents=True)
    for name in PAGES:
        shutil.copy(ROOT / "client" / "sample_pages" / name, folder)
    first, second = (Image.open(folder / name).convert("RGB") for name in PAGES)
    first.save(tmp_path / "report.pdf", save_all=True, append_images=[second], resolution=150)
    monkeypatch.chdir(tmp_path)
    recipes = [
        code for code in blocks((ROOT / "client" / "README.md").read_text("utf-8"), "python") if "Fake" not in code
    ]
    dotsctl("up", "-d", "--model", "demo")
    try:
        for code in recipes:
            (words,) = (each for each in READ if each in code)
            expected, files = READ[words]
            exec(compile(code, words, "exec"), {"__name__": "__main__"})
            shown = " ".join(capsys.readouterr().out.split())
            assert [part for part in expected if part not in shown] == [], f"{words}: {shown}"
            assert all((tmp_path / file).is_file() for file in files), words
    finally:
        dotsctl("down")
    assert len(recipes) == len(READ)
