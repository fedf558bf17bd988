"""Runs the probe in a child process, with a limit for each step, and makes a verdict of what it tells and how it ends.

A child that hangs, dies or errs is a verdict too, with its reason.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from dotsctl.encoder_worker.coreml.manifest import Build
from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.machine import Machine
from dotsctl.protocol.verdicts import Trial, Verdict, build_digest

COMMAND = (sys.executable, "-P", "-m", "dotsctl.encoder_worker.coreml.probe")
STEP_LIMIT_S = 900.0
"""Longest time of one step. The first load of one function for the Neural Engine was seen to take up to 560 s
(Whisper large turbo on an M2 Pro, argmax-oss-swift issue 309)."""
OWN_LIMIT_SLACK_S = 30.0
"""After which the child ends itself, should nobody be left to end it."""
REPORT_S = 30.0
"""Longest silence towards whoever waits."""
END_S = 10.0
LAST_WORDS_BYTES = 2000
Report = Callable[[str], None]


@dataclass
class Findings:
    """What a probe told until it ended."""

    trials: list[Trial] = field(default_factory=list)
    step: str = "starting"
    """The last one that was begun."""
    plan: dict[str, Any] = field(default_factory=dict)
    """What :func:`dotsctl.encoder_worker.coreml.residency.residency` gives, and the operations; empty: not told."""
    reason: str = ""
    """Why it ended before everything was tried; empty: it did not."""
    hangs: bool = False
    """Whether it was ended because nothing happened any more."""


@dataclass(frozen=True)
class Probe:
    """What to try."""

    folder: Path
    """Of the build."""
    build: Build
    units: str
    step_limit_s: float = STEP_LIMIT_S
    compiled: Path | None = None
    """Folder of the compiled packages, where it is not the usual one."""
    command: Sequence[str] = ()
    """What starts the child, before its arguments; none: our own probe."""

    def run(self, buckets: Sequence[int], report: Report) -> Findings:
        """Try some page sizes; returns when the child has ended.

        Args:
            buckets: numbers of patches.
            report: told each step, and every half minute that it goes on.
        """
        findings = Findings()
        words = [str(self.folder), self.units, *map(str, buckets)]
        words += ["--step-limit", str(self.step_limit_s + OWN_LIMIT_SLACK_S)]
        words += ["--compiled", str(self.compiled)] if self.compiled else []
        with tempfile.TemporaryFile() as said, _child([*(self.command or COMMAND), *words], said) as child:
            for line in _lines(child, self.step_limit_s, lambda: report(f"still {findings.step}")):
                if line is None:
                    findings.hangs = True
                    findings.reason = f"nothing happened for {self.step_limit_s:.0f} s while {findings.step}"
                    break
                _take(line, findings, report)
            else:
                with contextlib.suppress(subprocess.TimeoutExpired):  # then it hangs after its work was done
                    child.wait(END_S)
                findings.reason = findings.reason or _how_it_ended(child.returncode, findings.step, said)
        tried = {trial.bucket for trial in findings.trials}
        if tried.issuperset(buckets):
            findings.reason = ""  # the plan alone is missing
        return findings

    def verdict(self, buckets: Sequence[int], machine: Machine, report: Report, before: Verdict | None) -> Verdict:
        """See :meth:`judge`."""
        return self.judge(buckets, machine, report, before)[0]

    def judge(
        self, buckets: Sequence[int], machine: Machine, report: Report, before: Verdict | None
    ) -> tuple[Verdict, dict[str, Any]]:
        """Try page sizes and judge, keeping what is known of others; with the plan as in :class:`Findings`.

        A child that ends early is the fault of the page size that it was at, and the ones after it get a new child;
        but not after one that hung, as that takes long and the larger ones would hang too.
        """
        known = before or self._nothing_known(machine)
        left, plan = list(buckets), dict[str, Any]()
        while left:
            findings = self.run(left, report)
            trials = list(findings.trials)
            if findings.reason:
                at = next(bucket for bucket in left if bucket not in {trial.bucket for trial in trials})
                trials.append(Trial(at, findings.reason))
                if findings.hangs:
                    after = left[left.index(at) + 1 :]
                    trials += [Trial(bucket, f"not tried, as pages of {at} patches hung") for bucket in after]
            tried = {trial.bucket for trial in trials}
            left = [bucket for bucket in left if bucket not in tried]
            known = known.with_trials(trials)
            if findings.plan:
                plan = findings.plan
                known = replace(known, ne_share=findings.plan["ne_share"], ne_cost_share=findings.plan["ne_cost_share"])
        return replace(known, date=datetime.now(UTC).isoformat(timespec="seconds")), plan

    def _nothing_known(self, machine: Machine) -> Verdict:
        digest = build_digest(self.folder)
        if digest is None:
            raise MissingError(f"{self.folder} has no manifest: convert the model again")
        return Verdict(self.build.fingerprint, self.folder.name, digest, self.units, machine, self.build.buckets)


@contextlib.contextmanager
def _child(words: list[str], said: IO[bytes]) -> Iterator["subprocess.Popen[bytes]"]:
    """The process; at the end it is gone. It leaves when its standard input, which we hold, is closed."""
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                stream.close()


def _lines(child: "subprocess.Popen[bytes]", limit_s: float, waiting: Callable[[], None]) -> Iterator[bytes | None]:
    """Its lines as they come, to the end of its output; none, at last, when there was no line for ``limit_s``."""
    if child.stdout is None:
        raise ValueError("the output of the child is not piped")
    output = child.stdout.fileno()
    rest, deadline = b"", time.monotonic() + limit_s
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            yield None
            return
        ready, _, _ = select.select([output], [], [], min(left_s, REPORT_S))
        if not ready:
            waiting()
            continue
        read = os.read(output, 1 << 16)
        if not read:
            return
        *lines, rest = (rest + read).split(b"\n")
        for line in lines:
            deadline = time.monotonic() + limit_s
            yield line


def _take(line: bytes, findings: Findings, report: Report) -> None:
    """Understand one line; what is none of the probe's (the framework may write too) is left aside."""
    try:
        content = json.loads(line)
        event = content.pop("event")
    except (ValueError, KeyError, TypeError, AttributeError):
        return
    if event == "step":
        findings.step = content["step"]
        report(findings.step)
    elif event == "trial":
        findings.trials.append(Trial(**content))
    elif event == "plan":
        findings.plan = content
    elif event == "error":
        findings.reason = f"{content['reason']} (while {findings.step})"


def _how_it_ended(code: int | None, step: str, said: IO[bytes]) -> str:
    """Why the process is gone, with its last line; empty when it came to its end."""
    if code == 0:
        return ""
    said.seek(max(0, said.seek(0, 2) - LAST_WORDS_BYTES))
    lines = [line for line in said.read().decode("utf-8", "replace").splitlines() if line.strip()]
    last = f": {lines[-1].strip()}" if lines else ""
    if code is None:
        return f"the process closed its output and did not end, while {step}{last}"
    if code < 0:
        return f"the process was ended by {signal.Signals(-code).name} while {step}{last}"
    return f"the process ended with code {code} while {step}{last}"
