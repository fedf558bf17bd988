"""Files that measuring programs leave: numbers as JSON, and plots. matplotlib is imported when a plot is made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dotsctl.protocol.errors import MissingError, OutputError
from dotsctl.protocol.model.files import json_bytes, replacing, write_file

DPI = 120


def new_figure(width_in: float, height_in: float) -> Any:
    """Return an empty matplotlib figure, in inches. Raises MissingError when matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingError(f"plots need matplotlib ({error})", "pip install matplotlib, or leave -o away") from None
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
        for name, content in files.items():
            write_result(folder / name, content)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror})", "choose another folder with -o") from None


def write_result(path: Path, content: Any, dpi: int = DPI) -> None:
    """Write a figure in the format of its ending, a text, or JSON; a missing folder is made. Raises OSError."""
    if isinstance(content, str):
        write_file(path, content.encode())
    elif not hasattr(content, "savefig"):
        write_file(path, json_bytes(content, indent=2))
    else:
        with replacing(path) as partial:
            content.savefig(partial, dpi=dpi, format=path.suffix[1:])
