"""``dotsctl doctor`` as a user calls it, with the demo model."""

import json
from pathlib import Path

import pytest

from tests.process.conftest import dotsctl

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]


def test_a_machine_that_reads_pages_gets_a_report_and_nothing_is_left(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path / "models"))
    with dotsctl("doctor", "--model", "demo", "--json", cwd=tmp_path) as process:
        out, err = process.communicate(timeout=200)
    report = json.loads(out)
    findings = {check["name"]: check for check in report["checks"]}
    failed = {name: check["found"] for name, check in findings.items() if check["verdict"] == "fail"}
    assert (failed, process.returncode, report["ok"], err) == ({}, 0, True, "")
    assert {"Python", "matrix products", "model demo", "memory", "running", "encoder mlx", "decoder mlx"} <= set(
        findings
    )
    assert "can read it" in findings["test page"]["found"]
    assert findings["encoder coreml"]["verdict"] == "warn", "there are no packages"
    assert all(check["remedy"] for check in report["checks"] if check["verdict"] != "ok")
