"""How the tower's work is cut into submissions to a GPU."""

from dataclasses import dataclass

import pytest
from dotsctl.encoder_worker.plugins.gpu_pace import FIRST_FLOP, ROWS_STEP, TARGET_S, GpuPace
from hypothesis import given
from hypothesis import strategies as st


@dataclass
class Gpu:
    """A GPU of some speed, and its clock."""

    flop_per_s: float
    overhead_s: float = 0.0003
    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def compute(self, flop: float) -> None:
        self.now += self.overhead_s + flop / self.flop_per_s


def layers(pace: GpuPace, gpu: Gpu, number: int, rows: int = 8640, flop_a_row: float = 9e7) -> list[float]:
    """Compute some layers; the seconds of each submission."""
    found = []
    for _ in range(number):
        for piece in pace.pieces(rows, flop_a_row):
            flop, before = (piece.stop - piece.start) * flop_a_row, gpu.now
            pace.timed(flop, lambda flop=flop: gpu.compute(flop))  # type: ignore[misc]
            found.append(gpu.now - before)
    return found


@pytest.mark.parametrize("flop_per_s", [3e11, 1.3e12, 5e12, 2e13])
def test_submissions_come_to_50_ms_whatever_the_speed(flop_per_s: float) -> None:
    gpu = Gpu(flop_per_s)
    pace = GpuPace(timer=gpu)
    layers(pace, gpu, 10)
    times = layers(pace, gpu, 20)
    assert max(times) < 1.6 * TARGET_S
    assert sum(times) / len(times) > 0.5 * TARGET_S


def test_the_first_submissions_are_short_on_the_slowest_mac() -> None:
    gpu = Gpu(1e12)
    assert max(layers(GpuPace(timer=gpu), gpu, 1)) < 1.6 * TARGET_S


def test_a_gpu_that_becomes_slower_gets_smaller_submissions() -> None:
    gpu = Gpu(4e12)
    pace = GpuPace(timer=gpu)
    layers(pace, gpu, 20)
    before, gpu.flop_per_s = pace.flop, 1e12
    layers(pace, gpu, 20)
    assert pace.flop == pytest.approx(before / 4, rel=0.2)
    assert max(layers(pace, gpu, 5)) < 1.6 * TARGET_S


def test_half_the_time_makes_pieces_of_half_the_size() -> None:
    assert GpuPace(TARGET_S / 2).flop == FIRST_FLOP / 2


def test_a_piece_has_no_more_rows_than_are_allowed() -> None:
    pace = GpuPace()
    assert [piece.stop - piece.start for piece in pace.pieces(250, 1e6, 100)] == [100, 100, 50]
    assert {piece.stop - piece.start for piece in pace.pieces(12_800, FIRST_FLOP / 128, 1000)} == {128}


def test_a_tiny_submission_says_nothing_about_the_speed() -> None:
    gpu = Gpu(1e12, overhead_s=0.01)
    pace = GpuPace(timer=gpu)
    pace.timed(1e6, lambda: gpu.compute(1e6))
    assert pace.flop == FIRST_FLOP


@given(
    num_rows=st.integers(1, 60_000),
    flop_a_row=st.floats(1e3, 1e12),
    speed=st.floats(1e9, 1e14),
    target=st.floats(0.001, 1),
)
def test_pieces_cover_all_rows_once_and_in_order(num_rows: int, flop_a_row: float, speed: float, target: float) -> None:
    gpu = Gpu(speed)
    pace = GpuPace(target, timer=gpu)
    end = 0
    for piece in pace.pieces(num_rows, flop_a_row):
        assert piece.start == end < piece.stop
        assert piece.stop == num_rows or (piece.stop - piece.start) % ROWS_STEP == 0
        pace.timed((piece.stop - piece.start) * flop_a_row, lambda: gpu.compute(1e9))
        end = piece.stop
    assert end == num_rows
