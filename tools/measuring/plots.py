"""Files that measuring programs leave: numbers as JSON, and plots. matplotlib is imported when a plot is made."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dotsctl.protocol.errors import MissingError, OutputError

DPI = 120


def new_figure(width_in: float, height_in: float) -> Any:
    """An empty matplotlib figure, in inches. Raises MissingError when matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingError(f"plots need matplotlib ({error}): pip install matplotlib, or leave -o away") from None
    return Figure(figsize=(width_in, height_in), layout="constrained")


def write_results(folder: Path, files: Mapping[str, Any]) -> None:
    """Write figures as they are named, and everything else as JSON.

    Args:
        folder: made where it is missing.
        files: content by name.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if hasattr(content, "savefig"):
                content.savefig(folder / name, dpi=DPI)
            else:
                (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}): choose another folder with -o") from None
