"""The findings of ``dotsctl doctor``: a line for each check, each within its time, none hiding the others."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum

from dotsctl.protocol.errors import DotsctlError


class CheckStatus(StrEnum):
    """The verdict of a check."""

    OK = "ok"
    WARN = "warn"
    """It works, but slower or with less than it could, or something that is not used does not."""
    FAIL = "fail"
    """The requested pages cannot be read."""


@dataclass(frozen=True)
class Finding:
    """A line of the report."""

    name: str
    verdict: CheckStatus
    found: str
    remedy: str = ""
    """The remedy; empty where nothing is to be done."""


@dataclass(frozen=True)
class Check:
    """A question about this machine, and the longest time that its answer may take."""

    name: str
    ask: Callable[[], Finding]
    limit_s: float = 30.0


def ok(name: str, found: str) -> Finding:
    """Return a finding without a fault."""
    return Finding(name, CheckStatus.OK, found)


def warn(name: str, found: str, remedy: str) -> Finding:
    """Return a warning with its remedy."""
    return Finding(name, CheckStatus.WARN, found, remedy)


def fail(name: str, found: str, remedy: str) -> Finding:
    """Return a failure with its remedy."""
    return Finding(name, CheckStatus.FAIL, found, remedy)


def of_error(name: str, error: DotsctlError, verdict: CheckStatus = CheckStatus.FAIL) -> Finding:
    """The line of an error of ours."""
    return Finding(name, verdict, error.problem, error.remedy)


def examine(checks: Iterable[Check]) -> Iterator[tuple[Finding, float]]:
    """The finding of each check and the seconds that it took; nothing that a check does ends the others."""
    for check in checks:
        started = time.monotonic()
        finding = _within_time(check)
        yield finding, time.monotonic() - started


def _within_time(check: Check) -> Finding:
    """Run a check in a thread: what hangs in the system, as a network drive does, cannot be ended, only left behind."""
    answers: list[Finding] = []

    def ask() -> None:
        try:
            answers.append(check.ask())
        except DotsctlError as error:
            answers.append(of_error(check.name, error))
        except Exception as error:  # a main loop: a mistake in one check must not hide what the others find
            text = f"the check itself failed: {type(error).__name__}: {error}"
            answers.append(fail(check.name, text, "please report this as a bug"))

    thread = threading.Thread(target=ask, name=check.name, daemon=True)
    thread.start()
    thread.join(check.limit_s)
    if answers:
        return answers[0]
    return fail(
        check.name,
        f"no answer within {check.limit_s:.0f} s",
        "look whether a drive or a process hangs; 'dotsctl doctor --timeout SECONDS' waits longer for plugins",
    )


def text_line(finding: Finding) -> str:
    """One finding as readable text; its remedy on a line of its own."""
    mark = "FAIL" if finding.verdict is CheckStatus.FAIL else finding.verdict.value
    found = finding.found.replace("\n", "\n" + " " * 29)
    line = f"{mark:<4}  {finding.name:<22} {found}\n"
    if finding.remedy:
        remedy = finding.remedy.replace("\n", "\n" + " " * 32)
        line += " " * 29 + f"-> {remedy}\n"
    return line


def summary(findings: list[Finding]) -> str:
    """The last line."""
    counts = {verdict: sum(finding.verdict is verdict for finding in findings) for verdict in CheckStatus}
    verdict = "pages cannot be read: fix the FAIL lines first" if counts[CheckStatus.FAIL] else "pages can be read"
    return f"{counts[CheckStatus.OK]} ok, {counts[CheckStatus.WARN]} warn, {counts[CheckStatus.FAIL]} FAIL: {verdict}\n"


def as_json(findings: list[tuple[Finding, float]]) -> str:
    """All findings as JSON."""
    checks = [{**asdict(finding), "seconds": round(seconds, 3)} for finding, seconds in findings]
    failed = any(finding.verdict is CheckStatus.FAIL for finding, _ in findings)
    return json.dumps({"schema": "dotsctl-doctor/1", "ok": not failed, "checks": checks}, indent=2) + "\n"
