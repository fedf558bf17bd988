"""Message to frames and back; the only file that uses msgpack.

Frames: a preamble of 6 bytes (``DOTS``, major, minor), a msgpack header map with the message's type under ``t``, then
the message's buffers as they are. Everything that arrives is checked before anything is allocated for it: the
number and size of frames, the version, the header's size and nesting, every key and the type of every value. A
violation is a ProtocolError whose text names the field.
"""

import dataclasses
import typing
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import msgpack
from dotsctl.protocol import PROTOCOL_VERSION
from dotsctl.protocol.errors import OTHER_VERSION, ErrorCode, ProtocolError
from dotsctl.protocol.messages import MESSAGE_TYPES, Message
from dotsctl.protocol.parts import FRAME_BYTES, MAX_IMAGES, MAX_REQUEST_BYTES
from dotsctl.protocol.typed_values import WrongValueError, excerpt, reader

Buffer = bytes | bytearray | memoryview

MAGIC = b"DOTS"
PREAMBLE_BYTES = 6
MAX_HEADER_BYTES = 4 * 1024 * 1024
MAX_FRAMES = 2 + MAX_REQUEST_BYTES // FRAME_BYTES + MAX_IMAGES
"""Preamble, header, the images of a request in frames of 8 MiB, and the last frame of each image, which is not full."""

_NUMBERS = {cls: number for number, cls in MESSAGE_TYPES.items()}
_PREAMBLE = MAGIC + bytes(PROTOCOL_VERSION)


class IncomingMessage(NamedTuple):
    """A received message with its buffers; the buffers are views that keep the complete received frames alive."""

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
            f"{type(message).__name__}: header of {len(header)} bytes, at most {MAX_HEADER_BYTES}",
            code=ErrorCode.TOO_LARGE,
        )
    frames: list[Buffer] = [_PREAMBLE, header]
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        frames += [view[start : start + FRAME_BYTES] for start in range(0, len(view), FRAME_BYTES)]
    if len(frames) > MAX_FRAMES:
        raise ProtocolError(
            f"{type(message).__name__}: {len(frames)} frames, at most {MAX_FRAMES}", code=ErrorCode.TOO_LARGE
        )
    return frames


def decode(frames: Sequence[Buffer]) -> IncomingMessage:
    """Message and buffers from received frames.

    Raises:
        ProtocolError: the frames break the specification; ``code`` is E_PROTO for another
            major version, E_UNKNOWN_TYPE for an unknown message, else E_SCHEMA.
    """
    if not 2 <= len(frames) <= MAX_FRAMES:
        raise ProtocolError(f"{len(frames)} frames, not 2 to {MAX_FRAMES}")
    newer = _check_preamble(frames[0])
    content = _unpack_header(frames[1])
    number = content.pop("t", None)
    cls = MESSAGE_TYPES.get(number) if type(number) is int else None
    if cls is None:
        raise ProtocolError(f"unknown message type: {excerpt(number)}", code=ErrorCode.UNKNOWN_TYPE)
    try:
        message = typing.cast(Message, reader(typing.cast(Any, cls))(content, cls.__name__, newer))
    except WrongValueError as error:
        raise ProtocolError(str(error)) from None
    buffers = [memoryview(frame).cast("B") for frame in frames[2:]]
    _check_buffers(message, buffers)
    return IncomingMessage(message, buffers)


def _check_preamble(frame: Buffer) -> bool:
    """Return whether the sender's minor version is higher than ours."""
    preamble = bytes(frame[: PREAMBLE_BYTES + 1])
    if len(preamble) != PREAMBLE_BYTES or preamble[:4] != MAGIC:
        raise ProtocolError("the first frame is not DOTS and two version bytes")
    major, minor = preamble[4], preamble[5]
    if major != PROTOCOL_VERSION[0]:
        ours = ".".join(map(str, PROTOCOL_VERSION))
        raise ProtocolError(
            f"protocol {major}.{minor} was received, this is {ours}",
            OTHER_VERSION,
            code=ErrorCode.PROTO,
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
