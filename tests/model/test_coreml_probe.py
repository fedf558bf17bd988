"""Builds on a strict stand-in for Core ML: golden page, trial in child processes, and the plugin's use of both."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dotsctl.encoder_worker.coreml import compiled_packages, golden_page, probe_process
from dotsctl.encoder_worker.coreml.admission import Admission
from dotsctl.encoder_worker.coreml.golden_page import Golden, golden_of
from dotsctl.encoder_worker.coreml.manifest import GOLDEN, Build
from dotsctl.encoder_worker.coreml.probing import Probe
from dotsctl.encoder_worker.plugin import PageImage, encode_images
from dotsctl.encoder_worker.plugins.coreml import CoreMLEncoder
from dotsctl.protocol.errors import CommandFailedError, MissingError, OutputError, PageError
from dotsctl.protocol.machine.identity import Machine, framework_versions, this_machine
from dotsctl.protocol.machine.verdicts import Trial, Verdict, build_digest, recall, recall_mlx, remember, verdicts_of
from dotsctl.protocol.model.directory import demo_directory, fingerprint
from dotsctl.tools.coreml.build import convert_encoder
from dotsctl.tools.coreml.options import ConversionOptions

from tests.coreml_stand_in import Framework, use
from tests.forked_probe import fork_children
from tests.plugins import load_plugin

pytest.importorskip("coremltools")
pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]
MAC = Machine("Apple M2", "macOS 26.1", "25B78")
BUCKETS = (24, 48)
UNITS = "cpu_and_ne"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOTSCTL_MODELS", str(tmp_path_factory.mktemp("models")))
        yield convert_encoder(demo_directory(), ConversionOptions(buckets=BUCKETS, chunks=2), lambda line: None)


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings by cpu_only and MLX, computed once for all tests."""
    return tmp_path_factory.mktemp("references")


