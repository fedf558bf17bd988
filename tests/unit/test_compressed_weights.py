"""Small integers and palettes in place of weights, and small integers in a stream of bits."""

import numpy as np
import pytest
from dotsctl.encoder_worker.coreml.package import unpack
from dotsctl.tools.coreml.compressed_weights import Scaled, palette, scaled_int4, scaled_int8
from hypothesis import given, settings
from hypothesis import strategies as st


def weights(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(rows, columns)) * rng.uniform(0.01, 1, (rows, 1))).astype(np.float32)


def restored(stored: Scaled) -> np.ndarray:
    return stored.levels * np.repeat(stored.scales, stored.levels.shape[1] // stored.scales.shape[1], axis=1)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.sampled_from([1, 7, 28, 64, 588]), st.integers(0, 100))
def test_no_weight_is_further_from_its_level_of_8_bits_than_half_a_step(rows: int, columns: int, seed: int) -> None:
    matrix = weights(rows, columns, seed)
    for stored in (scaled_int8(matrix, False), scaled_int8(matrix, True)):
        top = 127
        assert np.abs(stored.levels.astype(int)).max() <= top
        step = np.repeat(stored.scales, columns // stored.scales.shape[1], axis=1)
        # A scale is rounded to float16, a small one to a multiple of 2^-24, so the largest weight may lie a little
        # beyond the last level.
        assert (np.abs(restored(stored) - matrix) <= step * (0.5 + top * 2**-11) + top * 2.0**-25).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.sampled_from([1, 7, 28, 64, 588]), st.integers(0, 100))
def test_4_bits_lose_no_more_than_with_the_scale_that_spares_the_largest_weight(
    rows: int, columns: int, seed: int
) -> None:
    matrix = weights(rows, columns, seed)
    stored = scaled_int4(matrix)
    assert stored.levels.min() >= -8 and stored.levels.max() <= 7
    blocks = matrix.reshape(*stored.scales.shape, -1)
    plain = np.abs(blocks).max(axis=2, keepdims=True) / 7
    rounded = np.rint(blocks / plain) * plain
    lost, lost_before = (np.square(each - blocks).sum() for each in (restored(stored).reshape(blocks.shape), rounded))
    assert lost <= lost_before * 1.01 + np.square(matrix).sum() * 2**-20  # a scale is rounded to float16


def test_4_bits_lose_9_percent_of_gaussian_weights() -> None:
    matrix = np.random.default_rng(0).normal(size=(400, 416)).astype(np.float32)
    error = np.linalg.norm(restored(scaled_int4(matrix)) - matrix) / np.linalg.norm(matrix)
    assert 0.08 < error < 0.09  # 0.097 with the scale that spares the largest weight of each block


def test_scales_are_for_a_row_for_everything_or_for_a_block_that_divides_the_columns() -> None:
    matrix = weights(6, 588)
    assert scaled_int8(matrix, per_tensor=False).scales.shape == (6, 1)
    assert scaled_int8(matrix, per_tensor=True).scales.shape == (1, 1)
    assert scaled_int4(matrix).scales.shape == (6, 588 // 28)
    assert scaled_int4(weights(6, 1536)).scales.shape == (6, 1536 // 32)


def test_a_matrix_of_zeros_stays_one() -> None:
    zeros = np.zeros((4, 32), np.float32)
    for stored in (scaled_int8(zeros, False), scaled_int8(zeros, True), scaled_int4(zeros)):
        assert not restored(stored).any()
    assert not palette(zeros).colours[palette(zeros).indices].any()


def test_each_weight_takes_the_nearest_colour() -> None:
    matrix = weights(40, 50).astype(np.float16).astype(np.float32)
    stored = palette(matrix)
    assert stored.colours.shape == (64,)
    assert (np.diff(stored.colours) >= 0).all()
    nearest = np.abs(matrix[:, :, None] - stored.colours).min(axis=2)
    assert np.allclose(np.abs(matrix - stored.colours[stored.indices]), nearest, atol=1e-7)


def test_64_colours_restore_gaussian_weights_to_2_6_percent() -> None:
    matrix = np.random.default_rng(0).normal(size=(400, 400)).astype(np.float32)
    stored = palette(matrix)
    error = np.linalg.norm(stored.colours[stored.indices] - matrix) / np.linalg.norm(matrix)
    assert 0.02 < error < 0.026


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([4, 6]), st.booleans(), st.data())
def test_packed_integers_are_read_lowest_bits_first(bits: int, signed: bool, data: st.DataObject) -> None:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    values = data.draw(st.lists(st.integers(low, high), min_size=1, max_size=30))
    number = sum((value % 2**bits) << (bits * place) for place, value in enumerate(values))
    packed = np.frombuffer(number.to_bytes(-(-bits * len(values) // 8), "little"), np.uint8)
    assert unpack(packed, bits, len(values), signed=signed).tolist() == values


def test_int4_levels_use_the_low_nibble_first() -> None:
    packed = np.array([0x21, 0xF8], np.uint8)
    assert unpack(packed, 4, 4, signed=True).tolist() == [1, 2, -8, -1]
    assert unpack(packed, 4, 3, signed=False).tolist() == pytest.approx([1, 2, 8])
