"""The words that a shell completes, asked as the shells ask."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from dotsctl.client.cli.completion import SHELLS, VARIABLE, Word
from dotsctl.client.cli.main import cli

METAVARS = ("INPUT...", "FILE", "DIR", "DIR|FILE|-", "NAME|PATH", "MODEL", "[NAME]", "NAME[:KEY=VALUE,...]", "TASK")
"""The metavars of arguments that stand for a file, a model, a plugin or a task."""


@pytest.fixture(autouse=True)
def home(models: Path) -> Path:
    (models / "dots.ocr").mkdir(parents=True)
    (models / "dots.ocr" / "config.json").write_text("{}")
    return models


def completed(*words: str) -> list[tuple[str, str]]:
    """Type and value of what is offered for the last word."""
    found = ShellComplete(cli, {}, "dotsctl", VARIABLE).get_completions(list(words[:-1]), words[-1])
    return [(each.type, each.value) for each in found]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("oc", [("plain", "ocr")]),
        ("ocr te", [("file", "te")]),
        ("ocr -o te", [("file", "te")]),
        ("ocr a.png --model d", [("plain", "dots.ocr"), ("plain", "demo")]),
        ("ocr a.png --model ./", [("dir", "./")]),
        ("show demo", [("plain", "demo")]),
        ("rm dots", [("plain", "dots.ocr")]),
        ("up --encoder m", [("plain", "mlx")]),
        ("up --encoder au", [("plain", "auto")]),
        ("up --decoder ml", [("plain", "mlx")]),
        ("ocr a.png --task te", [("plain", "text")]),
        ("embed te", [("file", "te")]),
        ("compare a.png -o te", [("file", "te")]),
        ("convert dem", [("plain", "demo")]),
        ("bench ener", [("plain", "energy")]),
        ("bench energy --encoder co", [("plain", "coreml")]),
        ("plugins check ml", [("plain", "mlx")]),
        ("completion z", [("plain", "zsh")]),
    ],
)
def test_words_are_completed(words: str, expected: list[tuple[str, str]]) -> None:
    assert completed(*words.split()) == expected


def test_runtimes_are_completed_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOTSCTL_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "nightly").mkdir(mode=0o700)
    assert completed("down", "--name", "nig") == [("plain", "nightly")]


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


def test_every_argument_that_stands_for_a_file_a_model_or_a_plugin_is_completed() -> None:
    found = [(path, param) for path, command in commands(cli) for param in command.params if param.metavar in METAVARS]
    assert len(found) > 30
    plain = [f"{path} {param.name}" for path, param in found if not isinstance(param.type, Word | click.Path)]
    assert plain == []


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_for_each_shell_is_printed(shell: str) -> None:
    outcome = CliRunner().invoke(cli, ["completion", shell])
    assert outcome.exit_code == 0
    assert VARIABLE in outcome.stdout and "dotsctl" in outcome.stdout


def test_bash_completes_with_the_script(tmp_path: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    program = tmp_path / "dotsctl"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m dotsctl "$@"\n')
    program.chmod(0o755)
    script = """eval "$(dotsctl completion bash)"
COMP_WORDS=(dotsctl show de) COMP_CWORD=2
_dotsctl_completion dotsctl 2>/dev/null
echo "${COMPREPLY[@]}"
"""
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["demo"], done.stderr
