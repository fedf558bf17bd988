"""``protocol/SPEC.md`` says what the code does: version, limits, every message with its fields, and the exchange."""

import dataclasses
import json
import re
import types
import typing
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgpack
import pytest
from dotsctl.protocol import PROTOCOL_VERSION, codec, messages, page_hint, parts
from dotsctl.protocol.errors import ErrorCode
from dotsctl.protocol.messages import MESSAGE_TYPES

SPEC = (Path(__file__).parents[2] / "protocol" / "SPEC.md").read_text(encoding="utf-8")
SENDERS = {
    "Client to coordinator": range(1, 20),
    "Coordinator to client": range(20, 40),
    "Coordinator to worker": range(40, 60),
    "Worker to coordinator": range(60, 80),
    "Encoder to decoder": range(80, 100),
}


def type_name(declared: Any) -> str:
    """How the specification writes a type."""
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if origin in (typing.Union, types.UnionType):
        return f"{type_name(arguments[0])}?"
    if origin is dict:
        return f"{{str: {type_name(arguments[1])}}}"
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"[{type_name(arguments[0])}...]"
    if origin is tuple:
        return f"[{', '.join(map(type_name, arguments))}]"
    return str(declared.__name__)


def field_list(cls: Any) -> str:
    hints = typing.get_type_hints(cls)
    return ", ".join(f"{field.name}: {type_name(hints[field.name])}" for field in dataclasses.fields(cls)) or "none"


def rows(heading: str) -> list[list[str]]:
    """Cells of the rows of all tables below a heading."""
    section = re.split(r"^#+ ", SPEC.split(f" {heading}\n", 1)[1], maxsplit=1, flags=re.M)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_specification_is_of_this_version() -> None:
    assert SPEC.startswith("# The wire of dotsctl, version {}.{}\n".format(*PROTOCOL_VERSION))


@pytest.mark.parametrize("heading", SENDERS)
def test_every_message_stands_under_its_sender_with_number_and_fields(heading: str) -> None:
    assert rows(heading)[1:] == [
        [str(number), cls.__name__, field_list(cls)]
        for number, cls in sorted(MESSAGE_TYPES.items())
        if number in SENDERS[heading]
    ]


def test_every_number_belongs_to_one_sender() -> None:
    assert all(any(number in numbers for numbers in SENDERS.values()) for number in MESSAGE_TYPES)


def test_every_part_and_enumeration_is_described() -> None:
    found = dict(row for row in rows("Parts") if row[0] not in ("part", "enumeration"))
    values = [value for module in (parts, page_hint, messages) for value in vars(module).values()]
    public = {value for value in values if isinstance(value, type)}
    described = [cls for cls in public if dataclasses.is_dataclass(cls) and cls not in MESSAGE_TYPES.values()]
    enumerations = [cls for cls in public if issubclass(cls, StrEnum) and cls is not StrEnum]
    assert ErrorCode in enumerations
    assert found == {
        **{cls.__name__: field_list(cls) for cls in described},
        **{cls.__name__: ", ".join(f"`{member.value}`" for member in cls) for cls in enumerations},
    }


def test_the_limits_are_those_of_the_code() -> None:
    assert dict(rows("3. Limits")[1:]) == {
        "frames of one message": str(codec.MAX_FRAMES),
        "bytes of one frame": str(parts.FRAME_BYTES),
        "bytes of the header": str(codec.MAX_HEADER_BYTES),
        "entries of one array or map in the header": "4096",
        "bytes of one image": str(parts.MAX_FILE_BYTES),
        "bytes of the images of a request": str(parts.MAX_REQUEST_BYTES),
        "bytes of a hint": str(page_hint.MAX_HINT_BYTES),
        "blocks of a hint": str(page_hint.MAX_HINT_BLOCKS),
        "bytes of a prompt": str(parts.MAX_PROMPT_BYTES),
        "bytes of the name of a source": str(parts.MAX_NAME_BYTES),
        "images of a request": str(parts.MAX_IMAGES),
        "embeddings of a request": str(parts.MAX_EMBEDDINGS),
        "columns of an embedding": "65536",
        "characters of a job_id": "64",
    }
    assert parts.MAX_FILE_BYTES == parts.MAX_RGB_BYTES


EXCHANGE = re.findall(r"^(\w+), [a-z ]+:\n\n```json\n(.*?)\n```\n\n```hex\n(.*?)\n```$", SPEC, flags=re.M | re.S)


def test_the_worked_exchange_goes_from_submit_to_result() -> None:
    assert [name for name, _, _ in EXCHANGE] == [
        "Submit", "Accepted", "Encode", "Embeddings", "Encoded", "Received", "Consumed", "Done", "PageResult",
    ]  # fmt: skip
    assert SPEC.count("```hex") == len(EXCHANGE)


@pytest.mark.parametrize(("name", "header", "hexadecimal"), EXCHANGE, ids=[name for name, _, _ in EXCHANGE])
def test_the_worked_exchange_is_what_the_code_sends_and_understands(name: str, header: str, hexadecimal: str) -> None:
    frames = [bytes.fromhex(line) for line in hexadecimal.replace("\n  ", "").splitlines()]
    message, buffers = codec.decode(frames)
    assert type(message).__name__ == name
    assert msgpack.unpackb(frames[1]) == json.loads(header)
    assert [bytes(frame) for frame in codec.encode(message, buffers)] == frames
