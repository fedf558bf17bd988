"""``dotsctl demo``: what a newcomer runs first."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from dotsctl.client.cli.demo import SAMPLE_PAGES
from dotsctl.client.cli.main import cli

pytest.importorskip("mlx.core")
pytestmark = pytest.mark.model


@pytest.fixture(autouse=True)
def here(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def demo(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["demo", *arguments])


def test_it_prints_the_sample_pages_and_writes_an_html_page_with_their_boxes() -> None:
    outcome = demo()
    assert outcome.exit_code == 0, outcome.output
    names = [path.name for path in sorted(SAMPLE_PAGES.glob("*.png"))]
    assert len(names) == 5
    assert [line for line in outcome.stdout.splitlines() if line.startswith("==>")] == [f"==> {n} <==" for n in names]
    assert "thank you for your letter" in outcome.stdout
    file = Path("dotsctl-demo.html")
    assert outcome.stderr.endswith(f"pages with boxes, for a browser: {file.absolute().as_uri()}\n")
    text = file.read_text("utf-8")
    assert (
        all(name in text for name in names) and text.count("data:image/") >= 5 and "thank you for your letter" in text
    )
    assert demo("-o", "dotsctl-demo.html").exit_code == 0, "its own file is replaced"


def test_a_file_of_the_user_is_kept_and_no_page_is_read() -> None:
    Path("dotsctl-demo.html").write_text("mine")
    outcome = demo()
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert "not written by dotsctl" in outcome.stderr
    assert Path("dotsctl-demo.html").read_text() == "mine"


def test_a_name_of_another_format_is_refused() -> None:
    outcome = demo("-o", "pages.txt")
    assert outcome.exit_code == 2
    assert "-o pages.txt is no HTML file" in outcome.stderr and "end its name with .html" in outcome.stderr
