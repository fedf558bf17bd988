"""Arrays to headers and frames and back."""

from typing import Any

import numpy as np
import pytest
from dotsctl.protocol import messages, parts
from dotsctl.protocol.codec import decode, encode
from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.parts import FRAME_BYTES, MAX_EMBEDDINGS, TensorHeader
from dotsctl.protocol.tensor import NUMPY_DTYPES, assemble, check_finite, describe
from numpy.typing import NDArray

GEOMETRY = PageGeometry((28, 28), 1, (28, 28), (1.0, 1.0), (0.0, 0.0))
OPTIONS = parts.PageOptions("text", None, None, None)


def matrix(dtype: str, rows: int, columns: int) -> NDArray[Any]:
    values = np.random.default_rng(7).integers(0, 0x7F00, (rows, columns))
    return values.astype(NUMPY_DTYPES[dtype])


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "bf16"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 7), (1400, 1536), (2048, 2048)])
def test_an_array_is_the_same_behind_the_wire(dtype: str, rows: int, columns: int) -> None:
    sent = matrix(dtype, rows, columns)
    header = describe(sent, dtype)
    message = messages.Embeddings(
        request_id=1,
        attempt=1,
        tensor=header,
        rows=(rows,),
        geometries=(GEOMETRY,),
        options=OPTIONS,
        timings_ms={},
    )
    frames = encode(message, [sent.data])
    assert len(frames) == 2 + -(-sent.nbytes // FRAME_BYTES)
    received = assemble(header, decode(frames).buffers)
    assert received.dtype == sent.dtype
    assert np.array_equal(received, sent)


def test_an_assembled_array_is_a_copy_that_outlives_its_frames() -> None:
    frame = bytearray(np.arange(4, dtype="<f4").tobytes())
    received = assemble(TensorHeader("<f4", (2, 2), 16), [memoryview(frame)[:5], memoryview(frame)[5:]])
    frame[:] = bytes(16)
    assert received.tolist() == [[0.0, 1.0], [2.0, 3.0]]


@pytest.mark.parametrize(
    ("values", "dtype", "text"),
    [
        (np.zeros((2, 3), "<f4"), "<f2", "float32, announced as '<f2'"),
        (np.zeros((2, 3), "<f8"), "<f8", "float64, announced as '<f8'"),
        (np.zeros((2, 3), "<f2"), "bf16", "float16, announced as 'bf16'"),
        (np.zeros((2, 3), ">f4"), "<f4", "announced as '<f4'"),
        (np.zeros(6, "<f4"), "<f4", "shape (6,) are not a contiguous matrix"),
        (np.zeros((1, 2, 3), "<f4"), "<f4", "not a contiguous matrix"),
        (np.zeros((2, 6), "<f4")[:, ::2], "<f4", "not a contiguous matrix"),
        (np.zeros((3, 2), "<f4").T, "<f4", "not a contiguous matrix"),
        (np.zeros((0, 3), "<f4"), "<f4", "shape[0] 0 is not 1 to"),
        (np.zeros((2, 0), "<f4"), "<f4", "shape[1] 0 is not 1 to"),
        (np.zeros((MAX_EMBEDDINGS + 1, 1), "<f2"), "<f2", "shape[0] 57601"),
    ],
)
def test_arrays_that_cannot_be_sent_fail_their_page(values: NDArray[Any], dtype: str, text: str) -> None:
    with pytest.raises(PageError) as caught:
        describe(values, dtype)
    assert text in str(caught.value)
    assert caught.value.code is ErrorCode.BAD_EMBED


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
def test_values_that_are_not_finite_fail_their_page(bad: float, dtype: str) -> None:
    values = np.zeros((4, 5), dtype)
    values[2, 3] = values[0, 0] = bad
    with pytest.raises(PageError, match="2 of 20 embedding values are not finite") as caught:
        describe(values, dtype)
    assert caught.value.code is ErrorCode.BAD_EMBED


@pytest.mark.parametrize("bits", [0x7F80, 0xFF80, 0x7FC0, 0x7F81, 0xFFFF])
def test_bfloat16_that_is_not_finite_is_found_in_its_bits(bits: int) -> None:
    values = np.zeros((4, 5), np.uint16)
    values[1, 1] = bits
    with pytest.raises(PageError, match="1 of 20"):
        describe(values, "bf16")


def test_every_finite_bfloat16_passes() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    finite = np.isfinite((bits.astype(np.uint32) << 16).view(np.float32))
    check_finite(bits[finite])
    for value in bits[~finite]:
        with pytest.raises(PageError):
            check_finite(value.reshape(1, 1))
