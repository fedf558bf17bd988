"""``dotsctl pull`` as a command."""

import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from dotsctl.protocol.model.directory import cached_fingerprint, fingerprint

from tests.fake_hub import COMMIT, REPO, FakeHub
from tests.local_models import call, refused
from tests.pulling import WEIGHTS

CHILD_TIMEOUT_S = 30.0
COMMAND = [sys.executable, "-P", "-m", "dotsctl", "pull", REPO]
pytestmark = pytest.mark.usefixtures("run_folder")


def test_a_pull_reports_what_it_brings_and_how_to_use_it(remote: FakeHub, pull_home: Path) -> None:
    remote.files["README.md"] = b"```\nprompt_ocr = 'Read it.'\n```"
    result = call("pull", REPO, "--name", "mine")
    folder = pull_home / "mine"
    assert (result.exit_code, result.stdout) == (0, "")
    lines = result.stderr.splitlines()
    assert lines.pop(2).startswith("memory: ")
    assert lines == [
        f"{REPO}@{COMMIT}",
        "9 files, 853 kB; licence: other (dots-terms)",
        f"'mine' is installed: 854 kB, fingerprint {fingerprint(folder)[:12]}, in {folder}",
        "it brings its own prompts for text",
        "try: dotsctl ocr scan.png --model mine",
    ]


def test_a_pulled_model_s_fingerprint_is_known_at_once(remote: FakeHub, pull_home: Path) -> None:
    call("pull", REPO)
    assert cached_fingerprint((pull_home / "dots.small").resolve())


def test_a_quiet_pull_prints_only_errors(remote: FakeHub) -> None:
    result = call("pull", REPO, "-q")
    assert (result.exit_code, result.output) == (0, "")
    remote.refusal = (403, {"X-Error-Code": "GatedRepo"})
    assert "is gated" in refused(7, "pull", REPO, "-q")


def test_without_the_library_a_pull_is_exit_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install --force-reinstall dotsctl" in refused(3, "pull", REPO)


def test_a_terminal_gets_a_bar_and_a_file_does_not(remote: FakeHub) -> None:
    ours, theirs = os.openpty()
    try:
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
        subprocess.run(COMMAND, stderr=theirs, env=environment, timeout=CHILD_TIMEOUT_S, check=True)
        shown = os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert re.search(r"\x1b.*m(\d{3}\.\d)/\1 kB", shown)
    done = subprocess.run([*COMMAND, "--force"], capture_output=True, text=True, timeout=CHILD_TIMEOUT_S, check=True)
    assert "\x1b" not in done.stderr


def test_ctrl_c_is_exit_130_and_reports_that_nothing_is_lost(remote: FakeHub) -> None:
    remote.stalls[WEIGHTS] = 100_000
    with subprocess.Popen(COMMAND, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            assert remote.stalled.wait(CHILD_TIMEOUT_S)
            process.send_signal(signal.SIGINT)
            assert process.wait(CHILD_TIMEOUT_S) == 130
        finally:
            process.kill()
        assert select.select([process.stderr], [], [], CHILD_TIMEOUT_S)[0]
        printed = process.stderr.read().decode()
    assert printed.endswith("stopped; run the same command to resume\n")
    assert "Traceback" not in printed
