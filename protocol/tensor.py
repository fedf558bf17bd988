"""Embeddings as arrays: header and frames of a 2-D array, and the array from received frames.

bfloat16 has no numpy type; such embeddings are held as ``uint16`` together with the dtype name ``bf16``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.parts import TensorHeader
from numpy.typing import NDArray

NUMPY_DTYPES: dict[str, np.dtype[Any]] = {"<f2": np.dtype("<f2"), "<f4": np.dtype("<f4"), "bf16": np.dtype("<u2")}
"""The numpy type that holds each wire dtype."""


def describe(values: NDArray[Any], dtype: str) -> TensorHeader:
    """Header of an array (num_embeddings, width) that is about to be sent.

    Raises:
        PageError: E_BAD_EMBED, the array is not contiguous, has the wrong type or has values that are not finite.
    """
    if dtype not in NUMPY_DTYPES or values.dtype != NUMPY_DTYPES[dtype]:
        raise PageError(f"embeddings are {values.dtype}, announced as {dtype!r}", code=ErrorCode.BAD_EMBED)
    if values.ndim != 2 or not values.flags.c_contiguous:
        raise PageError(f"embeddings of shape {values.shape} are not a contiguous matrix", code=ErrorCode.BAD_EMBED)
    check_finite(values)
    try:
        return TensorHeader(dtype, (values.shape[0], values.shape[1]), values.nbytes)
    except ValueError as error:
        raise PageError(f"embeddings: {error}", code=ErrorCode.BAD_EMBED) from None


def assemble(header: TensorHeader, frames: Sequence[memoryview]) -> NDArray[Any]:
    """Return one array (num_embeddings, width) copied from its frames, which may be freed afterwards.

    The codec has checked that the frames are as many bytes as the header says.
    """
    values = np.empty(header.shape, NUMPY_DTYPES[header.dtype])
    target, start = values.data.cast("B"), 0
    for frame in frames:
        target[start : start + frame.nbytes] = frame
        start += frame.nbytes
    return values


def check_finite(values: NDArray[Any]) -> None:
    """Raise PageError E_BAD_EMBED when any value is infinite or not a number; ``uint16`` is read as bfloat16."""
    if values.dtype == np.float32 and np.isfinite(np.add.reduce(values, axis=None)):
        return  # much faster than looking at every value, and the sum of a sound page never overflows
    bad = (values & 0x7F80) == 0x7F80 if values.dtype == np.uint16 else ~np.isfinite(values)
    if bad.any():
        raise PageError(f"{int(bad.sum())} of {values.size} embedding values are not finite", code=ErrorCode.BAD_EMBED)
