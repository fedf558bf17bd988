"""What the two ``fake`` plugins share: width, fingerprint, options, gate. They prove the runtime without a model."""

import hashlib
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.model_directory import fingerprint

WIDTH = 1024
"""Columns of the embeddings: a digest of 32 bytes as 32 numbers, again and again."""
FAULTS = ("die", "hang", "raise")
"""What both can do to a page."""
LOAD_FAULTS = ("die", "hang", "refuse")

Options = TypeVar("Options")


def fake_fingerprint(model: Path) -> str:
    """Like a real plugin's, that of the model directory; without one both fakes agree on a constant."""
    known = (model / "config.json").is_file()
    return fingerprint(model) if known else hashlib.sha256(b"fake").hexdigest()


def read_options(cls: type[Options], options: dict[str, str], plugin: str) -> Options:
    """Fill a dataclass, whose fields all have defaults, from texts.

    Args:
        cls: the dataclass; a field's type is that of its default.
        options: texts by field name.
        plugin: name for error texts.

    Raises:
        UsageError: an unknown name, a text that is no number, a fault that is not known.
    """
    defaults = vars(cls())
    values: dict[str, object] = {}
    for key, text in options.items():
        if key not in defaults:
            raise UsageError(f"{plugin} has no option {key!r}; it has: {', '.join(defaults)}")
        try:
            values[key] = type(defaults[key])(text)
        except ValueError:
            raise UsageError(f"{plugin}: {key}={text!r} is not a number") from None
    for field in fields(cls):  # type: ignore[arg-type]
        known = field.metadata.get("one_of")
        if known and values.get(field.name, "") not in ("", *known):
            raise UsageError(f"{plugin}: {field.name} is one of {', '.join(known)}, not {values[field.name]!r}")
    return cls(**values)


def wait_at_gate(gate: Path) -> None:
    """Meet the writer of a FIFO and go on when it closes its end; without the FIFO go on at once."""
    try:
        with gate.open("rb") as reader:
            reader.read()
    except FileNotFoundError:
        return
