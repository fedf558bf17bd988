"""Builds on a stand-in for Core ML: golden page, trial in a child process, and what the plugin makes of both."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dotsctl.encoder_worker.coreml import admission, device_tower, golden_page, probe, probing, residency
from dotsctl.encoder_worker.coreml.golden_page import Golden, golden_of
from dotsctl.encoder_worker.coreml.manifest import GOLDEN, Build
from dotsctl.encoder_worker.coreml.probe import Steps
from dotsctl.encoder_worker.plugins import coreml
from dotsctl.encoder_worker.plugins.coreml import CoreMLEncoder
from dotsctl.protocol.errors import CommandFailedError, MissingError
from dotsctl.protocol.machine import Machine
from dotsctl.protocol.model_directory import demo_directory, fingerprint
from dotsctl.protocol.verdicts import Trial, Verdict, build_digest, recall, remember, remember_mlx, verdicts_of
from dotsctl.tools.coreml.build import convert_encoder
from dotsctl.tools.coreml.options import ConversionOptions

from tests.coreml_stand_in import StandIn

pytest.importorskip("coremltools")
pytestmark = pytest.mark.model
MAC = Machine("Apple M2", "macOS 26.1", "25B1")
BUCKETS = (24, 48)
STAND_IN = Path(__file__).parents[1] / "coreml_stand_in.py"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOTSCTL_MODELS", str(tmp_path_factory.mktemp("models")))
        yield convert_encoder(demo_directory(), ConversionOptions(buckets=BUCKETS, chunks=2), lambda line: None)


@pytest.fixture
def folder(converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The build in a models folder of its own."""
    copied = tmp_path / "models" / ".derived" / fingerprint(demo_directory()) / "coreml" / converted.name
    shutil.copytree(converted, copied)
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return copied


@pytest.fixture
def on_a_mac(monkeypatch: pytest.MonkeyPatch) -> Callable[..., StandIn]:
    """``on_a_mac(here, in the child)``: what goes wrong in this process and in that of the trial."""

    def use(mode: str = "", child: str = "", ne_share: float = 1.0) -> StandIn:
        stand_in = StandIn(mode, ne_share)
        monkeypatch.setattr(coreml.sys, "platform", "darwin")
        monkeypatch.setattr(device_tower.platform, "mac_ver", lambda: ("26.1", ("", "", ""), "arm64"))
        monkeypatch.setattr(device_tower, "import_coremltools", stand_in.module)
        monkeypatch.setattr(residency, "import_coremltools", stand_in.module)
        monkeypatch.setattr(admission, "this_machine", lambda: MAC)
        monkeypatch.setattr(probing, "COMMAND", (sys.executable, "-P", str(STAND_IN), child))
        return stand_in

    return use


class Quiet(Steps):
    """Steps that are kept, in a process that is not to be ended."""

    def __init__(self) -> None:
        super().__init__(60.0)
        self.events: list[dict[str, Any]] = []

    def say(self, event: str, **content: Any) -> None:
        self.events.append({"event": event, **content})


def remember_good(folder: Path) -> None:
    """A trial of this build on this Mac, with three quarters of the operations on the Neural Engine."""
    digest, trials = build_digest(folder) or "", tuple(Trial(bucket, "", 9.0, 0.9, 0.5) for bucket in BUCKETS)
    remember(Verdict(fingerprint(demo_directory()), folder.name, digest, "cpu_and_ne", MAC, BUCKETS, trials, 0.75))


def load(notes: list[str] | None = None, **options: str) -> CoreMLEncoder:
    encoder = CoreMLEncoder()
    encoder.load(demo_directory(), options, (notes if notes is not None else []).append)
    return encoder


