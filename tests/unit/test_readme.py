"""The README's commands are those that exist, and CI runs the one for the tests."""

import re
import shlex
from pathlib import Path

import click
import pytest
from dotsctl.client.cli import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
INSTALLS = [line for line in README.splitlines() if line.startswith("python3.11 -m venv")]


def test_exactly_two_commands_install_something() -> None:
    assert len(INSTALLS) == 2
    assert INSTALLS[0].endswith("&& .venv/bin/dotsctl ocr --model demo tests/pages/*.png")
    assert INSTALLS[1].endswith("&& .venv/bin/pytest")


def test_ci_runs_the_test_command_of_the_readme() -> None:
    ours = INSTALLS[1].replace("python3.11 -m venv", "python3 -m venv --clear")
    assert ours in (ROOT / ".ci" / "run").read_text("utf-8")


def dotsctl_lines() -> list[str]:
    """Commands of the README, without comments; the lines of the opening are one command."""
    opening = re.search(r"```\n(dotsctl ocr scans.*?)```", README, re.DOTALL)
    assert opening
    lines = [" ".join(line.split("#")[0].strip() for line in opening[1].splitlines())]
    return lines + [
        line.split("#")[0].strip() for line in README.splitlines() if re.match(r"dotsctl (up|ocr|st|l|d)", line)
    ]


@pytest.mark.parametrize("line", dotsctl_lines())
def test_every_command_of_the_readme_is_understood(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    command = cli.commands[name]
    with command.make_context(name, arguments, resilient_parsing=False) as context:
        assert isinstance(context, click.Context)


def test_the_tree_of_the_readme_shows_the_folders_that_exist() -> None:
    tree = re.search(r"```\n(protocol/ .*?)```", README, re.DOTALL)
    assert tree
    shown: set[str] = set()
    place: list[str] = []
    for line in tree[1].splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        place[depth:] = [line.strip().split("/")[0]]
        shown.add("/".join(place))
    missing = [folder for folder in shown if not (ROOT / folder).is_dir()]
    assert not missing
    packages = {str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/**/__init__.py")}
    ours = {p for p in packages if not p.startswith(("tests/", "tools/import_root", ".venv", "build"))}
    assert ours - shown == set()


def test_the_readme_s_python_runs_against_the_library() -> None:
    """Its names exist; the process tests run the calls."""
    from dotsctl import Client

    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code
    compile(code[1], "README.md", "exec")
    assert {"ocr", "stream"} <= {name for name in re.findall(r"client\.(\w+)\(", code[1]) if hasattr(Client, name)}
