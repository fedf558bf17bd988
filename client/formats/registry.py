"""All formats, by the name that ``-f`` takes. Each is imported when it is used."""

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dotsctl.client.formats.format import Format

FORMATS = ("md", "txt", "json", "jsonl", "html", "overlay", "hocr", "alto", "pdf")
"""A format is the object ``FORMAT`` of the module of its name in this folder."""


@cache
def format_named(name: str) -> "Format":
    """The format of this name."""
    found: Format = import_module(f"dotsctl.client.formats.{name}").FORMAT
    return found


def format_of(path: Path) -> str | None:
    """Name of the format whose files end as this one; none: there is none."""
    endings = {f".{ending}": name for name in FORMATS for ending in (name, format_named(name).ending)}
    fitting = [ending for ending in endings if path.name.lower().endswith(ending)]
    return endings[max(fitting, key=len)] if fitting else None
