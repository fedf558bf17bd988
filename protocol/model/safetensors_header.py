"""Reading the header of a .safetensors file: which tensors it holds, of what type and shape, and where.

The bytes of the tensors are never read. A header comes from a download and is believed in nothing: whatever is wrong
with it is a MissingError that names the file.

Source of the format: the README of huggingface/safetensors. 8 bytes with the length of the header (little endian),
the header as JSON, then the tensors without gaps.
"""

import json
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.model.files import open_regular

MOST_HEADER_BYTES = 100_000_000
"""The limit of the format's own library; the header of dots.ocr has 75 kB."""
LENGTH_BYTES = 8
"""Bytes of the length in front of the header."""
MOST_DIMENSIONS = 8
ITEM_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
}
"""Bytes of one number by the format's names of types."""
METADATA = "__metadata__"
LFS_POINTER = int.from_bytes(b"version ", "little")
"""The beginning of the small text that a clone without Git LFS has in place of a large file."""
_KEYS = {"dtype", "shape", "data_offsets"}


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file."""

    dtype: str
    """The type, as in ``ITEM_BYTES``."""
    shape: tuple[int, ...]
    start: int
    """First byte, counted from the beginning of the file."""
    end: int
    """One after its last byte."""

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor."""
        return self.end - self.start


def read_header(path: Path, size_bytes: int | None = None) -> dict[str, StoredTensor]:
    """Tensors of a file by name.

    Args:
        path: of the file, or of its beginning.
        size_bytes: of the complete file, where the path holds its beginning; none: the path holds all of it.

    Raises:
        MissingError: the file cannot be read, is cut off or too long, or its header breaks the format.
    """
    try:
        with open_regular(path) as stream:
            if size_bytes is None:
                size_bytes = stream.seek(0, 2)
                stream.seek(0)
            length = _length(path, stream.read(LENGTH_BYTES), size_bytes)
            text = stream.read(length)
    except OSError as error:
        raise MissingError(f"{path} cannot be read ({error})", "check its permissions, or download it again") from None
    entries = _parse(path, text)
    entries.pop(METADATA, None)
    base = LENGTH_BYTES + length
    tensors = {name: _entry(path, name, entry, base) for name, entry in entries.items()}
    _check_places(path, tensors, base, size_bytes)
    return tensors


def header_bytes(path: Path, size_bytes: int) -> int:
    """Return the bytes from the beginning of a file to its first tensor.

    Args:
        path: where at least the first 8 bytes are.
        size_bytes: of the complete file.

    Raises:
        MissingError: the file cannot be read, or states a length that it cannot have.
    """
    try:
        with open_regular(path) as stream:
            return LENGTH_BYTES + _length(path, stream.read(LENGTH_BYTES), size_bytes)
    except OSError as error:
        raise MissingError(f"{path} cannot be read ({error})", "check its permissions, or download it again") from None


def _length(path: Path, beginning: bytes, size_bytes: int) -> int:
    """The length of the header. Raises MissingError."""
    length = int.from_bytes(beginning, "little")
    if length == LFS_POINTER:
        raise MissingError(f"{path} is a pointer of Git LFS, not the file itself", "run git lfs pull in its folder")
    if size_bytes < LENGTH_BYTES or length > min(size_bytes - LENGTH_BYTES, MOST_HEADER_BYTES):
        raise _broken(path, f"it has {size_bytes:,} bytes and claims a header of {length:,}")
    return length


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    """The header as an object whose names are unique."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name stands in it twice")
        return found

    try:
        content = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"its header is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise _broken(path, f"its header holds a {type(content).__name__}, not an object")
    return content


def _entry(path: Path, name: str, entry: Any, base: int) -> StoredTensor:
    """One entry, checked by itself."""
    if not isinstance(entry, dict) or entry.keys() != _KEYS:
        raise _broken(path, f"{shown(name)} must have dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise _broken(path, f"{shown(name)} has the unknown type {shown(str(dtype))}")
    if not _naturals(shape) or len(shape) > MOST_DIMENSIONS:
        raise _broken(path, f"{shown(name)} has no valid shape")
    if not _naturals(offsets) or len(offsets) != 2:
        raise _broken(path, f"{shown(name)} has no valid data_offsets")
    start, end = offsets
    if end - start != prod(shape) * ITEM_BYTES[dtype]:
        raise _broken(
            path, f"{shown(name)} has {end - start:,} bytes, its shape {tuple(shape)} in {dtype} needs others"
        )
    return StoredTensor(dtype, tuple(shape), base + start, base + end)


def _check_places(path: Path, tensors: dict[str, StoredTensor], base: int, size_bytes: int) -> None:
    """The tensors must fill the file from the header to its end, without gap or overlap."""
    placed = sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end))
    end = max((tensor.end for tensor in tensors.values()), default=base)
    if end > size_bytes:
        name = next(name for name, tensor in placed if tensor.end > size_bytes)
        raise _broken(
            path,
            f"it is cut off: it has {size_bytes:,} bytes, its header describes {end:,}; {shown(name)} is truncated",
        )
    if end < size_bytes:
        raise _broken(path, f"it has {size_bytes:,} bytes, its header describes {end:,}")
    if placed and placed[0][1].start != base:
        raise _broken(path, f"there is a gap before {shown(placed[0][0])}")
    for (_, before), (name, after) in pairwise(placed):
        if before.end != after.start:
            what = "a gap before" if before.end < after.start else "an overlap at"
            raise _broken(path, f"there is {what} {shown(name)}")


def shown(name: str) -> str:
    """A name from a file for a message: printable and of bounded length."""
    plain = name if name.isprintable() else ascii(name)
    return plain if len(plain) <= 100 else f"{plain[:97]}..."


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number < 1 << 63 for number in value)


def _broken(path: Path, what: str) -> MissingError:
    return MissingError(f"{path} is not a complete .safetensors file: {what}", "download it again")
