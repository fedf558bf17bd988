"""Which of two encoders is taken: judged by the seconds between finished pages of a full pipeline."""

from dotsctl.client.runtime.throughput import SAMPLES, Pace, compare, page_s
from dotsctl.protocol.machine.measured_costs import Preference
from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

NAMES = ("first", "other")
speeds = st.floats(0.1, 1000)


def judge(first: Pace, other: Pace, tokens: float = 800, free: float | None = 100) -> Preference | None:
    return compare(NAMES, (first, other), 8640, tokens, free)


def pace(encode_s: float, tokens_per_s: float | None, pages: int = SAMPLES) -> Pace:
    return Pace((encode_s,) * pages, tokens_per_s)


@given(st.floats(0.01, 100), st.integers(1, 5000), speeds)
def test_on_different_devices_a_page_takes_the_longer_half(encode_s: float, tokens: int, speed: float) -> None:
    assert page_s(encode_s, speed, tokens, speed) == approx(max(encode_s, tokens / speed))


@given(st.floats(0.01, 100), st.integers(1, 5000), speeds)
def test_on_one_device_that_does_one_thing_at_a_time_a_page_takes_both(
    encode_s: float, tokens: int, speed: float
) -> None:
    assert page_s(encode_s, 0.0, tokens, speed) == approx(encode_s + tokens / speed)


@given(st.floats(0.01, 100), speeds, st.floats(0, 1), st.integers(1, 5000))
def test_a_decoder_that_slows_down_meanwhile_costs_between_the_two(
    encode_s: float, speed: float, share: float, tokens: int
) -> None:
    seconds = page_s(encode_s, share * speed, tokens, speed)
    overlapped, apart = max(encode_s, tokens / speed), encode_s + tokens / speed
    assert overlapped * (1 - 1e-9) <= seconds <= apart * (1 + 1e-9)


def test_an_encoder_that_is_slower_alone_is_taken_where_it_leaves_the_decoder_alone() -> None:
    """The case that the Neural Engine is for: 10 s beside the decoder beat 6 s that stop it."""
    found = judge(pace(6.0, 0.0), pace(10.0, 95.0), tokens=800, free=100)
    assert found is not None and found.is_faster
    assert (found.page_s, found.instead_page_s) == (approx(10.0), approx(14.0))
    assert (found.encoder, found.instead_of, found.patches) == ("other", "first", 8640)


def test_an_encoder_that_is_slower_than_the_whole_page_is_not_taken() -> None:
    found = judge(pace(1.0, 0.0), pace(12.0, 100.0), tokens=800)
    assert found is not None and not found.is_faster


def test_a_gain_within_the_noise_is_no_gain() -> None:
    found = judge(pace(10.0, 100.0), pace(9.9, 100.0), tokens=800)
    assert found is not None and not found.is_faster


def test_without_enough_figures_of_both_there_is_no_judgement() -> None:
    good = pace(1.0, 100.0)
    for poor in (pace(1.0, 100.0, SAMPLES - 1), pace(1.0, None), pace(1.0, 100.0, 0)):
        assert judge(good, poor) is None
        assert judge(poor, good) is None
    assert judge(pace(1.0, 0.0), pace(1.0, 0.0), free=None) is None


def test_one_page_that_took_very_long_decides_nothing() -> None:
    found = judge(pace(20.0, 100.0), Pace((5.0, 5.0, 5.0, 500.0), 100.0), tokens=800)
    assert found is not None and found.is_faster


def test_a_decoder_that_was_never_free_is_judged_by_its_speed_beside_the_encoders() -> None:
    found = judge(pace(20.0, 100.0), pace(10.0, 100.0), tokens=500, free=None)
    assert found is not None and (found.page_s, found.instead_page_s) == (10.0, 20.0)
