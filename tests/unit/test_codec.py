"""Every message survives the wire, and whatever else arrives is a ProtocolError and nothing else."""

import dataclasses
import math
import types
import typing
from enum import StrEnum
from typing import Any

import msgpack
import pytest
from dotsctl.protocol import PROTOCOL_VERSION, messages, parts
from dotsctl.protocol.codec import decode, encode
from dotsctl.protocol.errors import ErrorCode, ProtocolError
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.messages import MESSAGE_TYPES, Message
from dotsctl.protocol.page_hint import HintBlock, PageHint
from dotsctl.protocol.parts import FRAME_BYTES
from hypothesis import given, settings
from hypothesis import strategies as st

PREAMBLE = b"DOTS" + bytes(PROTOCOL_VERSION)
many = settings(max_examples=500, deadline=None)

integers = st.integers(-(2**63) + 1, 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
floats = st.floats(allow_nan=False, allow_infinity=False)
small = st.integers(1, 30)
side = st.floats(0, 1e6)
positive = st.integers(1, 2**40)

files = st.builds(parts.ImageHeader, st.just(parts.ImageKind.FILE), st.integers(0, 300), positive, positive)
pictures = st.builds(
    lambda width, height: parts.ImageHeader(parts.ImageKind.RGB, 3 * width * height, width, height), small, small
)
boxes = st.tuples(side, side, side, side).map(lambda s: (s[0], s[1], s[0] + 1 + s[2], s[1] + 1 + s[3]))
hints = st.builds(
    PageHint,
    st.lists(st.builds(HintBlock, texts, st.none() | boxes), max_size=4).map(tuple),
    st.tuples(st.floats(1, 1e9), st.floats(1, 1e9)),
    texts,
)
options = st.builds(
    parts.PageOptions, texts, st.none() | texts, st.none() | positive, st.none() | st.integers(784, 2**40),
    st.none() | hints, st.none() | boxes,
    st.booleans(), st.sampled_from(parts.Quality),
)  # fmt: skip


def tensor(dtype: str, rows: int, columns: int) -> parts.TensorHeader:
    return parts.TensorHeader(dtype, (rows, columns), rows * columns * (4 if dtype == "<f4" else 2))


dtypes = st.sampled_from(["<f2", "<f4", "bf16"])
restricted: dict[Any, st.SearchStrategy[Any]] = {
    parts.ImageHeader: files | pictures,
    parts.TensorHeader: st.builds(tensor, dtypes, small, small),
    parts.PageOptions: options,
    PageHint: hints,
}
"""Types whose fields depend on each other."""


def instances(declared: Any) -> st.SearchStrategy[Any]:
    """Any value of a type as it stands in ``messages.py``."""
    arguments = typing.get_args(declared)
    origin = typing.get_origin(declared)
    if declared in restricted:
        return restricted[declared]
    if declared in (int, float, str, bool):
        return {int: integers, float: floats, str: texts, bool: st.booleans()}[declared]
    if isinstance(declared, type) and issubclass(declared, StrEnum):
        return st.sampled_from(declared)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(instances(arguments[0]), max_size=4).map(tuple)
    if origin is tuple:
        return st.tuples(*map(instances, arguments))
    if origin is dict:
        return st.dictionaries(texts, instances(arguments[1]), max_size=4)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*(st.none() if a is type(None) else instances(a) for a in arguments))
    hints = typing.get_type_hints(declared)
    fields = {field.name: instances(hints[field.name]) for field in dataclasses.fields(declared)}
    if declared is PageGeometry:
        sizes, scales = st.tuples(positive, positive), st.floats(1e-9, 1e9)
        fields |= {"source": sizes, "resized": sizes, "scale": st.tuples(scales, scales)}
        fields |= {"orientation": st.integers(1, 8), "resolution_loss": st.floats(0, 1)}
    if declared in (messages.Ready, parts.Capability):
        fields |= {"buckets": st.sets(positive, max_size=4).map(lambda found: tuple(sorted(found)))}
    if declared is messages.Submit:
        fields |= {"job_id": texts.filter(bool), "page_index": st.integers(0, 2**63 - 1), "encoder": small}
    if declared is messages.SwapEncoder:
        fields["place"] = small
    if declared is messages.Configure:
        fields["gpu_faults"] = small
    if declared is messages.Gather:
        fields["for_s"] = st.floats(0, parts.MAX_GATHER_S)
    if declared in (messages.Submit, messages.Encode):
        fields["images"] = st.lists(files | pictures, min_size=1, max_size=parts.MAX_IMAGES).map(tuple)
    if declared is messages.Embeddings:
        sizes = st.shared(st.lists(st.tuples(small, small), min_size=1, max_size=3), key="sizes")
        fields["rows"] = sizes.map(lambda each: tuple(map(math.prod, each)))
        fields["geometries"] = sizes.flatmap(lambda each: st.tuples(*[instances(PageGeometry)] * len(each)))
        fields["tensor"] = st.builds(tensor, dtypes, sizes.map(lambda each: sum(map(math.prod, each))), small)
    return st.builds(declared, **fields)


