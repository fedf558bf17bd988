"""The configuration files: ``dotsctl.toml`` in the current folder, then ``config.toml`` in the user's folder.

The settings of a runtime stand at the top, the options of ``dotsctl ocr`` in the table ``[ocr]``::

    model = "demo"
    encoder = "mlx"
    stall_timeout = 600        # seconds
    memory = "8G"              # for all workers together

    [ocr]
    dpi = 300
    no-header-footer = true
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.model.files import read_file

LOCAL_FILE = "dotsctl.toml"
OCR = "ocr"
"""Table with the options of the command of that name."""
TIMEOUTS = ("stall_timeout", "page_timeout", "stopped_timeout", "render_timeout")
SWITCHES = ("readiness_page",)
FILE_KEYS = ("model", "encoder", "decoder", *TIMEOUTS, "memory", *SWITCHES)


@dataclass(frozen=True)
class SettingsFile:
    """The content of one file; empty where there is no such file."""

    path: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    """Those of ``FILE_KEYS`` that it has, as text."""
    ocr: Mapping[str, Any] = field(default_factory=dict)
    """The table ``[ocr]``, not checked: the command knows its options."""


def user_file() -> Path:
    """The user's configuration file; it need not exist."""
    import platformdirs  # not needed by --help

    return Path(platformdirs.user_config_path("dotsctl")) / "config.toml"


def settings_paths() -> tuple[Path, ...]:
    """The paths of the configuration files, the strongest first."""
    return (Path(LOCAL_FILE), user_file())


def read_settings(path: Path) -> SettingsFile:
    """Read one file.

    Raises:
        UsageError: it cannot be read, is not valid TOML, or has an unknown key or a wrong value.
    """
    try:
        content = tomllib.loads(read_file(path).decode("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return SettingsFile(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "correct its permissions or remove it") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, bytes that are no UTF-8, or deep nesting
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    table = content.pop(OCR, {})
    if not isinstance(table, dict):
        raise UsageError(f"{path}: {OCR} is not a table", f"write [{OCR}], and its options below")
    if unknown := sorted(content.keys() - set(FILE_KEYS)):
        raise UsageError(f"{path} has the unknown key {unknown[0]!r}; it may have {', '.join(FILE_KEYS)} and [{OCR}]")
    return SettingsFile(path, {key: _text(path, key, value) for key, value in content.items()}, table)


def _text(path: Path, key: str, value: Any) -> str:
    if key in TIMEOUTS and type(value) in (int, float):
        return str(value)
    if key in SWITCHES and isinstance(value, bool):
        return str(value).lower()
    if not (isinstance(value, str) and value):
        form = "true" if key in SWITCHES else '"..."'
        raise UsageError(
            f"{path}: {key} = {value!r} is not {'true or false' if key in SWITCHES else 'text'}",
            f"write {key} = {form}",
        )
    return value