@pytest.fixture
def folder(converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The build in a models folder of its own."""
    copied = tmp_path / "models" / ".derived" / fingerprint(demo_directory()) / "coreml" / converted.name
    shutil.copytree(converted, copied)
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return copied


@pytest.fixture
def on_a_mac(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Framework]:
    """``on_a_mac(faults here, faults in child processes)``."""
    return lambda words="", child=None: use(monkeypatch, words, child)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes that execute packages are forks of this one."""
    fork_children(monkeypatch)


@pytest.fixture
def trial(folder: Path, references: Path, on_a_mac: Callable[..., Framework], forked: None) -> Callable[..., Verdict]:
    """``trial(faults, ...)``: the verdict of a complete trial with these faults in its child processes."""

    def run(words: str = "", buckets: Sequence[int] = BUCKETS, units: str = UNITS, limit_s: float = 60.0) -> Verdict:
        on_a_mac("", words)
        probe = Probe(folder, Build.read(folder), units, demo_directory(), limit_s, references=references)
        for name in buckets:
            (references / f"{units}-{name}.npy").unlink(missing_ok=True)
        return probe.verdict(buckets, MAC, lambda note: None, None)

    return run


def remember_good(folder: Path, ne_share: float = 0.75) -> None:
    """A trial of this build on this Mac, with a share of the operations on the Neural Engine."""
    digest = build_digest(folder) or ""
    trials = tuple(Trial(bucket, "", 9.0, 0.9, 0.5, ne_share=ne_share) for bucket in BUCKETS)
    name, versions = folder.name, framework_versions()
    remember(Verdict(fingerprint(demo_directory()), name, digest, UNITS, MAC, BUCKETS, trials, versions=versions))


def load(notes: list[str] | None = None, **options: str) -> CoreMLEncoder:
    encoder = CoreMLEncoder()
    load_plugin(encoder, demo_directory(), options, (notes if notes is not None else []).append)
    return encoder


def known(folder: Path) -> Verdict | None:
    return recall(fingerprint(demo_directory()), build_digest(folder) or "", UNITS, MAC)


def test_a_build_carries_a_golden_page_that_is_small_checked_and_lent_to_the_next_build(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, golden = Build.read(folder), Golden.read(folder)
    assert build.golden is not None and build.golden[0] == (folder / GOLDEN).stat().st_size < 1_000_000
    assert golden.bucket == 24 and golden.embeddings.shape == (6, build.width)
    assert np.abs(golden.embeddings).max() > 0.1
    reported: list[str] = []
    convert_encoder(demo_directory(), ConversionOptions("float32", buckets=(24,)), reported.append)
    assert not any("in float64" in line for line in reported)
    convert_encoder(demo_directory(), ConversionOptions("float32", buckets=(48,)), reported.append)
    assert any("golden page of 48 patches, in float64" in line for line in reported)
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
    assert golden.check(embeddings, build, UNITS) == (pytest.approx(1), "")
    wrong = embeddings.copy()
    wrong[golden.rows[5]] *= -1
    worst, reason = golden.check(wrong, build, UNITS)
    assert worst == pytest.approx(-1) and "0.9999 at the worst" not in reason and "is wrong" in reason
    wrong[golden.rows[5]] = np.nan
    assert golden.check(wrong, build, UNITS)[0] == 0


@pytest.mark.parametrize("weights", golden_page.QUANTISED_COSINES)
def test_weights_in_fewer_bits_have_limits_of_their_own(folder: Path, weights: str) -> None:
    build = replace(Build.read(folder), weights=weights)
    embeddings = np.random.default_rng(0).normal(size=(64, 400)).astype(np.float32)
    noise = np.random.default_rng(1).normal(size=embeddings.shape).astype(np.float32)
    limit = golden_page.QUANTISED_COSINES[weights]
    for cosine, good in ((1 - (1 - limit) / 2, True), (1 - 2 * (1 - limit), False)):
        found = embeddings + noise * np.sqrt(1 / cosine**2 - 1)
        assert (golden_of(embeddings).check(found, build, UNITS)[1] == "") is good


def test_the_trial_times_every_page_size_and_compares_its_numbers(
    folder: Path, on_a_mac: Callable[..., Framework]
) -> None:
    framework, notes = on_a_mac(), []
    load(notes)
    verdict = known(folder)
    assert verdict is not None and verdict.is_good and verdict.good_buckets == BUCKETS
    small, large = verdict.trials
    assert small.golden_cosine is not None and 0.9999 < small.golden_cosine <= 1 and large.golden_cosine is None
    for tried in verdict.trials:
        assert tried.cpu_cosine is not None and 0.9999 < tried.cpu_cosine <= 1.000001
        assert tried.mlx_cosine is not None and 0.9999 < tried.mlx_cosine <= 1.000001
        assert tried.page_s > 0 and tried.first_s > 0 and tried.load_s > 0 and tried.flops > 1e7
    assert large.flops > 2 * small.flops
    assert recall_mlx(fingerprint(demo_directory()), MAC).keys() == set(BUCKETS)
    assert any("trying build float16 on cpu_and_ne, once for this version of macOS" in note for note in notes)
    assert "page of 48 patches through package 2 of 2 on cpu_and_ne" in notes
    assert framework.compiled == []  # the child has compiled, to the place that is kept
    assert [load[2] for load in framework.loaded] == ["patches_24"] * 2 + ["patches_48"] * 2
    assert len(framework.inputs) == 2  # the golden page
    on_a_mac("", "kill")
    load(notes := [])
    assert not any("trying" in note for note in notes)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raise", "E5RT: ANE inference operation failed"),
        ("kill", "ended by SIGKILL while page of 24 patches through package 1 of 2 on cpu_and_ne"),
        ("abort", "ended by SIGABRT while page of 24 patches"),
        ("load", r"Core ML cannot load tower-1.*Error in declaring network"),
        ("compiler", r"Core ML cannot compile tower-1.*ANECCompile\(\) FAILED"),
        ("compile", r"Core ML cannot compile .*Encountered an error while compiling"),
        ("wrong", "golden page is wrong: cosines"),
        ("infinite", "6 of 6 embeddings have values that are not numbers"),
    ],
)
def test_a_fault_of_all_page_sizes_is_named_and_attributed_to_none(
    trial: Callable[..., Verdict], fault: str, reason: str
) -> None:
    verdict = trial(fault, BUCKETS if fault in ("kill", "wrong") else BUCKETS[:1])
    assert re.search(reason, verdict.reason)
    assert verdict.trials == () and verdict.good_buckets == () and not verdict.is_good


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("kill@patches_48", "ended by SIGKILL while page of 48 patches"),
        ("compiler@patches_48", r"ANECCompile\(\) FAILED"),
        ("wrong@patches_48", r"wrong numbers: cosines to cpu_only are"),
        ("slow@patches_48", "times longer for its work than other page sizes"),
    ],
)
def test_a_fault_of_one_page_size_is_its_own_once_another_one_works(
    trial: Callable[..., Verdict], fault: str, reason: str
) -> None:
    verdict = trial(fault)
    assert verdict.reason == "" and verdict.good_buckets == (24,) and not verdict.is_good
    assert re.search(reason, verdict.trials[1].reason), verdict.trials[1]


