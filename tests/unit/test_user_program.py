"""Type checkers understand a user's program with every public name, and find its mistakes."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import dotsctl
import pytest
from dotsctl import testing

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "files" / "user_program.py"
MISTAKES = """
from dotsctl import Client, Page
with Client() as client:
    pages: list[Page] = client.read("a.png")
    client.ocr("a.png", dpi="high")
    client.ocr("a.png", colour=True)
    client.ocr(4)
    client.ask("Why?", "a.png", task="text")
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def mypy(program: Path, cache: Path) -> "subprocess.CompletedProcess[str]":
    """Check a program as one that uses the installed package, whose own errors are not shown."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "mypy",
        "--strict",
        "--follow-imports=silent",
        "--config-file=",
        str(program),
    ]
    environment = {**os.environ, "MYPYPATH": str(ROOT / "tools" / "import_root"), "MYPY_CACHE_DIR": str(cache)}
    return subprocess.run(command, cwd=cache, env=environment, capture_output=True, text=True, timeout=150, check=False)


def test_a_program_with_every_public_name_has_no_type_errors(cache: Path) -> None:
    done = mypy(PROGRAM, cache)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    tree = ast.parse(PROGRAM.read_text("utf-8"))
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {
        node.cls.id for node in ast.walk(tree) if isinstance(node, ast.MatchClass) and isinstance(node.cls, ast.Name)
    }
    assert {*dotsctl.__all__, *testing.__all__} - {"__version__"} <= used


def test_the_mistakes_of_a_program_are_found(cache: Path) -> None:
    program = cache / "mistakes.py"
    program.write_text(MISTAKES)
    found = [line for line in mypy(program, cache).stdout.splitlines() if ": error: " in line]
    assert [line.split(":")[1] for line in found] == ["4", "5", "6", "7", "8"], found
