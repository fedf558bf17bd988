"""Costs of the rows of a pass and differences of their scores: measured once, remembered by model and machine."""

import time
from pathlib import Path

import pytest
from dotsctl.decoder_worker.plugins.mlx import MLXDecoder
from dotsctl.protocol.machine.identity import Machine
from dotsctl.protocol.model.directory import demo_directory

from tests.plugins import load_plugin

mx = pytest.importorskip("mlx.core")

from dotsctl.decoder_worker import row_timing  # noqa: E402 - needs MLX
from dotsctl.decoder_worker.adapter import BatchAdapter, SplicedPage  # noqa: E402 - needs MLX
from dotsctl.decoder_worker.drafts.depth import RowCosts  # noqa: E402 - needs MLX
from dotsctl.decoder_worker.model import load_model  # noqa: E402 - needs MLX
from dotsctl.decoder_worker.rows import Rows  # noqa: E402 - needs MLX

pytestmark = pytest.mark.model
HERE = Machine("Apple M2", "macOS 15.5", "24F74")
TIMES = row_timing.RowTimes(RowCosts(((1, 1.0), (2, 1.5)), 0.25), 1e-6)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Networks that were measured; each has the same figures."""
    networks: list[object] = []

    def measure(network: object) -> row_timing.RowTimes:
        networks.append(network)
        return TIMES

    monkeypatch.setattr(row_timing, "measure", measure)
    return networks


def test_costs_of_rows_rise_with_their_number_and_differences_are_small(model: Path) -> None:
    times = row_timing.measure(load_model(model).network)
    rows = [count for count, _ in times.costs.seconds]
    assert rows == [1, *row_timing.WIDTHS]
    assert 0 <= times.difference < 1e-3
    assert times.tie_gap == row_timing.SAFETY * times.difference


def test_a_measurement_leaves_the_network_as_it_was(model: Path) -> None:
    network = load_model(model).network
    before = network(mx.array([[5, 3, 8]]))
    row_timing.measure(network)
    assert mx.array_equal(network(mx.array([[5, 3, 8]])), before)


def test_a_row_among_others_that_scores_differently_is_noticed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, scores = load_model(model).network, row_timing.pass_scores

    def rounded(*given: object) -> object:
        found = scores(*given)  # type: ignore[arg-type]
        return found if found.shape[1] == 1 else found + 0.01

    monkeypatch.setattr(row_timing, "pass_scores", rounded)
    assert row_timing.measure(network).difference == pytest.approx(0.01, rel=0.1)


def test_a_model_is_measured_once_on_a_machine(model: Path, run_folder: Path, measured: list[object]) -> None:
    network = load_model(model).network
    for key, machine in ((("f",), HERE), (("f",), HERE), (("g",), HERE), (("f",), Machine("x86_64", "Linux", "1"))):
        assert row_timing.known_or_measured(network, key, machine) == TIMES
    assert len(measured) == 3


def test_the_plugin_measures_at_the_first_load_alone(model: Path, run_folder: Path, measured: list[object]) -> None:
    for rows in ("16", "16", "1"):
        decoder = MLXDecoder()
        load_plugin(decoder, model, {"rows": rows}, lambda note: None)
        scheduler = decoder._decoder.scheduler
        assert (scheduler.costs == TIMES.costs) == (rows != "1")
        decoder.close()
    assert len(measured) == 1


@pytest.mark.timing
def test_the_demo_model_is_measured_in_little_time() -> None:
    network = load_model(demo_directory()).network
    adapter = BatchAdapter(network, 256)
    adapter.open(0, SplicedPage([1, 2], mx.zeros((2, network.args.hidden_size))))
    adapter.advance(0)
    adapter.score({0: Rows(2, [3])})
    started = time.process_time()
    row_timing.measure(network)
    assert time.process_time() - started < 0.15
