import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from click.testing import CliRunner
from dotsctl.client import cli_tools
from dotsctl.client.cli import cli
from dotsctl.client.cli_print import ClosedPipeError
from dotsctl.protocol.errors import CommandFailedError, MissingError, UsageError


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Sequence[str]]]:
    """Tools that a command started, with their words; each ends with 7."""
    tools: list[tuple[str, Sequence[str]]] = []
    monkeypatch.setattr("dotsctl.client.cli_status.run_tool", lambda tool, words: tools.append((tool, words)) or 7)
    return tools


@pytest.mark.parametrize(
    "words",
    [
        ("convert", "demo", "--decoder-bits", "8", "--pages=-odd-", "--json"),
        ("embed", "a b.png", "-", "-o", "out", "--password", "", "--pages", "1-3"),
        ("embed", "-o", "out", "--", "--help"),
        ("compare", "a b.png", "--encoder", "coreml", "--encoder", "mlx", "--json"),
    ],
)
def test_a_tool_gets_the_words_as_they_were_written(started: list[Any], words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 7
    assert started == [(words[0], words[1:])]


@pytest.mark.parametrize(
    "words",
    [
        ("convert",),
        ("convert", "m", "--decoder-bits", "5"),
        ("embed", "a"),
        ("embed", "-o", "x"),
        ("embed", "-z"),
        ("compare", "a"),
    ],
)
def test_wrong_usage_starts_no_tool(started: list[Any], words: tuple[str, ...]) -> None:
    assert CliRunner().invoke(cli, words).exit_code == 2
    assert started == []


@pytest.mark.parametrize(
    ("words", "tool"),
    [
        (("doctor", "--json", "--model", "demo"), ("doctor", ("--json", "--model", "demo"))),
        (("doctor", "--coreml", "-o", "report.json", "--help"), ("doctor_coreml", ("-o", "report.json", "--help"))),
    ],
)
def test_the_doctor_hands_what_is_about_core_ml_to_its_own_tool(
    started: list[Any], words: tuple[str, ...], tool: tuple[str, Sequence[str]]
) -> None:
    assert CliRunner().invoke(cli, words).exit_code == 7
    assert started == [tool]


def test_the_core_ml_tool_of_the_doctor_explains_itself() -> None:
    if importlib.util.find_spec("dotsctl.tools.doctor_coreml") is None:
        pytest.skip("this tool is not part of this checkout")
    command = [sys.executable, "-P", "-m", "dotsctl.client", "doctor", "--coreml", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "Core ML encoder" in done.stdout


def test_help_starts_no_tool(started: list[Any]) -> None:
    result = CliRunner().invoke(cli, ["convert", "-h"])
    assert result.exit_code == 0 and "--group-size" in result.stdout
    assert started == []


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (None, 0),
        (1, 1),
        (UsageError("odd"), 2),
        (MissingError("odd"), 3),
        (CommandFailedError("odd"), 7),
        (KeyboardInterrupt(), 130),
        (ClosedPipeError(), 141),
    ],
)
def test_a_tool_ends_with_the_code_of_its_outcome(
    outcome: Any, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(**options: Any) -> int | None:
        assert (options["model"], options["decoder_bits"], options["pages"]) == ("m", "4", ("a", "b"))
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(sys, "argv", ["convert", "m", "--decoder-bits", "4", "--pages", "a", "--pages", "b"])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        cli_tools.main(cli_tools.convert, run)
    assert ended.value.code == code
    assert ("dotsctl: odd" in capsys.readouterr().err) == (code in (2, 3, 7))


def test_a_tool_that_is_told_to_end_cleans_up_first() -> None:
    program = (
        "import sys, threading\n"
        "from dotsctl.client import cli_tools\n"
        "def run(**_):\n"
        "    try:\n"
        "        print('at work', flush=True)\n"
        "        threading.Event().wait(30)\n"
        "    finally:\n"
        "        print('clean', flush=True)\n"
        "cli_tools.main(cli_tools.convert, run)\n"
    )
    command = [sys.executable, "-P", "-c", program, "m"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tool:
        assert tool.stdout is not None and tool.stdout.readline() == "at work\n"
        os.kill(tool.pid, signal.SIGTERM)
        assert tool.stdout.read() == "clean\n"
        assert tool.wait(30) == 143
