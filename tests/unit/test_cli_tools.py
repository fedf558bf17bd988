import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from dotsctl.client.cli.added_commands import COMMANDS_GROUP, added_commands
from dotsctl.client.cli.main import cli
from dotsctl.client.cli.printing import ClosedPipeError
from dotsctl.protocol.errors import CommandFailedError, MissingError, UsageError
from dotsctl.tools import embed as embed_program
from dotsctl.tools.convert import main as convert_main
from dotsctl.tools.embed import EmbedOptions


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Options with which the programs of ``convert`` and ``embed`` were called; each ends with 7."""
    calls: list[dict[str, Any]] = []
    for module in (convert_main, embed_program):
        monkeypatch.setattr(module, "run", lambda **options: calls.append(options) or 7)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return calls


def test_a_program_gets_the_options_as_they_were_written(started: list[dict[str, Any]]) -> None:
    result = CliRunner().invoke(cli, ["embed", "a b.png", "-", "-o", "out", "--password", "", "--pages", "1-3"])
    assert result.exit_code == 7
    (options,) = started
    expected = EmbedOptions(("a b.png", "-"), "out", None, None, None, "1-3", options["dpi"], "", False)
    assert EmbedOptions(**options) == expected


@pytest.mark.parametrize(
    "words",
    [
        ("convert",),
        ("convert", "m", "--decoder-bits", "7"),
        ("embed", "a"),
        ("embed", "-o", "x"),
        ("embed", "-z"),
        ("compare", "a"),
    ],
)
def test_wrong_usage_runs_nothing(started: list[dict[str, Any]], words: tuple[str, ...]) -> None:
    assert CliRunner().invoke(cli, words).exit_code == 2
    assert started == []


def test_the_doctor_has_another_command_for_the_core_ml_encoder() -> None:
    usual, coreml = (CliRunner().invoke(cli, ["doctor", *words, "--help"]) for words in ([], ["--coreml"]))
    assert usual.exit_code == coreml.exit_code == 0
    assert "--timeout" in usual.stdout and "--timeout" not in coreml.stdout
    assert "doctor --coreml [OPTIONS]" in coreml.stdout and "--resume" in coreml.stdout
    assert CliRunner().invoke(cli, ["doctor", "--coreml", "--timeout", "3"]).exit_code == 2


def test_help_of_all_commands_imports_none_of_their_programs() -> None:
    program = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from dotsctl.client.cli.main import cli\n"
        "assert 'embed' in CliRunner().invoke(cli, ['--help']).stdout\n"
        "print(*sorted({'numpy', 'mlx', 'zmq', 'PIL', 'coremltools'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=30)
    assert (done.stdout.strip(), done.stderr) == ("", "")


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
def test_a_command_ends_with_the_code_of_its_outcome(
    outcome: Any, code: int, monkeypatch: pytest.MonkeyPatch, started: list[dict[str, Any]]
) -> None:
    def run(**options: Any) -> int | None:
        assert (options["inputs"], options["output"], options["force"]) == (("a", "b"), "x", True)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(embed_program, "run", run)
    result = CliRunner().invoke(cli, ["embed", "a", "b", "-o", "x", "--force"])
    assert result.exit_code == code
    assert ("dotsctl: odd" in result.stderr) == (code in (2, 3, 7))


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which Python looks for packages; the commands that they add are looked for anew."""
    monkeypatch.syspath_prepend(str(tmp_path))
    added_commands.cache_clear()
    yield tmp_path
    added_commands.cache_clear()


def add_package(folder: Path, name: str, source: str, entry_points: str) -> None:
    (folder / f"{name}.py").write_text(source)
    (folder / f"{name}-1.0.dist-info").mkdir()
    (folder / f"{name}-1.0.dist-info" / "entry_points.txt").write_text(entry_points)


WORKS = "import click\n\n@click.command()\ndef command():\n    click.echo('works')\n"


@pytest.mark.parametrize(
    ("source", "code", "text"),
    [
        (WORKS, 0, "works"),
        ("import no_such_package\n", 3, "'odd' (odd_package:command) cannot be imported: No module named 'no_such"),
        ("", 3, "'odd' (odd_package:command) cannot be imported: module 'odd_package' has no attribute"),
        ("command = 3\n", 3, "odd_package:command is not a click command"),
    ],
)
def test_another_package_can_add_a_command(
    source: str, code: int, text: str, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "odd_package", raising=False)
    declared = "[console_scripts]\nx = y:z\n\n[dotsctl.commands]\nodd = odd_package:command\n\n[other]\nq = r:s\n"
    add_package(packages, "odd_package", source, declared)
    result = CliRunner().invoke(cli, ["odd"])
    assert result.exit_code == code and text in result.output
    shown = CliRunner().invoke(cli, ["--help"])
    assert shown.exit_code == 0 and "  odd" in shown.output and "  q " not in shown.output
    monkeypatch.delitem(sys.modules, "odd_package", raising=False)


def test_the_commands_that_are_found_are_those_that_python_finds() -> None:
    expected = {entry.name: entry.value for entry in entry_points(group=COMMANDS_GROUP)}
    assert {name: command.value for name, command in added_commands().items()} == expected
    assert expected


def test_a_command_that_is_terminated_cleans_up_first() -> None:
    program = (
        "import threading\n"
        "from dotsctl.tools.commands import ToolCommand\n"
        "def run():\n"
        "    try:\n"
        "        print('at work', flush=True)\n"
        "        threading.Event().wait(30)\n"
        "    finally:\n"
        "        print('clean', flush=True)\n"
        "ToolCommand('x', callback=run).main()\n"
    )
    command = [sys.executable, "-P", "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tool:
        assert tool.stdout is not None and tool.stdout.readline() == "at work\n"
        tool.terminate()
        assert tool.stdout.readline() == "clean\n"
        assert tool.wait(10) == 128 + signal.SIGTERM
