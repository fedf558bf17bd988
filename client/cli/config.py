"""``dotsctl config``: the settings that hold, where each comes from, and the folders in use."""

import json
import os
from collections.abc import Iterator
from typing import Any

import click
from dotsctl.client.cli.options import verbose_option
from dotsctl.client.cli.printing import print_text

SECRET = ("password",)
HIDDEN = "***"
"""The value that is shown of a secret option."""


@click.group()
def config() -> None:
    """Show settings and folders."""


@config.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@verbose_option
def show(as_json: bool) -> None:
    """Print each setting with its origin, and the folders in use.

    The origin is an environment variable, a configuration file, or 'default'. The options of 'dotsctl ocr' appear
    where a configuration file sets them.
    """
    found: dict[str, dict[str, Any]] = {"settings": settings(), "ocr": ocr_options(), "folders": folders()}
    print_text((json.dumps(found, indent=2) if as_json else "\n".join(lines(found))) + "\n")


def settings() -> dict[str, dict[str, Any]]:
    """Return ``value`` and ``from`` of each setting; the value is none where there is none. Raises UsageError."""
    from dotsctl.client.settings.choices import choose
    from dotsctl.client.settings.files import TIMEOUTS

    chosen = choose()
    values = {
        "model": chosen.model,
        "encoder": chosen.encoder,
        "decoder": chosen.decoder,
        "name": chosen.name,
        "memory": chosen.memory_bytes,
        **{key: getattr(chosen, f"{key}_s") for key in TIMEOUTS},
        "readiness_page": chosen.readiness_page,
    }
    return {key: {"value": value, "from": chosen.origins.get(key, "default")} for key, value in values.items()}


def ocr_options() -> dict[str, dict[str, Any]]:
    """Return ``value`` and ``from`` of each option of ``ocr`` that a file sets. Raises UsageError."""
    from dotsctl.client.cli.configured import configured_options
    from dotsctl.client.cli.reading import ocr

    return {
        each.key: {"value": HIDDEN if each.key in SECRET else each.value, "from": str(each.path)}
        for each in configured_options(ocr)
    }


def folders() -> dict[str, str]:
    """Return the paths in use; they need not exist."""
    import platformdirs
    from dotsctl.client.settings.files import user_file
    from dotsctl.protocol.endpoints import run_directory
    from dotsctl.protocol.model.directory import models_directory

    return {
        "models": str(models_directory()),
        "configuration": str(user_file().parent),
        "cache": str(platformdirs.user_cache_path("dotsctl")),
        "runtimes": str(run_directory()),
        "logs": str(platformdirs.user_log_path("dotsctl")),
    }


def lines(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Return the report as text."""
    rows = [(key, _shown(each["value"]), each["from"]) for key, each in found["settings"].items()]
    rows += [(f"[ocr] {key}", _shown(each["value"]), each["from"]) for key, each in found["ocr"].items()]
    table = [("setting", "value", "from"), *rows]
    widths = [max(len(row[column]) for row in table) for column in (0, 1)]
    yield from (f"{name:{widths[0]}}  {value:{widths[1]}}  {origin}" for name, value, origin in table)
    yield ""
    longest = max(map(len, found["folders"]))
    yield f"{'folder':{longest}}  path"
    for name, path in found["folders"].items():
        is_there = os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        yield f"{name:{longest}}  {path}{'' if is_there else '  (does not exist)'}"


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
