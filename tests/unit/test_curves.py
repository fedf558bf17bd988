"""Curves of the errors of a model over what it is run with."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from dotsctl.protocol.errors import UsageError
from dotsctl.tools.dev import curves
from dotsctl.tools.dev.curves import operations, values_of
from dotsctl.tools.dev.evaluate.evaluation import EvaluatedPage, Evaluation
from dotsctl.tools.measuring.scores import Score
from dotsctl.tools.pages.truths import Truth

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
CONFIG = {
    "hidden_size": 4,
    "intermediate_size": 6,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 3,
    "vocab_size": 10,
    "vision_config": {
        "embed_dim": 8, "hidden_size": 4, "intermediate_size": 5, "num_hidden_layers": 2, "patch_size": 14,
    },
}  # fmt: skip


def test_operations_are_counted_as_by_hand() -> None:
    patches = 8
    block = (
        2 * patches * (3 * 8 * 8 + 8 * 8 + 3 * 8 * 5) + 2 * 2 * patches * patches * 8
    )  # qkv, proj, MLP; scores, sums
    merger = 2 * 2 * (32 * 32 + 32 * 4)
    tower = 2 * block + 2 * patches * 588 * 8 + merger
    linear = 4 * 4 + 2 * 4 * 2 + 4 * 4 + 3 * 4 * 6  # q, k and v, o, MLP
    layer = 2 * 12 * linear + 2 * 2 * (12 * 12 / 2) * 4
    assert operations(CONFIG, 2, 7, 5) == tower + 3 * layer + 2 * 5 * 4 * 10


@pytest.mark.parametrize("text", ["noise", "noise=;", "colour=1;2", ""])
def test_what_cannot_be_varied_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"NAME=VALUE;VALUE"):
        values_of(text)


def fake_run(calls: list[tuple[int | None, str | None]]) -> Any:
    def run(pages: Iterable[Truth], task: str, max_pixels: int | None, **choices: str | None) -> Any:
        count = len(list(pages))
        calls.append((max_pixels, choices["decoder"]))
        readings = [
            EvaluatedPage(
                Truth("a", Path("a"), "", ""), "", "", "", 0, (), {"image": 2, "prompt": 7, "completion": 5}, ""
            )
        ]
        return Evaluation(task, Score(count, 100, 10), seconds=3.0, readings=readings), {"model": "demo"}

    return run


def test_each_value_is_one_run_and_each_name_one_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[tuple[int | None, str | None]] = []
    monkeypatch.setattr(curves, "run", fake_run(calls))
    vary = ["--vary", "max-pixels=5000;9000", "--vary", "decoder=mlx;mlx:bits=4"]
    outcome = CliRunner().invoke(curves.main, [*vary, "--pages", "3", "--style", "small", str(tmp_path)])
    assert outcome.exit_code == 0, outcome.output
    assert calls == [(5000, None), (9000, None), (None, "mlx"), (None, "mlx:bits=4")]
    assert "max-pixels 9000: error rate 10.00%, 1.00 s" in outcome.output
    found = json.loads((tmp_path / "curves.json").read_text())
    assert [point["value"] for point in found["decoder"]] == ["mlx", "mlx:bits=4"]
    assert (tmp_path / "max-pixels.png").is_file() and (tmp_path / "decoder.png").is_file()


@pytest.mark.parametrize("varied", ["noise=0;1", "type-px=16;20"])
def test_what_is_drawn_does_not_vary_on_pages_of_a_folder(tmp_path: Path, varied: str) -> None:
    arguments = ["--vary", varied, "--folder", str(tmp_path), str(tmp_path / "out")]
    outcome = CliRunner().invoke(curves.main, arguments)
    assert outcome.exit_code == 2 and "leave --folder out" in outcome.output
