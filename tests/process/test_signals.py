"""Ctrl-C, SIGTERM and SIGHUP at every moment of a command."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Gate, sample
from tests.process.conftest import dotsctl
from tests.process.test_endings import finish, wait_for_line

pytestmark = pytest.mark.process
NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FAKES = ("--encoder", "fake", "--decoder", "fake")
SPREAD_S = 0.4


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.png"
    Image.new("RGB", (56, 56), "white").save(path)
    return path


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_during_imports_ends_the_process_without_a_word(number: signal.Signals) -> None:
    code = "import os, sys\nfrom dotsctl.client.cli.signals import leave_at_signals\nleave_at_signals()\n"
    command = [sys.executable, "-P", "-c", f"{code}os.kill(os.getpid(), {number:d})\nprint('went on')"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "")


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_signal_while_pages_are_read_finishes_them_and_sets_the_exit_code(
    run_folder: Path, page: Path, gates: list[Gate], number: signal.Signals
) -> None:
    others = [page.with_name(f"{name}.png") for name in "abcdefgh"]
    for other in others:
        other.write_bytes(page.read_bytes())
    client = dotsctl(
        "ocr", *map(str, others), "-j", "1", "--encoder", "fake", "--decoder", f"fake:gate={gates[0].path}"
    )
    gates[0].wait_entered()
    gates[0].remove()
    started = time.monotonic()
    client.send_signal(number)
    wait_for_line(client, "stopping")
    assert time.monotonic() - started < 1.0
    gates[0].open()
    code, _, err = finish(client)
    assert code == 128 + number and "interrupted" in err and "Traceback" not in err, err


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_while_the_model_loads_ends_at_once_with_its_exit_code(
    run_folder: Path, page: Path, number: signal.Signals
) -> None:
    client = dotsctl("ocr", "-v", str(page), "--encoder", "fake:load_fault=hang", "--decoder", "fake")
    deadline, pause = time.monotonic() + 20.0, select.poll()
    while not list(run_folder.glob("p-*/w.*.sock")):
        assert time.monotonic() < deadline
        pause.poll(5)
    client.send_signal(number)
    code, _, err = finish(client)
    assert code == 128 + number and "Traceback" not in err, err


@pytest.mark.sampled
@pytest.mark.parametrize("number", NUMBERS)
def test_no_moment_of_a_command_answers_a_signal_with_a_traceback(
    run_folder: Path, page: Path, number: signal.Signals
) -> None:
    """Until Python runs the first line of dotsctl, SIGINT is Python's own affair."""
    moments = sample(5, 60)
    for moment in range(moments):
        client = dotsctl("ocr", str(page), *FAKES, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
        select.poll().poll(1000 * SPREAD_S * moment / moments)
        client.send_signal(number)
        code, _, err = finish(client)
        if number is signal.SIGINT and "client/cli/main.py" not in err and code in (1, -number):
            continue
        assert code in (128 + number, -number, 0) and "Traceback" not in err, err
