"""``dotsctl plugins new``: a folder with a plugin that runs, its test, and what pip needs to install it."""

import re
from pathlib import Path

import click
from dotsctl.protocol.errors import CommandFailedError, ExitCode, OutputError, UsageError
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.plugins import installed

TEMPLATES = Path(__file__).parent / "template"
PROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "dotsctl-{name}"
version = "0.1.0"
description = "{role} plugin {name} for dotsctl"
requires-python = ">=3.11"
dependencies = ["dotsctl", "numpy"]

[project.entry-points."dotsctl.{role}s"]
{name} = "{module}:{cls}"

[tool.setuptools]
packages = ["{module}"]
"""
TEST = """\
\"\"\"The plugin keeps the contract of a dotsctl {role}.\"\"\"

import subprocess


def test_the_plugin_keeps_the_contract() -> None:
    command = ["dotsctl", "plugins", "check", "{name}", "--role", "{role}"]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert checked.returncode == 0, checked.stdout + checked.stderr
"""


def run(name: str, role_name: str, folder_text: str | None) -> ExitCode:
    """Write a new plugin and print what to do next.

    Args:
        name: the name behind ``--encoder`` or ``--decoder``.
        role_name: ``encoder`` or ``decoder``.
        folder_text: the new folder; none: ``dotsctl-NAME`` in the current one.

    Raises:
        UsageError: the name cannot be that of a plugin.
        CommandFailedError: a plugin of the name is installed, or the folder exists.
        OutputError: the folder cannot be written.
    """
    name = require_name(name)
    folder = Path(folder_text or f"dotsctl-{name}")
    module = f"dotsctl_{name.replace('-', '_')}"
    cls = "".join(part.capitalize() for part in name.split("-"))
    source = (TEMPLATES / f"{role_name}.py").read_text("utf-8")
    source = re.sub(r"\bTemplate(?=[A-Z])", cls, source)
    source = re.sub(r"(?<=check )template|(?<=coder )template(?=:)", name, source)
    words = {"name": name, "role": role_name, "module": module, "cls": cls + role_name.capitalize()}
    files = {
        "pyproject.toml": PROJECT.format(**words),
        f"{module}/__init__.py": source,
        f"tests/test_{module}.py": TEST.format(**words),
    }
    try:
        folder.mkdir(parents=True)
        for path, text in files.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text, "utf-8")
    except FileExistsError:
        raise CommandFailedError(f"{folder} exists", "choose another folder with -o, or remove it") from None
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror})") from None
    reading = f"--{role_name} {name}" + (" --task text" if role_name == Role.DECODER else "")
    click.echo(f"{folder} is written. Next:", err=True)
    click.echo(
        f"  pip install -e {folder}\n  dotsctl plugins check {name}\n  dotsctl ocr scan.png --model demo {reading}"
    )
    return ExitCode.OK


def require_name(name: str) -> str:
    """Return the name of a new plugin if it can be one. Raises UsageError."""
    if not (name.isascii() and name[:1].isalpha() and name == name.lower() and name.replace("-", "").isalnum()):
        raise UsageError(
            f"{name!r} cannot be the name of a plugin", "use lower-case letters, digits and hyphens, a letter first"
        )
    if any(name in installed(role) for role in Role):
        raise CommandFailedError(f"a plugin {name!r} is installed", "choose another name, or uninstall it")
    return name