def test_a_build_carries_a_golden_page_that_is_small_checked_and_lent_to_the_next_build(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, golden = Build.read(folder), Golden.read(folder)
    assert build.golden is not None and build.golden[0] == (folder / GOLDEN).stat().st_size < 1_000_000
    assert golden.bucket == 24 and golden.embeddings.shape == (6, build.width)
    assert np.abs(golden.embeddings).max() > 0.1
    told: list[str] = []
    convert_encoder(demo_directory(), ConversionOptions("float32", buckets=(24,)), told.append)
    assert not any("in float64" in line for line in told)
    convert_encoder(demo_directory(), ConversionOptions("float32", buckets=(48,)), told.append)
    assert any("golden page of 48 patches, in float64" in line for line in told)
    (folder / GOLDEN).write_bytes(b"odd")
    with pytest.raises(MissingError, match=r"golden\.npz has 3 bytes instead of"):
        load(compute_units="reference", build=folder.name)
    with pytest.raises(MissingError, match=r"golden\.npz cannot be read"):
        Golden.read(folder)


def test_of_many_embeddings_some_of_the_whole_page_are_stored(folder: Path) -> None:
    build = Build.read(folder)
    embeddings = np.random.default_rng(0).normal(size=(1440, 8)).astype(np.float32)
    golden = golden_of(embeddings)
    assert (len(golden.rows), golden.rows[0], golden.rows[-1], golden.bucket) == (128, 0, 1439, 5760)
    assert golden.check(embeddings, build, "cpu_and_ne") == (pytest.approx(1), "")
    wrong = embeddings.copy()
    wrong[golden.rows[5]] *= -1
    worst, reason = golden.check(wrong, build, "cpu_and_ne")
    assert worst == pytest.approx(-1) and "0.9999 at the worst" not in reason and "is wrong" in reason
    wrong[golden.rows[5]] = np.nan
    assert golden.check(wrong, build, "cpu_and_ne")[0] == 0


@pytest.mark.parametrize("weights", golden_page.QUANTISED_COSINES)
def test_weights_in_fewer_bits_have_limits_of_their_own(folder: Path, weights: str) -> None:
    build = replace(Build.read(folder), weights=weights)
    embeddings = np.random.default_rng(0).normal(size=(64, 400)).astype(np.float32)
    noise = np.random.default_rng(1).normal(size=embeddings.shape).astype(np.float32)
    limit = golden_page.QUANTISED_COSINES[weights]
    for cosine, good in ((1 - (1 - limit) / 2, True), (1 - 2 * (1 - limit), False)):
        found = embeddings + noise * np.sqrt(1 / cosine**2 - 1)
        assert (golden_of(embeddings).check(found, build, "cpu_and_ne")[1] == "") is good


def test_the_trial_in_a_child_tells_times_the_golden_page_and_the_share_of_the_neural_engine(
    folder: Path, on_a_mac: Callable[..., StandIn]
) -> None:
    stand_in, notes = on_a_mac(), []
    load(notes)
    digest = build_digest(folder)
    assert digest is not None
    verdict = recall(fingerprint(demo_directory()), digest, "cpu_and_ne", MAC)
    assert verdict is not None and verdict.is_good
    small, large = verdict.trials
    assert small.golden_cosine is not None and 0.9999 < small.golden_cosine <= 1 and large.golden_cosine is None
    assert all(0 < trial.page_s <= trial.first_s * 2 + 1 and trial.load_s > 0 for trial in verdict.trials)
    assert (verdict.ne_share, verdict.ne_cost_share) == (1.0, pytest.approx(1.0))
    assert any("trying build float16 on cpu_and_ne, once on this Mac" in note for note in notes)
    assert "page of 48 patches through package 2 of 2" in notes
    assert not any("WARNING" in note for note in notes)
    assert stand_in.compiled == []  # the child has compiled, to the place that is kept
    assert stand_in.predictions == 2  # the golden page
    monday, tuesday = on_a_mac("", "die"), []
    load(tuesday)
    assert monday.predictions == 2 and not any("trying" in note for note in tuesday)


def test_a_build_that_kills_its_process_is_refused_with_the_reason_and_the_remedy_and_is_not_tried_again(
    folder: Path, on_a_mac: Callable[..., StandIn]
) -> None:
    stand_in = on_a_mac("", "die at patches_48")
    for _ in range(2):
        with pytest.raises(CommandFailedError) as told:
            load()
        assert "does not work on cpu_and_ne here, for pages of 48 patches" in str(told.value)
        assert "ended by SIGKILL while page of 48 patches through package 1" in str(told.value)
        for remedy in ("compute_units=cpu_and_gpu", "--encoder mlx", "dotsctl doctor --coreml", "buckets=24 leaves"):
            assert remedy in str(told.value)
        on_a_mac("", "no such mode, and no trial")
    assert stand_in.predictions == 0
    load(buckets="24")


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("load", r"Core ML cannot load .*\(no such function\)"),
        ("compile", r"Core ML cannot compile .*\(ANECCompile failed\)"),
        ("full", "cannot write .*No space left on device"),
        ("wrong", r"golden page is wrong: cosines .* needed are 0\.99995 and 0\.999"),
        ("infinite", "6 of 6 embeddings have values that are no numbers"),
    ],
)
def test_what_goes_wrong_in_a_trial_is_its_reason(
    folder: Path, on_a_mac: Callable[..., StandIn], mode: str, reason: str
) -> None:
    on_a_mac(mode)
    trial = probe.try_bucket(folder, Build.read(folder), "cpu_and_ne", 24, None, Quiet())
    assert not trial.is_good
    assert re.search(reason, trial.reason)
    assert not [path for path in folder.rglob("*.mlmodelc") if path.name.startswith(".")]


