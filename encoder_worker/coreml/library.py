"""Importing coremltools: late, because it takes a second, and silently, because on Linux it complains eight times.

coremltools imports transformers wherever it is installed, for converters that nothing here uses. That takes 0.9 s of
CPU time and 16 MB more, so transformers is hidden while coremltools is imported.
"""

import contextlib
import importlib
import io
import sys
from collections.abc import Iterator
from typing import Any

from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.machine.libraries import COREMLTOOLS, INSTALL_COREML


@contextlib.contextmanager
def _without_transformers() -> Iterator[None]:
    """Make ``import transformers`` fail, unless it has been imported already."""
    if "transformers" in sys.modules:
        yield
        return
    sys.modules["transformers"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["transformers"]


def import_coremltools(module: str = COREMLTOOLS) -> Any:
    """A module of coremltools, or the package itself.

    What it writes to standard error meanwhile is dropped: under Linux it reports that the Core ML framework is not
    there, which is so.

    Raises:
        MissingError: it is not installed, or cannot be imported.
    """
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output), _without_transformers():
            return importlib.import_module(module)
    except ImportError as error:
        raise MissingError(f"coremltools cannot be imported ({error})", INSTALL_COREML) from None
