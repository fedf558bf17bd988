"""The noise curve of the demo model."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from dotsctl.protocol.errors import DotsctlError, NoInputError, UsageError
from dotsctl.tools.dev.noise import main as noise
from dotsctl.tools.dev.verify import main as verify

pytest.importorskip("rapidfuzz")
pytestmark = pytest.mark.model
INVOICE = Path(__file__).parents[2] / "client" / "sample_pages" / "invoice.png"


def run(*words: str) -> Result:
    return CliRunner().invoke(noise.cli, [str(word) for word in words])


def points(*words: str) -> list[dict[str, Any]]:
    result = run("--json", *words)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["points"]


def test_more_noise_changes_more_text_and_the_numbers_and_a_plot_are_written(tmp_path: Path) -> None:
    words = ["--pages", str(INVOICE), "--cosines", "0.5,0.99999", "--seeds", "1", "-o", str(tmp_path / "out")]
    result = run(*words, "--also", "mlx:query_chunk=7")
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "out" / "noise.json").read_text())
    none, much, little, other = content["points"]
    assert [point["cosine"] for point in (none, much, little)] == [1.0, 0.5, 0.99999]
    assert (none["error_rate"], none["token_agreement"], none["same_answers"]) == (0, 1, 1)
    assert none["truth_error_rate"] < 0.1  # the truth lies next to the picture
    assert much["error_rate"] > 0.3 and much["token_agreement"] < 0.9
    assert little["error_rate"] == 0 and little["token_agreement"] == 1
    assert much["relative_error"] == pytest.approx(math.tan(math.acos(0.5)))
    assert other["source"] == "mlx:query_chunk=7" and other["cosine"] > 0.999999 and other["error_rate"] == 0
    assert (tmp_path / "out" / "noise.png").read_bytes().startswith(b"\x89PNG")
    assert result.stdout.count("\n") == 5 and "mlx:query_chunk=7" in result.stdout


def test_the_same_command_gives_the_same_curve_and_printed_pages_have_a_truth() -> None:
    words = ("--pages", "1", "--cosines", "0.9", "--seeds", "1")
    first = points(*words)
    assert first == points(*words)
    assert first[1]["answers"] == 1
    assert all(point["truth_error_rate"] is not None for point in first)


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--cosines", "0.9,1"], UsageError, "numbers between 0 and 1"),
        (["--cosines", "high"], UsageError, "numbers between 0 and 1"),
        (["--pages", "3", "--pages", str(INVOICE)], UsageError, "one number of pages to print, or files"),
        (["--pages", "-"], UsageError, "no standard input"),
        (["--pages", "no.png"], NoInputError, "no such file"),
        (["--encoder", "unheard"], UsageError, "no plugin 'unheard'"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(words: list[str], error: type[DotsctlError], message: str) -> None:
    result = run(*words)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)


def test_verify_hands_noise_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["verify", "--noise", "--cosines", "2"])
    with pytest.raises(SystemExit) as ended:
        verify.main()
    assert ended.value.code == 2
    assert "--cosines '2'" in capsys.readouterr().err