def test_a_prediction_that_hangs_ends_the_trial(trial: Callable[..., Verdict]) -> None:
    verdict = trial("hang@patches_48", limit_s=30.0)
    assert verdict.good_buckets == (24,)
    assert verdict.trials[1].reason.startswith("no progress for 30 s while page of 48 patches through package 1")


def test_a_process_that_is_killed_once_is_tried_again_and_its_end_is_kept(
    trial: Callable[..., Verdict], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    once = tmp_path / "once"
    program = (
        f"import os, pathlib, signal, sys; once = pathlib.Path({str(once)!r})\n"
        "if sys.argv[1] == 'encode' and not once.exists(): once.touch(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "from tests.forked_probe import run_probe; run_probe()"
    )
    monkeypatch.setattr(probe_process, "COMMAND", (sys.executable, "-P", "-c", program))
    monkeypatch.setattr("dotsctl.encoder_worker.coreml.probing.Probe._compared", lambda self, trial, *_: trial)
    verdict = trial("", (24,), "cpu_only")
    assert verdict.good_buckets == (24,)
    assert "the first attempt failed: the process was ended by SIGKILL" in verdict.trials[0].note


def test_a_build_that_kills_its_process_is_refused_with_a_remedy_and_not_tried_again(
    folder: Path, on_a_mac: Callable[..., Framework], forked: None
) -> None:
    framework = on_a_mac("", "kill")
    for _ in range(2):
        with pytest.raises(CommandFailedError) as reported:
            load()
        assert "does not work on cpu_and_ne here: the process was ended by SIGKILL" in str(reported.value)
        assert "--encoder mlx" in str(reported.value) and "cpu_and_gpu" not in str(reported.value)
        on_a_mac("", "")
    assert framework.inputs == []


def test_page_sizes_that_fail_are_left_out_with_a_warning(folder: Path, on_a_mac: Callable[..., Framework]) -> None:
    on_a_mac()
    remember_good(folder)
    verdict = known(folder)
    assert verdict is not None
    remember(verdict.with_trials([Trial(48, "it hung")]))
    notes: list[str] = []
    encoder = load(notes)
    assert encoder._buckets == (24,)
    assert any("WARNING" in note and "pages of 48 patches are not available: it hung" in note for note in notes)
    with pytest.raises(CommandFailedError, match=r"for pages of 48 patches: it hung: coreml:buckets=24 uses"):
        load(buckets="48")


def test_without_a_neural_engine_it_is_refused_at_once(folder: Path, on_a_mac: Callable[..., Framework]) -> None:
    on_a_mac("no-ne")
    notes: list[str] = []
    with pytest.raises(MissingError, match=r"no Neural Engine \(its devices: cpu, gpu\): use --encoder mlx"):
        load(notes)
    assert not any("trying" in note for note in notes) and known(folder) is None


def test_too_little_room_to_compile_is_an_error_and_no_verdict(
    folder: Path, on_a_mac: Callable[..., Framework], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_mac("", "full")
    with pytest.raises(OutputError, match=r"cannot write .*No space left on device.*free some disk space"):
        load()
    assert known(folder) is None
    remember_good(folder)
    monkeypatch.setattr(compiled_packages.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(OutputError, match=r"compiling tower-1\.mlpackage takes about \d+ MB.*DOTSCTL_MODELS"):
        load()
    assert not [path for path in folder.rglob("*.mlmodelc") if path.name.startswith(".")]


def test_an_error_of_a_prediction_is_one_of_the_load_or_of_the_page(
    folder: Path, on_a_mac: Callable[..., Framework]
) -> None:
    remember_good(folder)
    on_a_mac("raise")
    with pytest.raises(CommandFailedError, match=r"Core ML cannot compute a prediction \(.*E5RT.*use --encoder mlx"):
        load()
    on_a_mac()
    encoder = load()
    on_a_mac("raise")
    with pytest.raises(PageError, match="E5RT: ANE inference operation failed") as reported:
        encode_images(encoder, [PageImage(None, np.asarray(golden_page.draw_picture(24)), None)])
    assert reported.value.code == "E_INTERNAL"


def test_a_compiler_that_fails_in_silence_at_a_later_load_is_noticed(
    folder: Path, on_a_mac: Callable[..., Framework]
) -> None:
    remember_good(folder)
    on_a_mac("compiler@patches_48")
    with pytest.raises(CommandFailedError, match=r"cannot compile tower-1\.mlmodelc, patches_48, on CPU_AND_NE"):
        load()


def test_wrong_embeddings_at_the_load_itself_are_refused_too(folder: Path, on_a_mac: Callable[..., Framework]) -> None:
    remember_good(folder)
    on_a_mac("wrong")
    with pytest.raises(CommandFailedError, match="golden page is wrong"):
        load(buckets="24")


def test_a_low_share_is_reported_and_does_not_stop(
    folder: Path, on_a_mac: Callable[..., Framework], caplog: pytest.LogCaptureFixture
) -> None:
    on_a_mac()
    remember_good(folder)
    notes: list[str] = []
    load(notes, buckets="24")
    (warning,) = [note for note in notes if "WARNING" in note]
    assert "only 75% of its operations are on the Neural Engine, not 90%" in warning and "only 75%" in caplog.text
    notes.clear()
    load(notes, buckets="24", ne_share="0.7")
    assert not [note for note in notes if "WARNING" in note]


def test_the_plan_counts_the_operations_of_each_page_size(trial: Callable[..., Verdict]) -> None:
    verdict = trial("half-on-cpu", (24,))
    assert verdict.ne_share == pytest.approx(0.5, abs=0.02)
    assert trial("plan", (24,)).trials[0].ne_share is None
    assert trial("", (24,), "cpu_only").ne_share is None


def test_the_interpreter_is_checked_by_the_golden_page_once(folder: Path) -> None:
    notes: list[str] = []
    load(notes, compute_units="reference")
    assert any("checking build float16 by its golden page of 24 patches" in note for note in notes)
    notes.clear()
    load(notes, compute_units="reference")
    assert not any("golden" in note for note in notes)
    (verdict,) = verdicts_of(fingerprint(demo_directory()), this_machine())
    (tried,) = verdict.trials
    assert verdict.units == "reference" and tried.golden_cosine is not None
    assert 0.9999 < tried.golden_cosine < 1


def test_the_interpreter_has_a_tight_limit_and_a_wrong_build_is_refused_each_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(golden_page.REFERENCE_COSINES, "float16", 1.0)
    for _ in range(2):
        with pytest.raises(CommandFailedError, match=r"on reference here.*golden page is wrong.*convert the model"):
            load(compute_units="reference")


def test_a_build_without_a_golden_page_is_used_with_a_note(folder: Path) -> None:
    manifest = folder / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["golden"]
    manifest.write_text(json.dumps(content))
    (folder / GOLDEN).unlink()
    notes: list[str] = []
    load(notes, compute_units="reference")
    assert any("has no golden page to check it by" in note for note in notes)


def test_numbers_that_nothing_can_check_are_not_admitted(
    trial: Callable[..., Verdict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Probe, "_reference", lambda self, name, *_: (None, "not installed"))
    verdict = trial("", BUCKETS)
    assert verdict.good_buckets == (24,)  # it has the golden page
    text = "its numbers could not be checked (cpu_only: not installed; mlx: not installed)"
    assert verdict.trials[1].reason == text


def test_admission_without_packages_that_were_tried_names_what_is_missing(folder: Path) -> None:
    shutil.rmtree(folder)
    build = Build("f" * 64, "float16", "same", BUCKETS, 512, UNITS, 256, 32, 256, (), {})
    with pytest.raises(MissingError, match="has no manifest"):
        Probe(folder, build, UNITS, demo_directory()).verdict(BUCKETS, MAC, lambda note: None, None)
    assert Admission(demo_directory(), folder, build, "reference", 0.9, print).before_load((48, 24)) == BUCKETS
