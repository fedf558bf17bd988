"""Each rule of the wire has its refusal, at the receiver and where it can at the sender, with a text that names it."""

import tracemalloc
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import pytest
from dotsctl.protocol import PROTOCOL_VERSION, messages, parts
from dotsctl.protocol.codec import MAX_FRAMES, MAX_HEADER_BYTES, decode, encode
from dotsctl.protocol.errors import ErrorCode, ProtocolError
from dotsctl.protocol.messages import MESSAGE_TYPES
from dotsctl.protocol.page_hint import MAX_HINT_BYTES
from dotsctl.protocol.parts import FRAME_BYTES

MAJOR, MINOR = PROTOCOL_VERSION
PREAMBLE = b"DOTS" + bytes(PROTOCOL_VERSION)
NEWER = b"DOTS" + bytes([MAJOR, MINOR + 1])
NUMBERS = {cls.__name__: number for number, cls in MESSAGE_TYPES.items()}
PICTURE = parts.ImageHeader(parts.ImageKind.RGB, 12, 2, 2)
PICTURE_MAP = {"kind": "rgb", "nbytes": 12, "width": 2, "height": 2}
OPTIONS = parts.PageOptions("text", None, None, None)
SUBMIT = messages.Submit("job", 0, "digest", (PICTURE,), OPTIONS, False)
ENCODE = messages.Encode(1, 1, (PICTURE,), OPTIONS, "ipc://x")


def header_of(message: messages.Message) -> dict[str, Any]:
    return typing.cast(dict[str, Any], msgpack.unpackb(encode(message)[1]))


def hint(*texts: str, box: list[float] | None = None, size: list[float] | None = [600, 800]) -> dict[str, Any]:  # noqa: B006
    """A hint as it travels; the first block has the box."""
    blocks = [{"text": text, "box": None if number else box} for number, text in enumerate(texts)]
    return {"blocks": blocks, "size": size, "source": "textlayer"}


def refusal(*frames: bytes) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        decode(frames)
    return caught.value


def packed(**fields: Any) -> bytes:
    return typing.cast(bytes, msgpack.packb(fields))


@contextmanager
def less_than_a_megabyte() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("megapixels", [24, 48])
def test_four_photos_of_a_telephone_fit_into_one_request(megapixels: int) -> None:
    width, height = {24: (5712, 4284), 48: (8064, 6048)}[megapixels]
    header = parts.ImageHeader(parts.ImageKind.RGB, 3 * width * height, width, height)
    submit = messages.Submit("job", 0, "digest", (header,) * 4, OPTIONS, False)
    assert len(encode(submit, [memoryview(bytes(header.nbytes))] * 4)) <= MAX_FRAMES


@pytest.mark.parametrize("major", [0, MAJOR + 1, 255])
@pytest.mark.parametrize("minor", [0, MINOR, MINOR + 1, 255])
def test_another_major_version_is_refused_by_naming_both(major: int, minor: int) -> None:
    error = refusal(b"DOTS" + bytes([major, minor]), b"\xc1 perhaps no msgpack at all")
    assert error.code is ErrorCode.PROTO
    assert f"{major}.{minor}" in str(error)
    assert f"{MAJOR}.{MINOR}" in str(error)


def test_unknown_keys_of_a_newer_minor_version_are_ignored_at_every_depth() -> None:
    submit = header_of(SUBMIT)
    submit["colour"] = submit["options"]["mood"] = submit["images"][0]["dpi"] = [1, {"a": 2}]
    assert decode([NEWER, packed(**submit), bytes(12)]).message == SUBMIT


def test_unknown_keys_of_the_same_minor_version_are_refused_with_the_path() -> None:
    submit = header_of(SUBMIT)
    assert str(refusal(PREAMBLE, packed(**submit, colour=1), bytes(12))) == "Submit: unknown key 'colour'"
    submit["options"]["mood"] = 1
    assert str(refusal(PREAMBLE, packed(**submit), bytes(12))) == "Submit.options: unknown key 'mood'"


@pytest.mark.parametrize("number", [0, -1, 5, 8, 255, 2**64 - 1, "2", 2.0, True, None, [2], {}])
def test_an_unknown_message_is_refused_with_its_own_code(number: Any) -> None:
    assert refusal(PREAMBLE, packed(t=number)).code is ErrorCode.UNKNOWN_TYPE
    assert refusal(NEWER, packed(t=number)).code is ErrorCode.UNKNOWN_TYPE