any_message = st.sampled_from(list(MESSAGE_TYPES.values())).flatmap(instances)


def zeros_for(message: Message) -> list[bytes]:
    described = [*getattr(message, "images", ()), *filter(None, [getattr(message, "tensor", None)])]
    return [bytes(part.nbytes) for part in described]


def header_of(message: Message) -> dict[str, Any]:
    return typing.cast(dict[str, Any], msgpack.unpackb(encode(message)[1]))


@many
@given(any_message)
def test_every_message_comes_back_as_it_was_sent(message: Message) -> None:
    assert decode(encode(message, zeros_for(message))).message == message


@pytest.mark.parametrize("size", [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES + 5])
def test_buffers_are_cut_into_frames_and_are_identical_when_joined(size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    image = parts.ImageHeader(parts.ImageKind.FILE, size, 10, 10)
    submit = messages.Submit("job", 0, "digest", (image,), parts.PageOptions("text", None, None, None), False)
    frames = encode(submit, [memoryview(content)[:size]])
    assert len(frames) == 2 + math.ceil(size / FRAME_BYTES)
    assert max(map(len, frames)) <= FRAME_BYTES
    assert b"".join(decode(frames).buffers) == content[:size]


def test_buffers_are_sent_and_received_without_a_copy() -> None:
    content = bytearray(3 * 20 * 20)
    image = parts.ImageHeader(parts.ImageKind.RGB, len(content), 20, 20)
    options = parts.PageOptions("text", None, None, None)
    received = decode(encode(messages.Encode(1, 1, (image,), options, "ipc://x"), [content])).buffers[0]
    content[5] = 77
    assert received[5] == 77


@many
@given(any_message, st.data())
def test_a_mutated_header_is_either_valid_or_a_protocol_error(message: Message, data: st.DataObject) -> None:
    header = bytearray(encode(message)[1])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(header) - 1))
        header[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
        if not header:
            break
    decode_or_refuse([PREAMBLE, bytes(header), *zeros_for(message)])


@many
@given(any_message, st.data())
def test_a_truncated_header_is_a_protocol_error(message: Message, data: st.DataObject) -> None:
    header = bytes(encode(message)[1])
    with pytest.raises(ProtocolError):
        decode([PREAMBLE, header[: data.draw(st.integers(0, len(header) - 1))]])


@many
@given(st.lists(st.binary(max_size=40), max_size=5), st.booleans())
def test_random_frames_are_a_protocol_error(frames: list[bytes], with_preamble: bool) -> None:
    decode_or_refuse([PREAMBLE, *frames] if with_preamble else frames)


@many
@given(any_message, st.data())
def test_a_value_of_any_other_type_is_either_valid_or_a_protocol_error(message: Message, data: st.DataObject) -> None:
    header = header_of(message)
    key = data.draw(st.sampled_from(sorted(header)))
    scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | texts | st.binary(max_size=5)
    header[key] = data.draw(st.recursive(scalars, lambda v: st.lists(v) | st.dictionaries(texts, v), max_leaves=5))
    decode_or_refuse([PREAMBLE, msgpack.packb(header), *zeros_for(message)])


def decode_or_refuse(frames: list[bytes]) -> None:
    """Whatever is accepted must be a message of the specification; every other exception fails the test."""
    try:
        received = decode(frames)
    except ProtocolError as error:
        assert str(error)
        assert error.code in (ErrorCode.SCHEMA, ErrorCode.UNKNOWN_TYPE, ErrorCode.PROTO)
    else:
        again = decode(encode(received.message, received.buffers))
        assert again.message == received.message
        assert b"".join(again.buffers) == b"".join(received.buffers)
