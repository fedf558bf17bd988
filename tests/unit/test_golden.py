"""The limits of golden embeddings."""

import math

import numpy as np
import pytest
from dotsctl.encoder_worker.coreml.golden import GOLDEN_COSINE, GOLDEN_ERROR, WORST_COSINE, judge
from dotsctl.tools.dev.noise.main import noise_length, perturbed
from dotsctl.tools.measuring.distance import Distance
from hypothesis import given, settings
from hypothesis import strategies as st

RNG = np.random.default_rng(3)
GOLDEN = RNG.normal(size=(40, 64)).astype(np.float32) * RNG.uniform(0.1, 10, size=(40, 1)).astype(np.float32)


@settings(max_examples=30)
@given(st.floats(0.01, 0.9999), st.integers(0, 2**32))
def test_noise_has_the_requested_cosine_at_every_token(cosine: float, seed: int) -> None:
    found = perturbed(GOLDEN, cosine, np.random.default_rng(seed))
    assert judge(found, GOLDEN)[0] == pytest.approx(cosine, abs=1e-6)
    error = np.linalg.norm(found - GOLDEN, axis=1) / np.linalg.norm(GOLDEN, axis=1)
    assert error == pytest.approx(noise_length(cosine), rel=1e-4)
    assert found.dtype == np.float32


def test_tokens_without_a_direction_stay_as_they_are() -> None:
    assert not perturbed(np.zeros((2, 8), np.float32), 0.5, np.random.default_rng(0)).any()


@pytest.mark.parametrize(("distance", "expected"), [(0.9, True), (1.1, False)])
def test_the_mean_over_tokens_decides(distance: float, expected: bool) -> None:
    cosine = 1 - distance * (1 - GOLDEN_COSINE)
    cosines, near = judge(perturbed(GOLDEN, cosine, np.random.default_rng(1)), GOLDEN)
    assert near is expected
    assert cosines.shape == (40,) and cosines == pytest.approx(cosine, abs=1e-6)


@pytest.mark.parametrize(("distance", "expected"), [(0.9, True), (1.1, False)])
def test_one_bad_token_among_many_good_ones_is_found(distance: float, expected: bool) -> None:
    many = np.repeat(GOLDEN, 10, axis=0)
    found = many.copy()
    found[7] = perturbed(many[7:8], 1 - distance * (1 - WORST_COSINE), np.random.default_rng(1))[0]
    assert judge(found, many)[0].mean() > GOLDEN_COSINE
    assert judge(found, many)[1] is expected


@pytest.mark.parametrize(("factor", "expected"), [(1 + 0.9 * GOLDEN_ERROR, True), (1 + 1.1 * GOLDEN_ERROR, False)])
def test_a_wrong_scale_is_found_though_cosines_do_not_see_it(factor: float, expected: bool) -> None:
    cosines, near = judge(GOLDEN.astype(np.float64) * factor, GOLDEN)
    assert cosines == pytest.approx(1)
    assert near is expected


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_token_that_is_not_finite_is_the_worst(value: float) -> None:
    found = GOLDEN.copy()
    found[3, 5] = value
    cosines, near = judge(found, GOLDEN)
    assert not near
    assert cosines[3] == 0 and np.delete(cosines, 3) == pytest.approx(1)


def test_tokens_of_zeros_on_both_sides_are_the_same_and_on_one_side_are_not() -> None:
    zeroed = GOLDEN.copy()
    zeroed[0] = 0
    assert judge(zeroed, zeroed)[0][0] == 1
    assert judge(zeroed, zeroed)[1]
    assert judge(GOLDEN, zeroed)[0][0] == 0
    assert not judge(GOLDEN, zeroed)[1]


def test_float16_of_the_largest_numbers_is_judged() -> None:
    large = np.full((2, 64), 65504, np.float16)
    assert judge(large, large)[1]


def test_other_shapes_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match=r"\(39, 64\).*\(40, 64\)"):
        judge(GOLDEN[1:], GOLDEN)


def test_a_distance_is_relative_to_the_reference() -> None:
    found = Distance.between(2 * GOLDEN, GOLDEN)
    assert (found.cosine_median, found.cosine_min) == pytest.approx((1, 1))
    assert found.relative_error == pytest.approx(1)
    bits = (GOLDEN.view(np.uint32) >> 16).astype(np.uint16)  # as bfloat16 is held
    assert 1e-4 < Distance.between(bits, GOLDEN).relative_error < 1e-2