@pytest.mark.parametrize("sizes", [(), (11,), (13,), (12, 1), (6, 5)])
def test_buffers_of_another_size_than_announced_are_refused(sizes: tuple[int, ...]) -> None:
    header = bytes(encode(ENCODE)[1])
    assert f"{sum(sizes)} bytes" in str(refusal(PREAMBLE, header, *map(bytes, sizes)))


def test_a_message_without_buffers_refuses_them() -> None:
    assert "5 bytes" in str(refusal(PREAMBLE, packed(t=NUMBERS["Ping"]), b"12345"))


@pytest.mark.parametrize(
    "changes",
    [
        {"images": [{"kind": "file", "nbytes": 10 * 2**30, "width": 9, "height": 9}]},
        {"images": [{"kind": "rgb", "nbytes": 3 * 2**40, "width": 2**20, "height": 2**20}]},
    ],
)
def test_a_claim_of_gigabytes_is_refused_without_allocation(changes: dict[str, Any]) -> None:
    header = packed(**{**header_of(ENCODE), **changes})
    with less_than_a_megabyte():
        assert "nbytes" in str(refusal(PREAMBLE, header, bytes(12)))


@pytest.mark.parametrize("claim", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"])
def test_msgpack_that_claims_billions_of_entries_is_refused_without_allocation(claim: bytes) -> None:
    with less_than_a_megabyte():
        assert refusal(PREAMBLE, b"\x81\xa1t" + claim).code is ErrorCode.SCHEMA


def test_a_huge_first_frame_is_refused_without_a_copy() -> None:
    huge = bytes(20_000_000)
    with less_than_a_megabyte():
        assert refusal(huge, b"\x80").code is ErrorCode.SCHEMA


@pytest.mark.parametrize("depth", [10, 900, 1000, 1020, 1100, 100_000])
@pytest.mark.parametrize("start", [b"\x81\xa1t", b"\x83\xa1t\x01\xa7version\xa11\xa3pid"])
def test_deep_nesting_is_a_protocol_error_with_a_message(start: bytes, depth: int) -> None:
    error = refusal(PREAMBLE, start + b"\x91" * depth + b"\x01")
    assert not str(error).endswith("()")


def test_frames_above_8_mib_are_refused() -> None:
    size = FRAME_BYTES + 1
    image = parts.ImageHeader(parts.ImageKind.FILE, size, 10, 10)
    header = bytes(encode(messages.Encode(1, 1, (image,), OPTIONS, "ipc://x"))[1])
    assert str(FRAME_BYTES) in str(refusal(PREAMBLE, header, bytes(size)))


def test_too_many_and_too_few_frames_are_refused_at_both_ends() -> None:
    ping = packed(t=NUMBERS["Ping"])
    assert decode([PREAMBLE, ping, *[b""] * (MAX_FRAMES - 2)]).message == messages.Ping()
    assert f"{MAX_FRAMES + 1} frames" in str(refusal(PREAMBLE, ping, *[b""] * (MAX_FRAMES - 1)))
    assert "1 frames" in str(refusal(PREAMBLE))
    assert "0 frames" in str(refusal())
    with pytest.raises(ProtocolError, match="frames") as caught:
        encode(messages.Ping(), [b"x"] * (MAX_FRAMES - 1))
    assert caught.value.code is ErrorCode.TOO_LARGE


def test_a_header_above_its_limit_is_refused_at_both_ends() -> None:
    with pytest.raises(ProtocolError, match=str(MAX_HEADER_BYTES)) as caught:
        encode(messages.Loading("x" * MAX_HEADER_BYTES))
    assert caught.value.code is ErrorCode.TOO_LARGE
    assert str(MAX_HEADER_BYTES) in str(refusal(PREAMBLE, packed(t=NUMBERS["Loading"], note="x" * MAX_HEADER_BYTES)))


CONFIGURE = {
    **{"plugin": "p", "options": {}, "model": "m", "model_name": "n"},
    **{"render_timeout_s": 1.0, "gpu_faults": 0},
}
WRONG_FIELDS: list[tuple[str, dict[str, Any], str]] = [
    ("ClientHello", {"pid": True, "version": "1"}, "ClientHello.pid: expected an integer of 64 bits, got bool 'True'"),
    ("ClientHello", {"pid": 1.0, "version": "1"}, "ClientHello.pid: expected an integer"),
    ("ClientHello", {"pid": 2**63, "version": "1"}, "ClientHello.pid: expected an integer of 64 bits"),
    ("ClientHello", {"pid": 1, "version": 7}, "ClientHello.version: expected a string, got int '7'"),
    ("ClientHello", {"pid": 1, "version": None}, "ClientHello.version: expected a string"),
    ("ClientHello", {"pid": 1}, "ClientHello: missing key 'version'"),
    ("CancelJob", {"job_id": "j", "page_index": False}, "CancelJob.page_index: expected an integer"),
    ("Refused", {"message": "r", "code": "E_WHATEVER"}, "Refused.code: expected one of E_BAD_IMAGE"),
    ("Refused", {"message": "r", "code": 3}, "Refused.code: expected one of E_BAD_IMAGE"),
    (
        "Configure",
        {**CONFIGURE, "options": {"a": 1}},
        "Configure.options.a: ",
    ),
    ("Gather", {"for_s": -0.5}, "for_s -0.5 is not 0 to 3600"),
    ("Gather", {"for_s": 3601.0}, "for_s 3601.0 is not 0 to 3600"),
    (
        "Configure",
        {**CONFIGURE, "gpu_faults": -1},
        "gpu_faults -1 is negative",
    ),
    (
        "Configure",
        {**CONFIGURE, "options": ["a"]},
        "options: expected a map",
    ),
]


@pytest.mark.parametrize(("name", "fields", "text"), WRONG_FIELDS)
def test_a_wrong_field_is_refused_with_its_path(name: str, fields: dict[str, Any], text: str) -> None:
    error = refusal(PREAMBLE, packed(t=NUMBERS[name], **fields))
    assert text in str(error)
    assert error.code is ErrorCode.SCHEMA


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), "1.0", True, None])
def test_a_float_must_be_a_finite_number(value: Any) -> None:
    ready = header_of(messages.Ready("f", 8, "ipc://x", 1, ("text",), 0.5))
    assert "Ready.load_s: expected a finite number" in str(refusal(PREAMBLE, packed(**{**ready, "load_s": value})))
    assert decode([PREAMBLE, packed(**{**ready, "load_s": 3})]).message == messages.Ready(
        "f", 8, "ipc://x", 1, ("text",), 3.0
    )


