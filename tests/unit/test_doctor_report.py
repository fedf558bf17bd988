"""The report of ``dotsctl doctor``: one line for each check, whatever a check does."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from dotsctl.protocol.errors import ExitCode, MissingError
from dotsctl.tools.doctor import main as doctor
from dotsctl.tools.doctor.report import (
    Check,
    CheckStatus,
    Finding,
    as_json,
    examine,
    fail,
    ok,
    summary,
    text_line,
    warn,
)


def raises(error: Exception) -> Finding:
    raise error


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """Something that a check waits for in vain."""
    event = threading.Event()
    yield event
    event.set()


def test_a_check_that_fails_breaks_or_hangs_never_hides_the_others(hang: threading.Event) -> None:
    def never() -> Finding:
        hang.wait()
        return ok("hangs", "at last")

    checks = [
        Check("ours", lambda: raises(MissingError("it is not there", "put it there"))),
        Check("broken", lambda: raises(ZeroDivisionError("odd"))),
        Check("hangs", never, limit_s=0.1),
        Check("good", lambda: ok("good", "all is well")),
    ]
    findings = [finding for finding, _ in examine(checks)]
    assert findings[0] == fail("ours", "it is not there", "put it there")
    assert "ZeroDivisionError: odd" in findings[1].found
    assert findings[2].found == "no answer within 0 s"
    assert [finding.verdict for finding in findings] == [CheckStatus.FAIL] * 3 + [CheckStatus.OK]


def test_a_line_has_verdict_name_and_finding_and_the_remedy_below() -> None:
    assert text_line(ok("disk", "empty")) == "ok    disk                   empty\n"
    lines = text_line(fail("disk", "full", "buy one")).splitlines()
    assert lines[0] == "FAIL  disk                   full"
    assert lines[1].strip() == "-> buy one"
    assert lines[1].index("->") == lines[0].index("full")


def test_the_last_line_counts() -> None:
    findings = [ok("a", ""), warn("b", "", "x"), fail("c", "", "y")]
    assert summary(findings) == "1 ok, 1 warn, 1 FAIL: pages cannot be read: fix the FAIL lines first\n"
    assert summary(findings[:2]).endswith("0 FAIL: pages can be read\n")


def test_machines_get_every_finding_with_its_time() -> None:
    content = json.loads(as_json([(warn("b", "slow", "x"), 1.23456)]))
    assert content == {
        "schema": "dotsctl-doctor/1",
        "ok": True,
        "checks": [{"name": "b", "verdict": "warn", "found": "slow", "remedy": "x", "seconds": 1.235}],
    }
    assert not json.loads(as_json([(fail("c", "", "y"), 0.0)]))["ok"]


@pytest.mark.parametrize(
    ("finding", "code"),
    [(ok("a", "1"), ExitCode.OK), (warn("a", "1", "x"), ExitCode.OK), (fail("a", "1", "x"), ExitCode.COMMAND)],
)
@pytest.mark.parametrize("json_", [False, True])
def test_only_a_failure_is_exit_7(
    finding: Finding, code: ExitCode, json_: bool, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    monkeypatch.setattr(doctor, "checks", lambda _: [Check("a", lambda: finding)])
    assert doctor.run(model="demo", encoder=None, decoder=None, timeout_s=5.0, json_=json_) is code
    out = capfdbinary.readouterr().out.decode()
    assert ('"ok"' in out) is json_
    assert finding.verdict.value in out.lower()
