"""Reading ``.npz`` files that may be damaged."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from dotsctl.protocol.model.files import open_regular
from numpy.lib.npyio import NpzFile

DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, LookupError, TypeError, AttributeError, NotImplementedError),
    *(RuntimeError, MemoryError, OverflowError, SyntaxError),
)
"""Everything that zipfile and numpy raise for bytes that are no such file, besides ValueError."""


@contextmanager
def open_arrays(path: Path) -> Iterator[NpzFile]:
    """Open the arrays of a file; each is read when it is requested.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, or lacks an array that the block requests.
    """
    try:
        with open_regular(path) as stream:
            stored = np.load(stream, allow_pickle=False)
            if not isinstance(stored, NpzFile):
                raise ValueError("it holds a single array")
            with stored:
                yield stored
    except DAMAGE as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
