"""Runs the probe in a child process, with a limit for each step, and reports what it found and how it ended."""

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
from dataclasses import dataclass, field
from typing import IO, Any

from dotsctl.encoder_worker.coreml.compiler_messages import failures
from dotsctl.protocol.errors import ExitCode, MissingError, OutputError

COMMAND = (sys.executable, "-P", "-m", "dotsctl.encoder_worker.coreml.probe")
STEP_LIMIT_S = 900.0
"""Longest time of one step. The first load of one function for the Neural Engine was seen to take up to 560 s
(Whisper large turbo on an M2 Pro, argmax-oss-swift issue 309)."""
OWN_LIMIT_SLACK_S = 30.0
"""The additional time after which the child ends itself, should no process be left to end it."""
REPORT_S = 30.0
"""Longest time without a report to the caller."""
END_S = 10.0
TAIL_BYTES = 2000
Report = Callable[[str], None]


@dataclass
class Findings:
    """The result of one probe."""

    content: dict[str, Any] = field(default_factory=dict)
    """The content of its ``encoded`` or ``plan`` event; empty: it did not come so far."""
    step: str = "starting"
    """The last step that began."""
    reason: str = ""
    """The reason why it ended before its work was done; empty: it did not."""
    remedy: str = ""
    """The remedy of an error that the probe raised."""
    hangs: bool = False
    """Whether it was ended because it made no progress."""
    compiler: list[str] = field(default_factory=list)
    """Lines of standard error that report a failed compilation."""


def run_probe(
    arguments: Sequence[str], report: Report, step_limit_s: float = STEP_LIMIT_S, command: Sequence[str] = ()
) -> Findings:
    """Run the probe with these arguments; returns when the child has ended.

    Args:
        arguments: its command line.
        report: called with each step, and every half minute of a long one.
        step_limit_s: longest time of one step.
        command: what starts the child, before its arguments; none: our own probe.

    Raises:
        MissingError: coremltools or a file of the build is missing.
        OutputError: there is no room for compiled packages.
    """
    findings = Findings()
    limit = ["--step-limit", str(step_limit_s + OWN_LIMIT_SLACK_S)]
    with tempfile.TemporaryFile() as errors, _child([*(command or COMMAND), *arguments, *limit], errors) as child:
        for line in _lines(child, step_limit_s, lambda: report(f"still {findings.step}")):
            if line is None:
                findings.hangs = True
                findings.reason = f"no progress for {step_limit_s:.0f} s while {findings.step}"
                break
            _take(line, findings, report)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs after its work was done
                child.wait(END_S)
            _raise_if_not_its_fault(child.returncode, findings)
            findings.reason = findings.reason or _how_it_ended(child.returncode, findings.step, errors)
        errors.seek(0)
        findings.compiler = failures(errors.read().decode("utf-8", "replace"))
    if findings.content:
        findings.reason = ""  # libraries that crash at their end have done their work nevertheless
        findings.hangs = False
    return findings


def _raise_if_not_its_fault(code: int | None, findings: Findings) -> None:
    """Raise for what is no evidence about the build: a missing library or file, and a full disk."""
    if findings.reason and code == ExitCode.MISSING:
        raise MissingError(findings.reason, findings.remedy)
    if findings.reason and code == ExitCode.OUTPUT:
        raise OutputError(findings.reason, findings.remedy)


@contextlib.contextmanager
def _child(arguments: list[str], errors: IO[bytes]) -> Iterator["subprocess.Popen[bytes]"]:
    """The process; at the end it is gone. It leaves when its standard input, which we hold, is closed."""
    child = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                stream.close()


def _lines(child: "subprocess.Popen[bytes]", limit_s: float, waiting: Callable[[], None]) -> Iterator[bytes | None]:
    """Yield its lines as they come, to the end of its output; none, at last, when there was no line for ``limit_s``."""
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
    """Understand one line; lines that are not the probe's (the framework may write too) are skipped."""
    try:
        content = json.loads(line)
        event = content.pop("event")
    except (ValueError, KeyError, TypeError, AttributeError):
        return
    if event == "step":
        findings.step = content["step"]
        report(findings.step)
    elif event in ("encoded", "plan"):
        findings.content = content
    elif event == "error":
        findings.reason = f"{content['reason']} (while {findings.step})"
        findings.remedy = content["remedy"]


def _how_it_ended(code: int | None, step: str, errors: IO[bytes]) -> str:
    """Return why the process is gone, with its last line; empty when it ended normally."""
    if code == 0:
        return ""
    errors.seek(max(0, errors.seek(0, 2) - TAIL_BYTES))
    lines = [line for line in errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
    last = f": {lines[-1].strip()}" if lines else ""
    if code is None:
        return f"the process closed its output and did not end, while {step}{last}"
    if code < 0:
        return f"the process was ended by {signal.Signals(-code).name} while {step}{last}"
    return f"the process ended with code {code} while {step}{last}"
