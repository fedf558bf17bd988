"""Measured costs: what is remembered comes back, for the same model and machine alone."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from dotsctl.protocol.machine.identity import Machine
from dotsctl.protocol.machine.measured_costs import Cost, Decoding, MeasuredCosts, Preference, recall, remember

HERE = Machine("Apple M2", "macOS 15.5", "24F74")
MODEL = "f" * 64


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "cache"


def test_nothing_is_known_before_something_is_measured() -> None:
    assert recall(MODEL, HERE) == MeasuredCosts()


def test_figures_come_back_for_the_same_model_and_machine_alone() -> None:
    cost, decoding = Cost("mlx", 8640, 12.5, True), Decoding("mlx", 40.0, 800.0)
    remember(MODEL, HERE, [cost], [decoding])
    assert recall(MODEL, HERE) == MeasuredCosts((cost,), (decoding,))
    assert recall("0" * 64, HERE) == recall(MODEL, replace(HERE, build="24F75")) == MeasuredCosts()


def test_newer_figures_replace_older_ones_of_the_same_kind_and_no_others() -> None:
    remember(
        MODEL, HERE, [Cost("mlx", 8640, 12.0, True), Cost("mlx", 8640, 9.0, False), Cost("coreml", 8640, 8.0, True)]
    )
    remember(MODEL, HERE, [Cost("mlx", 8640, 14.0, True), Cost("mlx", 2016, 1.0, True)], [Decoding("mlx", 50.0, 700.0)])
    found = recall(MODEL, HERE)
    assert found.of_encoder("mlx", decoder_busy=True) == {2016: 1.0, 8640: 14.0}
    assert found.of_encoder("mlx", decoder_busy=False) == {8640: 9.0}
    assert found.of_encoder("coreml", decoder_busy=True) == {8640: 8.0}
    assert found.of_decoder("mlx") == Decoding("mlx", 50.0, 700.0)
    assert found.of_decoder("fake") is None


def test_a_figure_of_a_wrong_type_makes_the_file_count_as_nothing(cache: Path) -> None:
    remember(MODEL, HERE, [Cost("mlx", 8640, 12.0, True)], preferences=[Preference("coreml", "mlx", 96, 0.9, 1.2)])
    (file,) = cache.rglob("*.json")
    for field in ("page_s", "instead_page_s", "patches"):
        content = json.loads(file.read_text())
        content["preferences"][0][field] = "fast"
        file.write_text(json.dumps(content))
        assert recall(MODEL, HERE) == MeasuredCosts()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 99, "costs": [], "decodings": []}', '{"format": 1}'])
def test_a_damaged_file_or_one_of_another_version_counts_as_nothing(cache: Path, content: str) -> None:
    remember(MODEL, HERE, [Cost("mlx", 8640, 12.0, True)])
    (file,) = cache.rglob("*.json")
    file.write_text(content)
    assert recall(MODEL, HERE) == MeasuredCosts()
    remember(MODEL, HERE, [Cost("mlx", 8640, 12.0, True)])
    assert recall(MODEL, HERE).of_encoder("mlx", decoder_busy=True) == {8640: 12.0}


def test_a_cache_that_cannot_be_written_is_no_error(cache: Path) -> None:
    cache.write_text("no folder")
    remember(MODEL, HERE, [Cost("mlx", 8640, 12.0, True)])
    assert recall(MODEL, HERE) == MeasuredCosts()


@pytest.mark.parametrize(("patches", "seconds"), [(0, 1.0), (8640, 0.0), (8640, float("nan")), (8640, float("inf"))])
def test_what_cannot_have_been_measured_is_refused(patches: int, seconds: float) -> None:
    with pytest.raises(ValueError, match="is not a valid measurement"):
        Cost("mlx", patches, seconds, False)
