"""Verdicts on Core ML builds: how they are kept, and for which machine they hold."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from dotsctl.protocol.machine import identity as machines
from dotsctl.protocol.machine.identity import Machine, framework_versions, this_machine
from dotsctl.protocol.machine.verdicts import (
    Trial,
    Verdict,
    build_digest,
    complaints,
    forget,
    recall,
    recall_mlx,
    refusal,
    remember,
    remember_mlx,
    slowness,
    verdicts_directory,
    verdicts_of,
)
from dotsctl.protocol.model.directory import demo_directory, derived_directory, fingerprint
from hypothesis import given
from hypothesis import strategies as st

MAC = Machine("Apple M2", "macOS 26.1", "25B1")
GOOD = (
    Trial(96, "", 60.0, 0.9, 0.5, 0.999, flops=1e12, ne_share=0.97),
    Trial(264, "", 60.0, 1.9, 1.5, flops=3e12, ne_share=0.98),
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path / "models"))
    return tmp_path


def judged(name: str = "float16", units: str = "cpu_and_ne", **changes: object) -> Verdict:
    """A verdict on a build of the demo model that lies there."""
    digest = fingerprint(demo_directory())
    folder = derived_directory(digest) / "coreml" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({"name": name}))
    manifest = build_digest(folder)
    assert manifest
    verdict = Verdict(digest, name, manifest, units, MAC, (96, 264), GOOD, versions=framework_versions())
    verdict = replace(verdict, **changes)  # type: ignore[arg-type]
    remember(verdict)
    return verdict


def test_a_verdict_is_recalled_for_the_same_package_units_chip_and_system_alone() -> None:
    verdict = judged()
    assert recall(verdict.fingerprint, verdict.digest, "cpu_and_ne", MAC) == verdict
    assert recall(verdict.fingerprint, verdict.digest, "all", MAC) is None
    assert recall(verdict.fingerprint, "0" * 64, "cpu_and_ne", MAC) is None
    for field in ("chip", "system", "build"):
        assert recall(verdict.fingerprint, verdict.digest, "cpu_and_ne", replace(MAC, **{field: "other"})) is None
    other = replace(verdict, machine=replace(MAC, build="25C9"))
    remember(other)
    assert recall(verdict.fingerprint, verdict.digest, "cpu_and_ne", other.machine) == other
    assert recall(verdict.fingerprint, verdict.digest, "cpu_and_ne", MAC) == verdict
    forget(verdict)
    assert recall(verdict.fingerprint, verdict.digest, "cpu_and_ne", MAC) is None


@pytest.mark.parametrize("content", ["", "[]", "null", "{}", '{"format": 0}', '{"format": 1, "trials": [{"odd": 1}]}'])
def test_a_damaged_verdict_counts_as_none(content: str) -> None:
    verdict = judged()
    (path,) = verdicts_directory().rglob("verdict-*.json")
    path.write_text(content)
    assert recall(verdict.fingerprint, verdict.digest, "cpu_and_ne", MAC) is None
    assert verdicts_of(verdict.fingerprint, MAC) == []


def test_a_cache_that_cannot_be_written_is_no_error(home: Path) -> None:
    (home / "cache").write_text("a file")
    judged()
    remember_mlx("f", MAC, {96: 1.0})
    assert recall_mlx("f", MAC) == {}


def test_a_verdict_on_a_build_that_was_replaced_or_removed_counts_no_more() -> None:
    verdict = judged()
    assert verdicts_of(verdict.fingerprint, MAC) == [verdict]
    manifest = derived_directory(verdict.fingerprint) / "coreml" / "float16" / "manifest.json"
    manifest.write_text("{}")
    assert verdicts_of(verdict.fingerprint, MAC) == []
    manifest.unlink()
    assert verdicts_of(verdict.fingerprint, MAC) == []


def test_times_of_mlx_are_kept_by_page_size() -> None:
    remember_mlx("f", MAC, {96: 1.0})
    remember_mlx("f", MAC, {264: 2.0})
    assert recall_mlx("f", MAC) == {96: 1.0, 264: 2.0}
    assert recall_mlx("g", MAC) == {}


@pytest.mark.parametrize("content", ['{"352": null}', '{"352": "fast"}', "[]", '{"352": 1e999}', '{"\u00b2": 1.0}'])
def test_damaged_times_of_mlx_count_as_none(content: str) -> None:
    remember_mlx("f", MAC, {96: 1.0})
    (path,) = verdicts_directory().rglob("mlx-*.json")
    path.write_text(content, encoding="utf-8")
    assert recall_mlx("f", MAC) == {}


def with_share(verdict: Verdict, share: float | None) -> Verdict:
    return replace(verdict, trials=tuple(replace(trial, ne_share=share) for trial in verdict.trials))


def test_too_few_operations_on_the_neural_engine_and_pages_slower_than_mlx_are_complained_of() -> None:
    verdict = judged()
    half = with_share(verdict, 0.5)
    assert complaints(half, {}) == ["only 50% of its operations are on the Neural Engine, not 90%"]
    assert complaints(half, {}, 0.5) == []
    assert complaints(replace(half, units="cpu_and_gpu"), {}) == []
    (reported,) = complaints(verdict, {96: 0.4, 264: 0.5})
    assert reported == "it is slower than MLX: 1.50 s instead of 0.50 s for a page of 264 patches"
    assert complaints(verdict, {96: 0.5, 264: 1.5}) == []


def test_a_share_that_is_unknown_for_one_page_size_is_unknown_and_not_good() -> None:
    verdict = judged()
    assert verdict.ne_share == 0.97
    unknown = verdict.with_trials([replace(GOOD[1], ne_share=None)])
    assert unknown.ne_share is None
    (reported,) = complaints(unknown, {})
    assert "does not report how many of its operations" in reported


@given(
    st.lists(st.tuples(st.floats(1e11, 1e15), st.floats(0.2, 2.0)), min_size=2, max_size=4),
    st.floats(1e-13, 1e-11),
)
def test_page_sizes_whose_work_takes_about_the_same_time_are_never_slow(
    sizes: list[tuple[float, float]], second_per_operation: float
) -> None:
    trials = [
        Trial(4 * number, page_s=flops * second_per_operation * noise + 0.05, flops=flops)
        for number, (flops, noise) in enumerate(sizes, 1)
    ]
    assert all(ratio <= 10.0 + 1e-6 for ratio in slowness(trials).values())
    assert min(slowness(trials).values()) == 1.0


def test_a_page_size_that_left_the_neural_engine_is_slow() -> None:
    fell_back = replace(GOOD[1], page_s=60.0)
    verdict = judged(trials=(GOOD[0], fell_back))
    assert slowness(verdict.trials) == {96: 1.0, 264: pytest.approx(39.9, abs=0.1)}
    assert complaints(verdict, {}) == ["pages of 264 patches take 40 times longer for their work than others"]
    assert slowness([Trial(24, page_s=0.09, flops=1e6), Trial(4032, page_s=2.0, flops=1.4e13)])[24] == 1.0


def test_a_note_of_a_trial_is_a_complaint() -> None:
    verdict = judged(trials=(GOOD[0], replace(GOOD[1], note="the first attempt failed: killed")))
    assert complaints(verdict, {}) == ["pages of 264 patches: the first attempt failed: killed"]


def test_a_build_is_refused_where_no_page_size_works_and_none_is_left_to_try() -> None:
    verdict = judged()
    failed = (Trial(96, "it hung"), Trial(264, "it was killed"))
    assert refusal(verdict) == refusal(replace(verdict, trials=())) == ""
    assert refusal(replace(verdict, trials=failed[:1])) == ""  # the other one was not tried
    assert refusal(replace(verdict, trials=(failed[0], GOOD[1]))) == ""
    assert refusal(replace(verdict, trials=failed)) == "pages of 96 patches: it hung"
    assert refusal(replace(verdict, trials=(), reason="killed")) == "killed"


def test_a_verdict_of_another_python_or_coremltools_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = judged()
    monkeypatch.setattr(machines.platform, "python_version", lambda: "3.99.0")
    assert recall(verdict.fingerprint, verdict.digest, "cpu_and_ne", MAC) is None
    assert verdicts_of(verdict.fingerprint, MAC) == []


def test_a_build_that_cannot_be_used_has_no_good_page_sizes() -> None:
    verdict = judged(reason="it was killed")
    assert (verdict.good_buckets, verdict.is_good) == ((), False)
    assert verdicts_of(verdict.fingerprint, MAC) == [verdict]


def test_a_mac_is_known_by_its_chip_and_its_system_build(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"machdep.cpu.brand_string": "Apple M4 Pro\n", "kern.osversion": "24F74\n"}

    def answer(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(words, 0, answers[words[-1]], "")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(machines.platform, "mac_ver", lambda: ("15.5", ("", "", ""), "arm64"))
    monkeypatch.setattr(machines.subprocess, "run", answer)
    assert this_machine() == Machine("Apple M4 Pro", "macOS 15.5", "24F74")
    assert this_machine().is_apple_silicon
    answers["machdep.cpu.brand_string"] = "Intel(R) Core(TM) i7"
    assert not this_machine().is_apple_silicon


def test_a_mac_that_does_not_answer_is_known_by_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(machines.platform, "mac_ver", lambda: ("15.5", ("", "", ""), "arm64"))
    monkeypatch.setattr(machines, "SYSCTL", "/no/such/program")
    assert this_machine().build == "15.5"


def test_this_machine_is_no_mac_under_linux() -> None:
    if sys.platform != "darwin":
        assert not this_machine().is_apple_silicon
