"""The demo model that ships, through the whole runtime: what the README says of it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from dotsctl import Client
from dotsctl.protocol.model.directory import demo_directory

from tests.conftest import sample

pytest.importorskip("mlx.core")
pytestmark = pytest.mark.model
PAGES = Path(__file__).parents[2] / "client" / "sample_pages"
MAX_BYTES = 8_000_000


def test_its_files_take_at_most_8_mb() -> None:
    assert sum(path.stat().st_size for path in demo_directory().iterdir()) <= MAX_BYTES


@pytest.mark.parametrize("task", ["text", "layout"])
def test_it_reads_the_sample_pages(run_folder: Path, task: str) -> None:
    distance = pytest.importorskip("rapidfuzz.distance.Levenshtein").distance
    edits = characters = 0
    with Client(model="demo", private=True) as client:
        for page in client.ocr(sorted(PAGES.glob("*.png")), task=task):
            assert page.error is None and page.path is not None
            truth = page.path.with_suffix(".txt").read_text().split()
            edits += distance(" ".join(page.plain_text.split()), " ".join(truth))
            characters += len(" ".join(truth))
    assert edits <= 0.1 * characters, f"{edits} edits in {characters} characters"


@pytest.mark.sampled
@pytest.mark.timeout(300)
@pytest.mark.parametrize("options", [("--limit", "0.15"), ("--task", "layout", "--min-json", "0.9")], ids=str)
def test_it_reads_new_pages(run_folder: Path, options: tuple[str, ...]) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("rapidfuzz")
    from dotsctl.tools.dev.evaluate.main import main

    pages = sample(10, of=20)
    outcome = CliRunner().invoke(main, ["--pages", str(pages), "--json", *options])
    assert outcome.exit_code == 0, outcome.output
    found = json.loads(outcome.stdout)
    assert (found["pages"], found["style"]) == (pages, "full")
