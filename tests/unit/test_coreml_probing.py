"""Trying a build in child processes: the verdict on children that end well, hang, die or err."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dotsctl.encoder_worker.coreml.manifest import Build, Chunk
from dotsctl.encoder_worker.coreml.probe_process import run_probe
from dotsctl.encoder_worker.coreml.probing import Probe
from dotsctl.protocol.errors import MissingError, OutputError
from dotsctl.protocol.machine.identity import Machine
from dotsctl.protocol.machine.verdicts import Verdict, recall_mlx

from tests.forked_probe import fork_children

MACHINE = Machine("Apple M2", "macOS 26.1", "25B1")
BUCKETS = (96, 264, 308)
PRELUDE = """
import json, os, signal, sys, threading
import numpy as np
def say(event, **content): print(json.dumps({"event": event, **content}), flush=True)
def step(text): say("step", step=text)
task, folder, units, bucket = sys.argv[1:4] + [int(sys.argv[4])]
is_ne = units == "cpu_and_ne"
def encode(noise=0.0, page_s=0.5):
    rows = np.random.default_rng(bucket).normal(size=(bucket // 4, 8)).astype(np.float32)
    rows += noise * np.random.default_rng(0).normal(size=rows.shape).astype(np.float32)
    np.save(sys.argv[sys.argv.index("--output") + 1], rows)
    say("encoded", load_s=2.0, first_s=1.0, page_s=page_s)
def plan(): say("plan", ne_share=0.75, ne_cost_share=0.9, counts={"ne": 3, "cpu": 1}, operations=[])
def die(): os.kill(os.getpid(), signal.SIGKILL)
"""
USUAL = "plan() if task == 'plan' else encode()"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own; children are forked, as importing numpy in each of them takes longer than all else."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fork_children(monkeypatch)


@pytest.fixture
def build(tmp_path: Path) -> tuple[Path, Build]:
    chunk = Chunk("tower-1.mlpackage", 0, 3, 0, {})
    made = Build("f" * 64, "float16", "same", BUCKETS, 512, "cpu_and_ne", 256, 32, 256, (chunk,), {})
    made.write(tmp_path)
    return tmp_path, made


def probe(build: tuple[Path, Build], program: str, limit_s: float = 20.0) -> Probe:
    command = (sys.executable, "-P", "-c", PRELUDE + program)
    return Probe(*build, "cpu_and_ne", Path("model"), limit_s, None, command)


def tried(
    build: tuple[Path, Build], program: str, limit_s: float = 20.0, before: Verdict | None = None, *buckets: int
) -> Verdict:
    return probe(build, program, limit_s).verdict(buckets or BUCKETS, MACHINE, lambda note: None, before)


def test_what_the_children_find_becomes_the_verdict(build: tuple[Path, Build]) -> None:
    notes: list[str] = []
    program = f"step('loading'); print('noise of the framework'); print('[1]')\n{USUAL}"
    one = probe(build, program)
    verdict = one.verdict(BUCKETS, MACHINE, notes.append, None)
    assert verdict.is_good and verdict.good_buckets == BUCKETS
    for bucket, trial in zip(BUCKETS, verdict.trials, strict=True):
        assert (trial.bucket, trial.load_s, trial.first_s, trial.page_s) == (bucket, 2.0, 1.0, 0.5)
        assert trial.cpu_cosine == trial.mlx_cosine == pytest.approx(1.0)
        assert (trial.ne_share, trial.ne_cost_share) == (0.75, 0.9)
    assert verdict.ne_share == 0.75
    assert (verdict.build, verdict.units, verdict.buckets) == (build[0].name, "cpu_and_ne", BUCKETS)
    assert "loading" in notes
    assert recall_mlx("f" * 64, MACHINE) == dict.fromkeys(BUCKETS, 0.5)
    assert one.plans[96]["counts"] == {"ne": 3, "cpu": 1} and one.references is None


def test_a_child_that_hangs_is_ended_and_larger_pages_are_not_tried(build: tuple[Path, Build]) -> None:
    pid_file = build[0] / "pid"
    program = (
        "if bucket == 264 and is_ne:\n"
        f"    print(os.getpid(), file=open({str(pid_file)!r}, 'w'), flush=True)\n"
        f"    step('loading 264'); threading.Event().wait()\n{USUAL}"
    )
    verdict = tried(build, program, limit_s=3.0)
    assert [trial.reason for trial in verdict.trials] == [
        "",
        "no progress for 3 s while loading 264",
        "not tried, because pages of 264 patches hung",
    ]
    assert verdict.good_buckets == (96,)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_a_page_size_is_the_cause_only_where_another_one_works(build: tuple[Path, Build]) -> None:
    verdict = tried(build, f"step('page')\nif bucket < 300 and is_ne: die()\n{USUAL}")
    assert verdict.reason == "the process was ended by SIGKILL while page"  # two failed, and none worked
    assert verdict.trials == ()
    verdict = tried(build, f"step('page')\nif bucket == 96 and is_ne: die()\n{USUAL}")
    assert verdict.reason == "" and verdict.good_buckets == (264, 308)
    assert verdict.trials[0].reason == "the process was ended by SIGKILL while page"


def test_a_failure_is_tried_again_once_and_noted(build: tuple[Path, Build]) -> None:
    once = f"once = os.path.join({str(build[0])!r}, 'once')\n"
    program = f"{once}if is_ne and not os.path.exists(once): open(once, 'w').close(); die()\n{USUAL}"
    verdict = tried(build, program)
    assert verdict.is_good
    assert verdict.trials[0].note == "the first attempt failed: the process was ended by SIGKILL while starting"


def test_an_error_and_a_bare_exit_are_reported_with_their_text(build: tuple[Path, Build]) -> None:
    program = "say('error', reason='RuntimeError: ANECCompile failed', remedy=''); sys.exit(7)"
    assert tried(build, program).reason == "RuntimeError: ANECCompile failed (while starting)"
    assert tried(build, "sys.exit('no such thing')").reason == (
        "the process ended with code 1 while starting: no such thing"
    )


def test_a_full_disk_and_a_missing_library_are_no_verdict(build: tuple[Path, Build]) -> None:
    with pytest.raises(OutputError, match="no room"):
        tried(build, "say('error', reason='no room', remedy='free some'); sys.exit(5)")
    with pytest.raises(MissingError, match="no coremltools"):
        tried(build, "say('error', reason='no coremltools', remedy='install it'); sys.exit(3)")


def test_a_compiler_that_failed_is_the_reason_even_where_the_child_ends_well(build: tuple[Path, Build]) -> None:
    program = f"if is_ne: print('MILCompilerForANE error: failed to compile ANE model', file=sys.stderr)\n{USUAL}"
    assert tried(build, program).reason == "compilation failed: MILCompilerForANE error: failed to compile ANE model"
    one = tried(build, program.replace("is_ne", "is_ne and bucket == 308"))
    assert one.good_buckets == (96, 264) and "MILCompilerForANE" in one.trials[2].reason


def test_wrong_numbers_of_one_page_size_are_found_by_both_comparisons(build: tuple[Path, Build]) -> None:
    verdict = tried(build, "plan() if task == 'plan' else encode(is_ne and bucket == 308)")
    assert verdict.good_buckets == (96, 264)
    assert verdict.trials[2].reason.startswith("wrong numbers: cosines to cpu_only are 0.")
    assert verdict.trials[2].mlx_cosine is not None and verdict.trials[2].mlx_cosine < 0.9
    packages = tried(build, "plan() if task == 'plan' else encode(units != 'mlx' and bucket == 308)")
    assert packages.trials[2].reason.startswith("wrong numbers: cosines to mlx are 0.")


def test_a_comparison_that_fails_leaves_the_other_one(build: tuple[Path, Build]) -> None:
    notes: list[str] = []
    program = f"if units == 'mlx': step('mlx'); die()\n{USUAL}"
    verdict = probe(build, program).verdict(BUCKETS, MACHINE, notes.append, None)
    assert verdict.is_good and verdict.trials[0].mlx_cosine is None and verdict.trials[0].cpu_cosine is not None
    assert any("no comparison with mlx for pages of 96 patches: the process was ended" in note for note in notes)
    verdict = tried(build, f"if not is_ne: die()\n{USUAL}")
    assert "its numbers could not be checked (cpu_only: the process was ended by SIGKILL" in verdict.reason


def test_a_page_size_that_is_slower_than_its_work_allows_is_refused(build: tuple[Path, Build]) -> None:
    program = "plan() if task == 'plan' else encode(page_s=60.0 if is_ne and bucket == 308 else 0.5)"
    verdict = tried(build, program)
    assert verdict.good_buckets == (96, 264)
    assert (
        "a page takes 60.00 s" in verdict.trials[2].reason and "does not run on cpu_and_ne" in verdict.trials[2].reason
    )


def test_a_death_after_the_work_costs_nothing_and_one_in_the_plan_the_plan_alone(build: tuple[Path, Build]) -> None:
    verdict = tried(build, f"{USUAL}\nos.kill(os.getpid(), signal.SIGSEGV)")
    assert verdict.is_good and verdict.ne_share == 0.75
    verdict = tried(build, "die() if task == 'plan' else encode()")
    assert verdict.is_good and verdict.ne_share is None


def test_what_was_known_of_other_page_sizes_is_kept(build: tuple[Path, Build]) -> None:
    before = tried(build, USUAL)
    again = tried(build, f"if is_ne: say('error', reason='odd', remedy=''); sys.exit(7)\n{USUAL}", 20.0, before, 264)
    assert [trial.reason for trial in again.trials] == ["", "odd (while starting)", ""]


def test_embeddings_for_comparison_can_be_kept(build: tuple[Path, Build], tmp_path: Path) -> None:
    one = probe(build, USUAL)
    one.references = tmp_path / "kept"
    one.verdict((96,), MACHINE, lambda note: None, None)
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {
        "cpu_and_ne-96.npy", "cpu_only-96.npy", "mlx-96.npy"
    }  # fmt: skip
    np.save(tmp_path / "kept" / "cpu_only-96.npy", np.ones((24, 8), np.float32))
    assert "cosines to cpu_only" in one.verdict((96,), MACHINE, lambda note: None, None).reason


def test_a_folder_without_a_build_cannot_be_tried(build: tuple[Path, Build]) -> None:
    (build[0] / "manifest.json").unlink()
    with pytest.raises(MissingError, match="has no manifest"):
        tried(build, "")


def test_the_probe_reports_a_build_that_cannot_be_read(build: tuple[Path, Build]) -> None:
    words = ["encode", str(build[0] / "nothing"), "cpu_and_ne", "96"]
    with pytest.raises(MissingError, match=r"manifest\.json cannot be read.*while reading the build"):
        run_probe(words, lambda note: None)


def test_the_probe_leaves_when_whoever_started_it_is_gone() -> None:
    program = "import threading; from dotsctl.encoder_worker.coreml import probe; probe._leave_with_parent()"
    child = subprocess.Popen([sys.executable, "-P", "-c", program], stdin=subprocess.PIPE)
    child.communicate(timeout=20)
    assert child.returncode == 0


def test_the_probe_ends_itself_when_a_step_takes_too_long() -> None:
    program = (
        "import threading; from dotsctl.encoder_worker.coreml.probe import Steps; "
        "Steps(0.2).begin('waiting'); threading.Event().wait()"
    )
    child = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, timeout=20, check=False)
    assert child.returncode == 1 and b"Timeout" in child.stderr
