"""Packages against the MLX tower and the tower in float64: what is shown, what fails, and what a Mac adds."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from dotsctl.encoder_worker.coreml.manifest import Build, builds_directory
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.machine.identity import Machine
from dotsctl.protocol.machine.verdicts import recall_mlx, verdicts_of
from dotsctl.protocol.model.directory import demo_directory, fingerprint
from dotsctl.tools.coreml.build import convert_encoder
from dotsctl.tools.coreml.options import ConversionOptions
from dotsctl.tools.dev.verify import main as verify
from dotsctl.tools.verify_coreml import comparison as verify_coreml
from dotsctl.tools.verify_coreml import report as verify_coreml_report
from dotsctl.tools.verify_coreml.comparison import BuildRequest, compare, limit_of, rows_of
from dotsctl.tools.verify_coreml.streams import Streams

from tests.coreml_stand_in import use
from tests.forked_probe import fork_children

pytest.importorskip("coremltools")
pytest.importorskip("matplotlib")
pytestmark = pytest.mark.model
MAC = Machine("Apple M2", "macOS 26.1", "25B78")


@pytest.fixture(scope="module", autouse=True)
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A build of each precision, the float16 one in two packages for two page sizes."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOTSCTL_MODELS", str(folder))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        for options in (ConversionOptions(buckets=(24, 48), chunks=2), ConversionOptions("float32", buckets=(24,))):
            convert_encoder(demo_directory(), options, lambda line: None)
        yield folder


def run(*options: str) -> Result:
    return CliRunner().invoke(verify.cli, ["--encoder", "coreml", "--model", "demo", *options])


def test_every_component_of_every_page_size_matches_both_towers_and_a_report_is_left(tmp_path: Path) -> None:
    result = run("--build", "float16", "--output", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines() if line.endswith("match")]
    assert [(line[0], line[2], line[3]) for line in lines] == [
        (bucket, against, component)
        for bucket in ("24", "48")
        for against in ("float64", "mlx")
        for component in ("layer", "embeddings")
    ]
    assert "measured on a Mac with Apple silicon alone" in result.stdout
    reported = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert reported["match"] and reported["precision"] == "float16" and reported["build"] == "float16"
    for row in reported["rows"]:
        assert 0 < row["mean_error"] < row["max_error"] and 1e-5 < row["relative_error"] < 5e-3
        assert 0.9999 < row["min_cosine"] < 1
    assert reported["seconds"].keys() == {"float64", "mlx", "reference"}
    assert {path.name for path in (tmp_path / "out" / "plots").iterdir()} == {"errors.png", "cosines.png"}
    assert not (tmp_path / "out" / "operations.json").exists()


def test_one_page_size_of_a_float32_build_matches_tightly() -> None:
    result = run("--build", "float32", "--bucket", "24")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("relative <= 1e-05, cosine >= 0.999999") == 2


def test_a_build_that_computes_something_else_is_no_match_and_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(verify_coreml.RELATIVE, "float16", 1e-6)
    result = run("--build", "float16", "--bucket", "24")
    assert result.exit_code == 1
    assert result.stdout.count("NO MATCH") == 4


def test_an_unknown_page_size_and_options_without_the_encoder_are_refused() -> None:
    with pytest.raises(UsageError, match="build float16 has no pages of 96 patches; it has 24, 48"):
        compare(BuildRequest("demo", "float16", (96,)), lambda line: None)
    assert isinstance(CliRunner().invoke(verify.cli, ["--bucket", "24"]).exception, UsageError)


def builds(**changes: str) -> Build:
    digest = fingerprint(demo_directory())
    return Build.read(builds_directory(digest) / changes.pop("name", "float16"))


def test_values_that_are_no_numbers_are_no_match_and_stay_out_of_json() -> None:
    ones = np.ones((6, 4))
    truth = {"float64": Streams({"embeddings": ones}, 1.0)}
    (row,) = rows_of(builds(), 24, "reference", Streams({"embeddings": ones * np.nan}, 1.0), truth)
    assert not row.match and row.min_cosine == 0
    found = verify_coreml.BuildComparison("x", [row])
    assert json.loads(json.dumps(verify_coreml_report.content(found, builds())))["rows"][0]["max_error"] is None


def test_limits_follow_precision_weights_and_what_executes() -> None:
    float16, float32 = builds(), builds(name="float32")
    assert str(limit_of(float16, "reference")) == "relative <= 0.005, cosine >= 0.9999"
    assert str(limit_of(float32, "reference")) == "relative <= 1e-05, cosine >= 0.999999"
    assert str(limit_of(float16, "cpu_and_ne")) == "cosine >= 0.999"
    for weights, cosine in verify_coreml.QUANTISED_COSINES.items():
        quantised = Build(**{**float16.__dict__, "weights": weights})
        assert limit_of(quantised, "reference").cosine == cosine
        assert limit_of(quantised, "all").cosine == min(cosine, 0.999)


@pytest.mark.timeout(600)
def test_on_a_mac_each_of_the_units_is_tried_timed_and_compared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(monkeypatch)
    fork_children(monkeypatch)
    folder, found = compare(BuildRequest("demo", "float16", (24,), ("cpu_and_ne",)), lambda line: None, MAC)
    (device,) = found.devices
    assert device.verdict.is_good and device.cold_load_s is not None and device.warm_load_s is not None
    assert device.speed_up.keys() == {24, 48} and device.speed_up[24] > 0
    assert {row.executed for row in found.rows} == {"reference", "cpu_and_ne"}
    assert all(row.match for row in found.rows)
    digest = fingerprint(demo_directory())
    assert verdicts_of(digest, MAC) == [device.verdict]
    assert recall_mlx(digest, MAC) == device.mlx_page_s and device.mlx_page_s.keys() == {24, 48}
    text = verify_coreml_report.table(found)
    for part in ("times as fast as MLX", "cold load", "at least 100.0% of the operations", ", golden page ", ", MLX "):
        assert part in text
    verify_coreml_report.write_report(tmp_path, found, Build.read(folder))
    operations = json.loads((tmp_path / "operations.json").read_text())["cpu_and_ne"]
    assert {operation["device"] for operation in operations} == {"ne"}
    assert {operation["function"] for operation in operations} == {"patches_24", "patches_48"}
    assert {operation["chunk"] for operation in operations} == {1, 2}
    assert not list(folder.glob(".cold-*")) and not list(folder.glob(".plan-*"))


def test_units_that_passed_a_trial_are_compared_without_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    framework = use(monkeypatch)
    order = BuildRequest("demo", "float16", (24,), tried_units=("cpu_only",))
    _, found = compare(order, lambda line: None, MAC)
    assert found.devices == [] and {row.executed for row in found.rows} == {"reference", "cpu_only"}
    assert [units for _, units, _ in framework.loaded] == ["CPU_ONLY"] * 2


def test_units_that_do_not_work_are_reported_and_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    framework = use(monkeypatch, "", "load")
    fork_children(monkeypatch)
    _, found = compare(BuildRequest("demo", "float16", (24,), ("cpu_and_ne",)), lambda line: None, MAC)
    (device,) = found.devices
    assert (device.cold_load_s, device.warm_load_s, device.speed_up) == (None, None, {})
    assert {row.executed for row in found.rows} == {"reference"}
    assert framework.inputs == []
    assert "  does not work: Core ML cannot load" in verify_coreml_report.table(found)
