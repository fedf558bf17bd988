"""Conversion of plain values, as msgpack and JSON have them, to dataclasses; the type of every field is checked.

Used for everything that comes from a socket or a file: whatever it is, the outcome is a value of the declared type or a
WrongValueError whose text names the field. The types are those of the dataclasses themselves.
"""

import dataclasses
import json
import sys
import types
import typing
from collections.abc import Callable
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

MAX_INTEGER = 2**63 - 1
MAX_FLOAT = sys.float_info.max
T = TypeVar("T")
Reader = Callable[[Any, str, bool], Any]
"""Turns a plain value into the declared type; it gets the value, the path for error texts, and whether unknown keys
are allowed because the writer is newer."""


class WrongValueError(ValueError):
    """A value is not of the declared type."""


def plain_json(text: bytes) -> Any:
    """Return the content of a JSON text. Raises WrongValueError for every other text."""
    try:
        content = json.loads(text)
        json.dumps(content, ensure_ascii=False).encode()  # halves of characters can be written to no file
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError, and integers of thousands of digits, included
        raise WrongValueError(f"not JSON ({str(error)[:200]})") from None
    return content


def from_plain(kind: type[T], content: Any, *, ignore_unknown: bool = False) -> T:
    """Return the value of a dataclass, or of another declared type, that plain values describe.

    Keys may be absent whose fields have a default, as in files of an earlier version.

    Args:
        kind: the declared type.
        content: plain values.
        ignore_unknown: leave out keys that are not fields; else they are refused.

    Raises:
        WrongValueError: they describe something else.
    """
    if isinstance(content, dict) and dataclasses.is_dataclass(kind):
        fields = dataclasses.fields(typing.cast(Any, kind))
        content = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING} | content
    value: T = reader(typing.cast(Any, kind))(content, kind.__name__, ignore_unknown)
    return value


def from_json(kind: type[T], text: bytes, *, ignore_unknown: bool = False) -> T:
    """The value of a dataclass that a JSON text describes; see :func:`from_plain`. Raises WrongValueError."""
    return from_plain(kind, plain_json(text), ignore_unknown=ignore_unknown)


def _wrong(path: str, expected: str, value: object) -> WrongValueError:
    return WrongValueError(f"{path}: expected {expected}, got {excerpt(value)}")


def brief(value: object) -> str:
    """A value for an error's text: a scalar as it is, up to 100 characters, and the type of anything else."""
    is_scalar = value is None or isinstance(value, str | int | float)
    return repr(value)[:100] if is_scalar else type(value).__name__


def excerpt(value: object) -> str:
    """A value in an error's text; only the type of a container, which may be too deeply nested for ``str``."""
    name = type(value).__name__
    return name if isinstance(value, list | dict) else f"{name} {str(value)[:40]!r}"


@cache
def reader(declared: Any) -> Reader:
    """Reader for a type as it stands in a dataclass."""
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if dataclasses.is_dataclass(declared):
        return _dataclass_reader(typing.cast(type, declared))
    if isinstance(declared, type) and issubclass(declared, StrEnum):
        return _enum_reader(declared)
    if origin in (typing.Union, types.UnionType):
        return _union_reader(arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _sequence_reader(reader(arguments[0]))
    if origin is tuple:
        return _fixed_reader([reader(argument) for argument in arguments])
    if origin is dict:
        return _map_reader(reader(arguments[1]))
    return _SCALARS[declared]


def _dataclass_reader(cls: type) -> Reader:
    hints = typing.get_type_hints(cls)
    readers = {field.name: reader(hints[field.name]) for field in dataclasses.fields(cls)}

    def read(value: Any, path: str, newer: bool) -> Any:
        if not isinstance(value, dict):
            raise _wrong(path, "a map", value)
        if missing := readers.keys() - value.keys():
            raise WrongValueError(f"{path}: missing key {min(missing)!r}")
        if not newer and (extra := value.keys() - readers.keys()):
            raise WrongValueError(f"{path}: unknown key {min(map(str, extra))[:40]!r}")
        fields = {name: reader(value[name], f"{path}.{name}", newer) for name, reader in readers.items()}
        try:
            return cls(**fields)
        except ValueError as error:
            raise WrongValueError(f"{path}: {error}") from None

    return read


def _enum_reader(cls: type[StrEnum]) -> Reader:
    values = {member.value: member for member in cls}

    def read(value: Any, path: str, newer: bool) -> StrEnum:
        if not isinstance(value, str) or value not in values:
            raise _wrong(path, f"one of {', '.join(values)}", value)
        return values[value]

    return read


def _union_reader(choices: tuple[Any, ...]) -> Reader:
    readers = [reader(choice) for choice in choices if choice is not type(None)]
    optional = type(None) in choices

    def read(value: Any, path: str, newer: bool) -> Any:
        if value is None and optional:
            return None
        for reader in readers[:-1]:
            try:
                return reader(value, path, newer)
            except WrongValueError:
                continue
        return readers[-1](value, path, newer)

    return read


def _sequence_reader(item: Reader) -> Reader:
    def read(value: Any, path: str, newer: bool) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _wrong(path, "an array", value)
        return tuple(item(entry, f"{path}[{i}]", newer) for i, entry in enumerate(value))

    return read


def _fixed_reader(items: list[Reader]) -> Reader:
    def read(value: Any, path: str, newer: bool) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) != len(items):
            raise _wrong(path, f"an array of {len(items)}", value)
        return tuple(
            item(entry, f"{path}[{i}]", newer) for i, (item, entry) in enumerate(zip(items, value, strict=True))
        )

    return read


def _map_reader(item: Reader) -> Reader:
    def read(value: Any, path: str, newer: bool) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong(path, "a map", value)
        return {
            _read_str(key, path, newer): item(entry, f"{path}.{str(key)[:40]}", newer) for key, entry in value.items()
        }

    return read


def _read_int(value: Any, path: str, newer: bool) -> int:
    if type(value) is not int or not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise _wrong(path, "an integer of 64 bits", value)
    return value


def _read_float(value: Any, path: str, newer: bool) -> float:
    if type(value) not in (int, float) or not abs(value) <= MAX_FLOAT:  # NaN is not below any limit
        raise _wrong(path, "a finite number", value)
    return float(value)


def _read_str(value: Any, path: str, newer: bool) -> str:
    if not isinstance(value, str):
        raise _wrong(path, "a string", value)
    return value


def _read_bool(value: Any, path: str, newer: bool) -> bool:
    if not isinstance(value, bool):
        raise _wrong(path, "true or false", value)
    return value


def _read_any(value: Any, path: str, newer: bool) -> Any:
    return value


_SCALARS: dict[Any, Reader] = {int: _read_int, float: _read_float, str: _read_str, bool: _read_bool, Any: _read_any}
