"""Checks of an encoder plugin's answer, the same for the warm-up page, for pages in the worker and for tools."""

from typing import Any

import numpy as np
from dotsctl.encoder_worker.plugin import EncodedPage, EncoderSpec
from dotsctl.protocol import tensor
from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.parts import TensorHeader
from numpy.typing import NDArray


def checked(pages: Any, num_images: int, spec: EncoderSpec) -> tuple[NDArray[Any], TensorHeader]:
    """Check what ``encode`` returned, and join the images of the request.

    Args:
        pages: what ``encode`` returned, of whatever type.
        num_images: images of the request.
        spec: what the plugin announced.

    Returns:
        The embeddings (num_embeddings, width) of all images one after the other, and their header.

    Raises:
        PageError: E_BAD_EMBED, with what is wrong.
    """
    if not isinstance(pages, list | tuple) or not all(isinstance(page, EncodedPage) for page in pages):
        raise _wrong(f"encode returned {_kind(pages)}, not a list of EncodedPage")
    if len(pages) != num_images:
        raise _wrong(f"encode returned {len(pages)} pages for {num_images} images")
    for page in pages:
        _check_page(page, spec)
    parts = [page.embeddings for page in pages]
    embeddings = parts[0] if len(parts) == 1 else np.concatenate(parts)  # (num_embeddings, width)
    return embeddings, tensor.describe(embeddings, spec.dtype)


def _check_page(page: EncodedPage, spec: EncoderSpec) -> None:
    """Check types, shapes and the number of rows; the values are checked for all pages together."""
    values, grid = page.embeddings, page.grid
    if not isinstance(values, np.ndarray):
        raise _wrong(f"embeddings are {_kind(values)}, not a numpy array")
    if not isinstance(page.geometry, PageGeometry):
        raise _wrong(f"geometry is {_kind(page.geometry)}, not a PageGeometry")
    if not (isinstance(grid, tuple) and len(grid) == 2 and all(type(side) is int and side > 0 for side in grid)):
        raise _wrong(f"grid {grid!r:.60} is not two positive whole numbers (rows, columns)")
    if any(side % spec.merge for side in grid):
        raise _wrong(f"grid {grid[0]}x{grid[1]} is not made of blocks of {spec.merge}x{spec.merge} patches")
    expected = (grid[0] * grid[1] // spec.merge**2, spec.width)
    if values.shape != expected:
        raise _wrong(f"embeddings have shape {values.shape}, not {expected} as grid {grid[0]}x{grid[1]} and width say")
    if values.dtype != tensor.NUMPY_DTYPES.get(spec.dtype):
        raise _wrong(f"embeddings are {values.dtype}, announced as {spec.dtype!r}")


def check_spec(spec: Any) -> None:
    """Check what ``load`` returned.

    Raises:
        PageError: E_BAD_EMBED, with what is wrong.
    """
    if not isinstance(spec, EncoderSpec):
        raise _wrong(f"load returned {_kind(spec)}, not an EncoderSpec")
    if not (type(spec.width) is int and spec.width > 0 and type(spec.merge) is int and spec.merge > 0):
        raise _wrong(f"EncoderSpec has width {spec.width!r} and merge {spec.merge!r}, not positive whole numbers")
    if spec.dtype not in tensor.NUMPY_DTYPES:
        raise _wrong(f"EncoderSpec has dtype {spec.dtype!r}, not one of {', '.join(tensor.NUMPY_DTYPES)}")
    if not (isinstance(spec.fingerprint, str) and spec.fingerprint):
        raise _wrong(f"EncoderSpec has fingerprint {spec.fingerprint!r}, not the text that identifies the model")


def _kind(value: object) -> str:
    """Name what a value is; that of a list names the type of its first element too."""
    if isinstance(value, list | tuple) and value:
        return f"a {type(value).__name__} of {type(value[0]).__name__}"
    return "None" if value is None else f"a {type(value).__name__}"


def _wrong(problem: str) -> PageError:
    return PageError(problem, code=ErrorCode.BAD_EMBED)
