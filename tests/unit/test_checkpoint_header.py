"""Headers of .safetensors files, whole and hostile."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.model.safetensors_header import MOST_HEADER_BYTES, StoredTensor, read_header, shown
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Entries = dict[str, dict[str, Any]]
GOOD: Entries = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]},
    "c": {"dtype": "I8", "shape": [0, 5], "data_offsets": [26, 26]},
}


def stored(folder: Path, header: object, content: bytes = bytes(26), length: int | None = None) -> Path:
    """A file with this header; bytes are taken as they are."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "x.safetensors"
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + content)
    return path


def test_tensors_have_their_type_shape_and_place_in_the_file(tmp_path: Path) -> None:
    path = stored(tmp_path, {"__metadata__": {"format": "pt"}} | GOOD)
    base = path.stat().st_size - 26
    assert read_header(path) == {
        "a": StoredTensor("F32", (2, 3), base, base + 24),
        "b": StoredTensor("BF16", (), base + 24, base + 26),
        "c": StoredTensor("I8", (0, 5), base + 26, base + 26),
    }


def test_a_file_of_the_formats_own_library_is_read(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.numpy").save_file
    arrays = {"one": np.arange(6, dtype=np.float16).reshape(2, 3), "two": np.arange(5, dtype=np.int64)}
    save_file(arrays, tmp_path / "x.safetensors")
    content = (tmp_path / "x.safetensors").read_bytes()
    for name, tensor in read_header(tmp_path / "x.safetensors").items():
        assert tensor.shape == arrays[name].shape
        assert content[tensor.start : tensor.end] == arrays[name].tobytes()


def test_the_tensors_themselves_are_not_read(tmp_path: Path) -> None:
    """A file of 1 TB, of which the disk holds one block."""
    size_bytes = 1 << 40
    path = stored(tmp_path, {"a": {"dtype": "U8", "shape": [size_bytes], "data_offsets": [0, size_bytes]}}, b"")
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size + size_bytes)
    assert read_header(path)["a"].size_bytes == size_bytes


def without(key: str) -> Entries:
    return GOOD | {"a": {name: value for name, value in GOOD["a"].items() if name != key}}


def changed(**values: object) -> Entries:
    return GOOD | {"a": GOOD["a"] | values}


HOSTILE: dict[str, tuple[object, str]] = {
    "no JSON": (b"{nonsense", "header is not JSON"),
    "no text": (b"\xff\xfe{}", "header is not JSON"),
    "nested without end": (b"[" * 100_000, "header is not JSON"),
    "a number without end": (b'{"a":' + b"9" * 10_000 + b"}", "header is not JSON"),
    "a list": ([], "holds a list"),
    "one name twice": (json.dumps(GOOD)[:-1].encode() + b', "a": {}}', "a name stands in it twice"),
    "an entry that is a list": (GOOD | {"a": []}, "a must have dtype, shape and data_offsets"),
    "no type": (without("dtype"), "a must have dtype"),
    "no shape": (without("shape"), "a must have dtype"),
    "no place": (without("data_offsets"), "a must have dtype"),
    "an extra key": (changed(more=1), "and nothing else"),
    "an unknown type": (changed(dtype="F12"), "unknown type F12"),
    "a type that is a list": (changed(dtype=["F32"]), "unknown type"),
    "a negative size": (changed(shape=[-2, -3]), "no valid shape"),
    "a broken size": (changed(shape=[2.0, 3]), "no valid shape"),
    "a size that is a truth value": (changed(shape=[True, 6]), "no valid shape"),
    "a size above all integers": (changed(shape=[1 << 63, 0]), "no valid shape"),
    "too many axes": (changed(shape=[1] * 9), "no valid shape"),
    "three offsets": (changed(data_offsets=[0, 24, 24]), "no valid data_offsets"),
    "an offset before the tensors": (changed(data_offsets=[-4, 20]), "no valid data_offsets"),
    "offsets that do not fit the shape": (changed(data_offsets=[0, 20]), "has 20 bytes, its shape"),
    "offsets in the wrong order": (changed(data_offsets=[24, 0]), "has -24 bytes"),
    "a place behind the end": (changed(data_offsets=[8, 32]), "is cut off.*a is truncated"),
    "a place far behind the end": (changed(data_offsets=[1 << 62, (1 << 62) + 24]), "is cut off"),
    "an overlap": (GOOD | {"d": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}, "an overlap at"),
    "a gap in front": ({"a": {"dtype": "U8", "shape": [20], "data_offsets": [6, 26]}}, "a gap before a"),
    "a gap between": (GOOD | {"b": {"dtype": "U8", "shape": [1], "data_offsets": [25, 26]}}, "a gap before b"),
    "bytes that belong to nothing": ({"a": GOOD["a"]}, "has .* bytes, its header describes"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_header_that_breaks_the_format_is_refused_with_the_file_and_a_remedy(tmp_path: Path, kind: str) -> None:
    header, words = HOSTILE[kind]
    with pytest.raises(MissingError, match=rf"(?s)x\.safetensors is not a complete.*{words}.*download it again"):
        read_header(stored(tmp_path, header))


@pytest.mark.parametrize("length", [0, 1, 10_000, MOST_HEADER_BYTES + 1, 1 << 40, (1 << 64) - 1])
def test_a_wrong_length_of_the_header_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(MissingError, match="is not a complete"):
        read_header(stored(tmp_path, GOOD, length=length))


@pytest.mark.parametrize("size_bytes", [0, 1, 7])
def test_a_file_of_a_few_bytes_is_refused(tmp_path: Path, size_bytes: int) -> None:
    (tmp_path / "x.safetensors").write_bytes(bytes(size_bytes))
    with pytest.raises(MissingError, match=f"it has {size_bytes} bytes"):
        read_header(tmp_path / "x.safetensors")


def test_a_pointer_of_git_lfs_is_distinguished_from_a_broken_file(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(MissingError, match="git lfs pull"):
        read_header(tmp_path / "x.safetensors")


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").mkdir()
    with pytest.raises(MissingError, match="cannot be read"):
        read_header(tmp_path / "x.safetensors")


def test_names_in_messages_are_short_and_printable() -> None:
    assert shown("model.norm.weight") == "model.norm.weight"
    assert shown("a\x1b[31m\n") == "'a\\x1b[31m\\n'"
    assert len(shown("x" * 5000)) == 100


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_and_never_another_error(tmp_path: Path, content: bytes) -> None:
    for write in (raw, as_header):
        write(tmp_path, content)
        try:
            read_header(tmp_path / "x.safetensors")
        except MissingError as error:
            assert str(tmp_path / "x.safetensors") in str(error)


def raw(folder: Path, content: bytes) -> None:
    (folder / "x.safetensors").write_bytes(content)


def as_header(folder: Path, content: bytes) -> None:
    stored(folder, content)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(["dtype", "shape", "data_offsets"]), value=JSON_VALUES)
def test_any_json_value_in_an_entry_is_read_or_refused(tmp_path: Path, key: str, value: object) -> None:
    try:
        read_header(stored(tmp_path, changed(**{key: value})))
    except MissingError as error:
        assert "x.safetensors" in str(error)
