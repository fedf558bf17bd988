"""Plugins in this process, loaded with options as users write them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.plugins import described


def load_plugin(
    plugin: Any, model: Path, options: Mapping[str, str] | None = None, report: Callable[[str], None] = lambda _: None
) -> Any:
    """Load a plugin of ours, and return what its ``load`` does."""
    role = Role.ENCODER if hasattr(plugin, "encode") else Role.DECODER
    name = type(plugin).__module__.rsplit(".", 1)[1]
    return plugin.load(model, described(role, name, type(plugin)).options(options or {}), report)
