"""Commands that packages add through entry points, read from their ``entry_points.txt``.

``importlib.metadata`` reads the same files, but its import (email, zipfile, csv) takes a third of the time of
``dotsctl --help``.
"""

import sys
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

COMMANDS_GROUP = "dotsctl.commands"
"""Entry-point group of further commands; a package can add its own."""


@dataclass(frozen=True)
class AddedCommand:
    """An entry point, ``name = module:attribute``."""

    name: str
    value: str

    def load(self) -> object:
        """Import what it names. Raises ImportError."""
        module, _, attribute = self.value.partition(":")
        try:
            found: object = import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except AttributeError as error:
            raise ImportError(str(error)) from None
        return found


@cache
def added_commands() -> dict[str, AddedCommand]:
    """Return the commands of installed packages by name; of two with one name, that which Python would import first."""
    found: dict[str, AddedCommand] = {}
    for folder in sys.path:
        for file in sorted(Path(folder).glob("*.dist-info/entry_points.txt")):
            for command in commands_in(file):
                found.setdefault(command.name, command)
    return found


def commands_in(file: Path) -> list[AddedCommand]:
    """Return the commands that an ``entry_points.txt`` declares; one that cannot be read declares none."""
    try:
        text = file.read_text("utf-8")
    except (OSError, ValueError):
        return []
    _, is_there, section = text.partition(f"[{COMMANDS_GROUP}]\n")
    lines = section.partition("\n[")[0].splitlines() if is_there else []
    pairs = (line.split("#")[0].partition("=") for line in lines)
    return [AddedCommand(name.strip(), value.split("[")[0].strip()) for name, sign, value in pairs if sign]