def test_too_little_room_to_compile_is_told_before_anything_is_written(
    folder: Path, on_a_mac: Callable[..., StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_mac()
    old = folder / "compiled-macos-15.4"
    old.mkdir()
    monkeypatch.setattr(device_tower.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    trial = probe.try_bucket(folder, Build.read(folder), "cpu_and_ne", 24, None, Quiet())
    assert "compiling tower-1.mlpackage takes about 1 MB" in trial.reason and "DOTSCTL_MODELS" in trial.reason
    assert not (folder / "compiled-macos-26.1").exists()
    assert not old.exists()  # of a system that is gone


def test_wrong_embeddings_at_the_load_itself_are_refused_too(folder: Path, on_a_mac: Callable[..., StandIn]) -> None:
    remember_good(folder)
    on_a_mac("wrong")
    with pytest.raises(CommandFailedError, match="golden page is wrong"):
        load(buckets="24")


def test_a_low_share_and_slow_pages_are_told_loudly_and_do_not_stop(
    folder: Path, on_a_mac: Callable[..., StandIn], caplog: pytest.LogCaptureFixture
) -> None:
    on_a_mac()
    remember_good(folder)
    remember_mlx(fingerprint(demo_directory()), MAC, {24: 1e-6})
    notes: list[str] = []
    load(notes, buckets="24")
    warnings = [note for note in notes if "WARNING" in note]
    assert len(warnings) == 2 and "only 75% of its operations" in warnings[0] and "slower than MLX" in warnings[1]
    assert "only 75%" in caplog.text and "slower than MLX" in caplog.text
    notes.clear()
    load(notes, buckets="24", ne_share="0.7")
    assert len([note for note in notes if "WARNING" in note]) == 1


def test_the_plan_counts_operations_by_device_and_leaves_unknown_functions_out(
    folder: Path, on_a_mac: Callable[..., StandIn]
) -> None:
    on_a_mac(ne_share=0.5)
    steps = Quiet()
    probe.plan(folder, Build.read(folder), "cpu_and_ne", None, steps)
    told = steps.events[-1]
    assert told["ne_share"] == pytest.approx(0.5, abs=0.02)
    assert told["counts"]["unknown"] == told["counts"]["ne"] + told["counts"]["cpu"]
    kinds = {operation["kind"] for operation in told["operations"]}
    assert {"conv", "matmul", "softmax"} <= kinds and not any(kind.startswith("const") for kind in kinds)
    assert {operation["function"] for operation in told["operations"]} == {"patches_24", "patches_48"}
    assert {operation["chunk"] for operation in told["operations"]} == {1, 2}


def test_the_interpreter_is_checked_by_the_golden_page_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    load(notes, compute_units="reference")
    assert any("checking build float16 by its golden page of 24 patches" in note for note in notes)
    notes.clear()
    load(notes, compute_units="reference")
    assert not any("golden" in note for note in notes)
    (verdict,) = verdicts_of(fingerprint(demo_directory()), admission.this_machine())
    (trial,) = verdict.trials
    assert verdict.units == "reference" and isinstance(trial, Trial) and trial.golden_cosine is not None
    assert 0.9999 < trial.golden_cosine < 1


def test_the_interpreter_has_a_tight_limit_and_a_wrong_build_is_refused_each_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(golden_page.REFERENCE_COSINES, "float16", 1.0)
    for _ in range(2):
        with pytest.raises(CommandFailedError, match=r"on reference here.*golden page is wrong.*Convert the model"):
            load(compute_units="reference")


def test_a_build_from_before_golden_pages_is_used_with_a_note(folder: Path) -> None:
    manifest = folder / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["golden"]
    manifest.write_text(json.dumps(content))
    (folder / GOLDEN).unlink()
    notes: list[str] = []
    load(notes, compute_units="reference")
    assert any("has no golden page to check it by" in note for note in notes)


def test_a_trial_can_compile_elsewhere(folder: Path, on_a_mac: Callable[..., StandIn], tmp_path: Path) -> None:
    on_a_mac()
    trial = probe.try_bucket(folder, Build.read(folder), "cpu_only", 24, tmp_path / "fresh", Quiet())
    assert trial.is_good
    assert (tmp_path / "fresh" / "tower-2.mlmodelc").is_dir()
    assert not list(folder.glob("compiled-*"))
