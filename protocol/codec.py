"""Message to frames and back; the only file that uses msgpack.

Frames: a preamble of 6 bytes (``DOTS``, major, minor), a msgpack header map with the message's type under ``t``, then
the message's buffers as they are. Everything that arrives is checked before anything is allocated for it: the
number and size of frames, the version, the header's size and nesting, every key and the type of every value. A
violation is a ProtocolError whose text names the field.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple

import msgpack
from dotsctl.protocol import PROTOCOL_VERSION
from dotsctl.protocol.errors import ErrorCode, ProtocolError
from dotsctl.protocol.messages import MESSAGE_TYPES, Message
from dotsctl.protocol.parts import FRAME_BYTES, MAX_IMAGES

Buffer = bytes | bytearray | memoryview

MAGIC = b"DOTS"
PREAMBLE_BYTES = 6
MAX_HEADER_BYTES = 4 * 1024 * 1024
MAX_FRAMES = 2 + 32 + MAX_IMAGES
"""Preamble, header, 256 MiB in frames of 8 MiB, and the last frame of each image, which is not full."""
MAX_INTEGER = 2**63 - 1

_NUMBERS = {cls: number for number, cls in MESSAGE_TYPES.items()}
_PREAMBLE = MAGIC + bytes(PROTOCOL_VERSION)


class Decoded(NamedTuple):
    """A received message with its buffers; the buffers are views that keep the whole received frames alive."""

    message: Message
    buffers: list[memoryview]


def encode(message: Message, buffers: Sequence[Buffer] = ()) -> list[Buffer]:
    """Frames of a message; the buffers are cut into frames of at most 8 MiB without being copied.

    Raises:
        ProtocolError: the message is larger than a receiver would take, or a value has no form on the wire.
    """
    try:
        header = msgpack.packb({"t": _NUMBERS[type(message)], **_to_map(message)})
    except (ValueError, OverflowError) as error:  # half a surrogate pair, or an integer of more than 64 bits
        raise ProtocolError(f"{type(message).__name__}: a value that cannot be sent ({error})") from None
    if len(header) > MAX_HEADER_BYTES:
        raise ProtocolError(
            f"{type(message).__name__}: header of {len(header)} bytes, at most {MAX_HEADER_BYTES}", ErrorCode.TOO_LARGE
        )
    frames: list[Buffer] = [_PREAMBLE, header]
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        frames += [view[start : start + FRAME_BYTES] for start in range(0, len(view), FRAME_BYTES)]
    if len(frames) > MAX_FRAMES:
        raise ProtocolError(
            f"{type(message).__name__}: {len(frames)} frames, at most {MAX_FRAMES}", ErrorCode.TOO_LARGE
        )
    return frames


def decode(frames: Sequence[Buffer]) -> Decoded:
    """Message and buffers from received frames.

    Raises:
        ProtocolError: anything about the frames is not as the specification says; ``code`` is E_PROTO for another
            major version, E_UNKNOWN_TYPE for an unknown message, else E_SCHEMA.
    """
    if not 2 <= len(frames) <= MAX_FRAMES:
        raise ProtocolError(f"{len(frames)} frames, not 2 to {MAX_FRAMES}")
    newer = _check_preamble(frames[0])
    content = _unpack_header(frames[1])
    number = content.pop("t", None)
    cls = MESSAGE_TYPES.get(number) if type(number) is int else None
    if cls is None:
        raise ProtocolError(f"unknown message type: {_excerpt(number)}", ErrorCode.UNKNOWN_TYPE)
    message = typing.cast(Message, _reader(typing.cast(Any, cls))(content, cls.__name__, newer))
    buffers = [memoryview(frame).cast("B") for frame in frames[2:]]
    _check_buffers(message, buffers)
    return Decoded(message, buffers)


def _check_preamble(frame: Buffer) -> bool:
    """Whether the sender's minor version is higher than ours."""
    preamble = bytes(frame[: PREAMBLE_BYTES + 1])
    if len(preamble) != PREAMBLE_BYTES or preamble[:4] != MAGIC:
        raise ProtocolError("the first frame is not DOTS and two version bytes")
    major, minor = preamble[4], preamble[5]
    if major != PROTOCOL_VERSION[0]:
        ours = ".".join(map(str, PROTOCOL_VERSION))
        raise ProtocolError(
            f"protocol {major}.{minor} was received, this is {ours}: use the same version of dotsctl on both sides",
            ErrorCode.PROTO,
        )
    return minor > PROTOCOL_VERSION[1]


