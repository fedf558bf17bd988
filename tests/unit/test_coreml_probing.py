"""Trying a build in a child process: what is made of a child that ends well, hangs, dies or errs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dotsctl.encoder_worker.coreml.manifest import Build, Chunk
from dotsctl.encoder_worker.coreml.probing import Probe
from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.machine import Machine
from dotsctl.protocol.verdicts import Trial, Verdict

MACHINE = Machine("Apple M2", "macOS 26.1", "25B1")
PRELUDE = """
import json, os, signal, sys, threading
def say(event, **content): print(json.dumps({"event": event, **content}), flush=True)
def trial(bucket, reason=""): say("trial", bucket=bucket, reason=reason, load_s=2.0, first_s=1.0, page_s=0.5)
buckets = [int(word) for word in sys.argv[3:sys.argv.index("--step-limit")]]
"""


@pytest.fixture
def build(tmp_path: Path) -> tuple[Path, Build]:
    chunk = Chunk("tower-1.mlpackage", 0, 3, 0, {})
    made = Build("f" * 64, "float16", "same", (96, 264, 308), 512, "cpu_and_ne", 256, 32, 256, (chunk,), {})
    made.write(tmp_path)
    return tmp_path, made


def probe(build: tuple[Path, Build], program: str, limit_s: float = 20.0) -> Probe:
    return Probe(*build, "cpu_and_ne", limit_s, None, (sys.executable, "-P", "-c", PRELUDE + program))


def tried(build: tuple[Path, Build], program: str, limit_s: float = 20.0, before: Verdict | None = None) -> Verdict:
    return probe(build, program, limit_s).verdict((96, 264, 308), MACHINE, lambda note: None, before)


def test_what_a_child_finds_becomes_the_verdict(build: tuple[Path, Build]) -> None:
    notes: list[str] = []
    program = (
        "say('step', step='loading'); print('noise of the framework'); print('[1]'); [trial(b) for b in buckets]; "
        "say('plan', ne_share=0.75, ne_cost_share=0.9, counts={}, operations=[])"
    )
    verdict = probe(build, program).verdict((96, 264, 308), MACHINE, notes.append, None)
    assert verdict.is_good
    assert verdict.trials == tuple(Trial(bucket, "", 2.0, 1.0, 0.5) for bucket in (96, 264, 308))
    assert (verdict.ne_share, verdict.ne_cost_share) == (0.75, 0.9)
    assert (verdict.build, verdict.units, verdict.buckets) == (build[0].name, "cpu_and_ne", (96, 264, 308))
    assert notes == ["loading"]


def test_a_child_that_hangs_is_ended_and_larger_pages_are_not_tried(build: tuple[Path, Build]) -> None:
    program = (
        "trial(96); print(os.getpid(), file=open(PATH, 'w')); say('step', step='loading 264'); threading.Event().wait()"
    )
    pid_file = build[0] / "pid"
    verdict = tried(build, f"PATH={str(pid_file)!r}\n{program}", limit_s=3.0)
    assert [trial.reason for trial in verdict.trials] == [
        "",
        "nothing happened for 3 s while loading 264",
        "not tried, as pages of 264 patches hung",
    ]
    assert not verdict.is_good
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_a_child_that_is_killed_at_one_page_size_is_followed_by_one_for_the_rest(build: tuple[Path, Build]) -> None:
    program = (
        "if 96 in buckets: trial(96); say('step', step='page of 264'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "[trial(b) for b in buckets]"
    )
    verdict = tried(build, program)
    assert [trial.reason for trial in verdict.trials] == [
        "",
        "the process was ended by SIGKILL while page of 264",
        "",
    ]


def test_an_error_and_a_bare_exit_are_told_with_their_words(build: tuple[Path, Build]) -> None:
    program = "say('error', reason='RuntimeError: ANECCompile failed'); sys.exit(7)"
    for trial in tried(build, program).trials:
        assert trial.reason == "RuntimeError: ANECCompile failed (while starting)"
    for trial in tried(build, "sys.exit('no such thing')").trials:
        assert trial.reason == "the process ended with code 1 while starting: no such thing"


def test_a_death_after_all_page_sizes_costs_the_plan_alone(build: tuple[Path, Build]) -> None:
    verdict = tried(build, "[trial(b) for b in buckets]; os.kill(os.getpid(), signal.SIGSEGV)")
    assert verdict.is_good and verdict.ne_share is None


def test_what_was_known_of_other_page_sizes_is_kept(build: tuple[Path, Build]) -> None:
    before = tried(build, "[trial(b) for b in buckets]")
    again = probe(build, "[trial(b, 'odd') for b in buckets]").verdict((264,), MACHINE, lambda note: None, before)
    assert [trial.reason for trial in again.trials] == ["", "odd", ""]


def test_a_folder_without_a_build_cannot_be_tried(build: tuple[Path, Build]) -> None:
    (build[0] / "manifest.json").unlink()
    with pytest.raises(MissingError, match="has no manifest"):
        tried(build, "")


def test_the_probe_tells_what_is_wrong_with_a_build(build: tuple[Path, Build]) -> None:
    findings = Probe(build[0] / "nothing", build[1], "cpu_and_ne").run((96,), lambda note: None)
    assert "manifest.json cannot be read" in findings.reason
    assert "while reading the build" in findings.reason


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