@pytest.mark.parametrize(
    ("part", "fields", "text"),
    [
        ("", {"job_id": ""}, "job_id of 0 characters"),
        ("", {"job_id": "j" * 65}, "job_id of 65 characters"),
        ("", {"page_index": -1}, "page_index -1 is negative"),
        ("options", {"hint": hint("h" * (MAX_HINT_BYTES + 1))}, f"hint is longer than {MAX_HINT_BYTES} bytes"),
        ("options", {"hint": hint("é" * (MAX_HINT_BYTES // 4), "é" * (MAX_HINT_BYTES // 4 + 1))}, "hint is longer"),
        ("options", {"hint": {**hint("a", "b"), "blocks": [{"text": "", "box": None}] * 4097}}, "4097"),
        ("options", {"hint": hint("a", "b", box=[0, 0, 1, 2e9])}, "Submit.options.hint.blocks[0]: box (0.0, 0.0, 1.0"),
        ("options", {"hint": hint("a", box=[0, 5, 1, 4])}, "is not x0,y0,x1,y1 with x0 <= x1 and y0 <= y1"),
        (
            "options",
            {"hint": hint("a", box=[0, 0, 1, float("nan")])},
            "hint.blocks[0].box[3]: expected a finite number",
        ),
        ("options", {"hint": hint("a", size=None, box=[0, 0, 1, 1])}, "boxes without the size of their page"),
        ("options", {"hint": hint("a", size=[0, 9])}, "size (0.0, 9.0) is not between 1 and 1e+09"),
        ("options", {"hint": {**hint("a"), "source": "s" * 65}}, "source of 65 characters"),
        ("options", {"max_tokens": 0}, "Submit.options: max_tokens 0 is below 1"),
        ("options", {"max_pixels": 783}, "Submit.options: max_pixels 783 is below 784"),
        ("options", {"box": [5, 0, 5, 9]}, "is not x0,y0,x1,y1 with x0 < x1 and y0 < y1"),
        ("options", {"box": [-1, 0, 5, 9]}, "box (-1.0, 0.0, 5.0, 9.0) is not"),
        ("", {"images": []}, "0 images, not 1 to"),
        ("", {"images": [PICTURE_MAP] * 17}, "17 images, not 1 to 16"),
        ("", {"images": [{**PICTURE_MAP, "kind": "file", "nbytes": 200 << 20}] * 3}, "bytes together, at most"),
        ("options", {"hint": "h"}, "Submit.options.hint: expected a map, got str 'h'"),
        ("image", {"width": 0}, "Submit.images[0]: image of 0x2 px"),
        ("image", {"nbytes": 13}, "nbytes 13 is not 3 * width * height"),
        ("image", {"kind": "file", "nbytes": -1}, "nbytes -1 is not between"),
        ("image", {"kind": "gif"}, "Submit.images[0].kind: expected one of file, rgb, got str 'gif'"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_number(part: str, fields: dict[str, Any], text: str) -> None:
    header = header_of(SUBMIT)
    target = {"": header, "image": header["images"][0], "options": header["options"]}[part]
    target.update(fields)
    assert text in str(refusal(PREAMBLE, packed(**header), bytes(12)))


@pytest.mark.parametrize(
    ("tensor", "rows", "text"),
    [
        ({"dtype": "<f8"}, (2,), "dtype '<f8' is none of"),
        ({"shape": [0, 8]}, (2,), "shape[0] 0 is not 1 to 57600"),
        ({"shape": [57_601, 8]}, (2,), "shape[0] 57601 is not"),
        ({"shape": [2, 65_537]}, (2,), "shape[1] 65537 is not"),
        ({"shape": [2, 8, 1]}, (2,), "Embeddings.tensor.shape: expected an array of 2, got list"),
        ({"shape": [2, -8]}, (2,), "shape[1] -8 is not"),
        ({"nbytes": 63}, (2,), "nbytes 63 is not 64 as shape and dtype say"),
        ({}, (3,), "rows (3,) are 3 together, not 2"),
        ({}, (1, 1), "rows of 2 images, 1 geometries"),
        ({}, (-2,), "rows (-2,) are not positive"),
    ],
)
def test_embeddings_that_do_not_fit_their_header_are_refused(
    tensor: dict[str, Any], rows: tuple[int, ...], text: str
) -> None:
    geometry = {
        "source": [56, 28],
        "orientation": 1,
        "resized": [56, 28],
        "scale": [1.0, 1.0],
        "offset": [0.0, 0.0],
        "resolution_loss": 0.0,
    }
    header = {
        "t": NUMBERS["Embeddings"], "request_id": 1, "attempt": 1, "rows": [2], "geometries": [geometry],
        "tensor": {"dtype": "<f4", "shape": [2, 8], "nbytes": 64}, "options": header_of(SUBMIT)["options"],
        "timings_ms": {},
    }  # fmt: skip
    assert isinstance(decode([PREAMBLE, packed(**header), bytes(64)]).message, messages.Embeddings)
    header["tensor"].update(tensor)
    assert text in str(refusal(PREAMBLE, packed(**{**header, "rows": list(rows)}), bytes(64)))


@pytest.mark.parametrize("message", [messages.ClientHello(2**65, "1"), messages.ClientHello(1, "half \ud800 a pair")])
def test_a_value_without_a_form_on_the_wire_is_refused_at_the_sender(message: messages.Message) -> None:
    with pytest.raises(ProtocolError, match="ClientHello: a value that cannot be sent"):
        encode(message)


@pytest.mark.parametrize("preamble", [b"", b"DOTS", b"DOTS\x02", b"DOTS\x02\x00\x00", b"dots\x02\x00", b"GET / "])
def test_a_first_frame_that_is_no_preamble_is_refused(preamble: bytes) -> None:
    assert "DOTS" in str(refusal(preamble, packed(t=NUMBERS["Ping"])))


@pytest.mark.parametrize(
    "header", [b"", b"\x90", b"\xc0", b"\xc1", b"\x2a", b"\x80\x80", b"\x81\x01\x02", b"\xd6\xff1234"]
)
def test_a_header_that_is_no_map_of_strings_is_refused(header: bytes) -> None:
    assert refusal(PREAMBLE, header).code is ErrorCode.SCHEMA