def _unpack_header(frame: Buffer) -> dict[str, Any]:
    if len(frame) > MAX_HEADER_BYTES:
        raise ProtocolError(f"header of {len(frame)} bytes, at most {MAX_HEADER_BYTES}")
    try:
        content = msgpack.unpackb(
            frame, raw=False, strict_map_key=True, max_ext_len=0, max_bin_len=0, max_array_len=4096, max_map_len=4096
        )
    except (ValueError, msgpack.exceptions.UnpackException) as error:  # StackError and UnicodeDecodeError included
        raise ProtocolError(
            f"header is not msgpack of the expected form ({str(error) or type(error).__name__})"
        ) from None
    if not isinstance(content, dict):
        raise ProtocolError(f"header is a {type(content).__name__}, not a map")
    return content


def _check_buffers(message: Message, buffers: Sequence[memoryview]) -> None:
    """Buffers must be exactly as many bytes as the header says; a message without a header for them has none."""
    described = [*getattr(message, "images", ()), *filter(None, [getattr(message, "tensor", None)])]
    expected = sum(part.nbytes for part in described)
    received = sum(buffer.nbytes for buffer in buffers)
    if received != expected:
        raise ProtocolError(f"{type(message).__name__}: {received} bytes in buffers, the header says {expected}")
    if any(buffer.nbytes > FRAME_BYTES for buffer in buffers):
        raise ProtocolError(f"{type(message).__name__}: a frame of more than {FRAME_BYTES} bytes")


def _to_map(value: object) -> dict[str, Any]:
    """Fields of a dataclass by name, nested ones as maps."""
    fields = dataclasses.fields(typing.cast(Any, value))
    return {field.name: _plain(getattr(value, field.name)) for field in fields}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return _to_map(value)
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


# A reader turns an unpacked value into the declared type; it gets the value, the path for error texts, and whether
# unknown keys are allowed because the sender is newer.
Reader = Callable[[Any, str, bool], Any]


def _wrong(path: str, expected: str, value: object) -> ProtocolError:
    return ProtocolError(f"{path}: expected {expected}, got {_excerpt(value)}")


def _excerpt(value: object) -> str:
    """A value in an error's text; only the type of a container, which may be too deeply nested for ``str``."""
    name = type(value).__name__
    return name if isinstance(value, list | dict) else f"{name} {str(value)[:40]!r}"


@cache
def _reader(declared: Any) -> Reader:
    """Reader for a type as it stands in a dataclass of ``messages.py``."""
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if dataclasses.is_dataclass(declared):
        return _dataclass_reader(typing.cast(type, declared))
    if isinstance(declared, type) and issubclass(declared, StrEnum):
        return _enum_reader(declared)
    if origin in (typing.Union, types.UnionType):
        return _union_reader(arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _sequence_reader(_reader(arguments[0]))
    if origin is tuple:
        return _fixed_reader([_reader(argument) for argument in arguments])
    if origin is dict:
        return _map_reader(_reader(arguments[1]))
    return _SCALARS[declared]


def _dataclass_reader(cls: type) -> Reader:
    hints = typing.get_type_hints(cls)
    readers = {field.name: _reader(hints[field.name]) for field in dataclasses.fields(cls)}

    def read(value: Any, path: str, newer: bool) -> Any:
        if not isinstance(value, dict):
            raise _wrong(path, "a map", value)
        if missing := readers.keys() - value.keys():
            raise ProtocolError(f"{path}: missing key {min(missing)!r}")
        if not newer and (extra := value.keys() - readers.keys()):
            raise ProtocolError(f"{path}: unknown key {min(map(str, extra))[:40]!r}")
        fields = {name: reader(value[name], f"{path}.{name}", newer) for name, reader in readers.items()}
        try:
            return cls(**fields)
        except ValueError as error:
            raise ProtocolError(f"{path}: {error}") from None

    return read


def _enum_reader(cls: type[StrEnum]) -> Reader:
    values = {member.value: member for member in cls}

    def read(value: Any, path: str, newer: bool) -> StrEnum:
        if not isinstance(value, str) or value not in values:
            raise _wrong(path, f"one of {', '.join(values)}", value)
        return values[value]

    return read


def _union_reader(choices: tuple[Any, ...]) -> Reader:
    readers = [_reader(choice) for choice in choices if choice is not type(None)]
    optional = type(None) in choices

    def read(value: Any, path: str, newer: bool) -> Any:
        if value is None and optional:
            return None
        for reader in readers[:-1]:
            try:
                return reader(value, path, newer)
            except ProtocolError:
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
    if type(value) not in (int, float) or value != value or value in (float("inf"), float("-inf")):
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


_SCALARS: dict[Any, Reader] = {int: _read_int, float: _read_float, str: _read_str, bool: _read_bool}
