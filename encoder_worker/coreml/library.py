"""Importing coremltools: late, because it takes a second, and silently, because on Linux it complains eight times."""

import contextlib
import importlib
import io
from typing import Any

from dotsctl.protocol.errors import MissingError

REMEDY = "pip install 'dotsctl[coreml]' (there is no wheel for Linux on arm64)"


def import_coremltools(module: str = "coremltools") -> Any:
    """A module of coremltools, or the package itself.

    What it writes to standard error meanwhile is dropped: under Linux it reports that the Core ML framework is not
    there, which is so.

    Raises:
        MissingError: it is not installed, or cannot be imported.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return importlib.import_module(module)
    except ImportError as error:
        raise MissingError(f"coremltools cannot be imported ({error}): {REMEDY}") from None
