"""Frames that were stored when a version of the protocol was made must be understood for ever after.

``python tests/unit/test_frames.py --store`` writes ``tests/frames/vMAJOR_MINOR/NAME.hex`` for messages that have no
such file yet: the ``repr`` of one message, then its frames in hexadecimal, one a line. Files of a released version are
never changed or removed; a new minor version starts its own folder.
"""

import dataclasses
import sys
import types
import typing
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from dotsctl.protocol import PROTOCOL_VERSION, parts
from dotsctl.protocol.codec import decode, encode
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.messages import MESSAGE_TYPES, Message
from dotsctl.protocol.page_hint import HintBlock, PageHint

FRAMES = Path(__file__).parents[1] / "frames"
CURRENT = FRAMES / f"v{PROTOCOL_VERSION[0]}_{PROTOCOL_VERSION[1]}"
STORED = sorted(path.relative_to(FRAMES).as_posix() for path in FRAMES.glob("v*/*.hex"))
HINT = PageHint(
    (HintBlock("Rechnung Nr. 7 für Zoë", (56.5, 72.0, 310.0, 84.25)), HintBlock("")), (595.0, 842.0), "textlayer"
)
FIXED: dict[Any, Any] = {
    PageHint: HINT,
    parts.ImageHeader: parts.ImageHeader(parts.ImageKind.RGB, 18, 3, 2),
    parts.TensorHeader: parts.TensorHeader("<f2", (4, 3), 24),
    PageGeometry: PageGeometry((1170, 827), 6, (840, 1176), (840 / 827, 1176 / 1170), (-12.0, 0.0), 0.03125),
    parts.PageOptions: parts.PageOptions(
        "layout",
        None,
        500,
        1_000_000,
        HINT,
        (1.0, 2.5, 30.0, 40.0),
        True,
        parts.Quality.BALANCED,
        "scan-007",
    ),
}
"""Parts whose fields depend on each other."""


def one_of(declared: Any, numbers: "count[int]") -> Any:
    """One value of a type as it stands in ``messages.py``, always the same."""
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    number = next(numbers)
    if declared in FIXED:
        return FIXED[declared]
    if declared in (int, float, str, bool):
        return {int: 1000 * number, float: number / 256, str: f"Text é {number}", bool: number % 2 == 0}[declared]
    if isinstance(declared, type) and issubclass(declared, StrEnum):
        return list(declared)[number % len(declared)]
    if origin in (typing.Union, types.UnionType):
        return None if number % 2 else one_of(arguments[0], numbers)
    if origin is dict:
        return {f"key {i}": one_of(arguments[1], numbers) for i in range(2)}
    if origin is tuple:
        items = [arguments[0]] * 3 if arguments[-1] is Ellipsis else arguments
        return tuple(one_of(item, numbers) for item in items)
    return build(declared, numbers)


def build(cls: Any, numbers: "count[int]") -> Any:
    hints = typing.get_type_hints(cls)
    fields = {field.name: one_of(hints[field.name], numbers) for field in dataclasses.fields(cls)}
    return cls(**{**fields, "rows": (1, 1, 2)} if "rows" in fields else fields)


def frames_of(message: Message) -> list[bytes]:
    described = [*getattr(message, "images", ()), *filter(None, [getattr(message, "tensor", None)])]
    return [bytes(frame) for frame in encode(message, [bytes(range(part.nbytes)) for part in described])]


@pytest.mark.parametrize("name", STORED)
def test_stored_frames_are_still_understood(name: str) -> None:
    text, *lines = (FRAMES / name).read_text(encoding="utf-8").splitlines()
    message, buffers = decode([bytes.fromhex(line) for line in lines])
    assert repr(message) == text
    assert f"{type(message).__name__}.hex" == Path(name).name
    assert [bytes(buffer) for buffer in buffers] == [bytes.fromhex(line) for line in lines[2:]]


@pytest.mark.parametrize("name", [name for name in STORED if name.startswith(f"{CURRENT.name}/")])
def test_frames_of_this_version_are_sent_byte_for_byte_as_stored(name: str) -> None:
    frames = [bytes.fromhex(line) for line in (FRAMES / name).read_text(encoding="utf-8").splitlines()[1:]]
    assert [bytes(frame) for frame in encode(*decode(frames))] == frames


def test_every_message_of_this_version_is_stored() -> None:
    stored = {path.stem for path in CURRENT.glob("*.hex")}
    assert stored == {cls.__name__ for cls in MESSAGE_TYPES.values()}


def store() -> None:
    """Write the files that are missing for this version."""
    CURRENT.mkdir(parents=True, exist_ok=True)
    for number, cls in MESSAGE_TYPES.items():
        path = CURRENT / f"{cls.__name__}.hex"
        if not path.exists():
            message: Message = build(cls, count(number))
            lines = [repr(message), *(frame.hex() for frame in frames_of(message))]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__" and sys.argv[1:] == ["--store"]:
    store()
