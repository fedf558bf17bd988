"""How the encoder tells that memory ran out, and what it tries instead."""

import sys

import pytest
from dotsctl.encoder_worker.plugins.exhaustion import free_bytes, needed_bytes, smaller_chunks
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.protocol.machine.memory import is_exhaustion
from dotsctl.protocol.worker.gpu_faults import is_gpu_fault, is_interrupted, is_refused, note_faults, piece_share
from hypothesis import given
from hypothesis import strategies as st

DOTS = VisionConfig(1536, 1536, 4224, 42, 12, 1e-5, False, True)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[malloc] Unable to allocate 1073741824 bytes."),
        RuntimeError("[malloc_or_wait] Unable to allocate 1073741824 bytes."),
        RuntimeError(
            "[metal::malloc] Attempting to allocate 48736917632 bytes which is greater than the maximum allowed "
            "buffer size of 30150672384 bytes."
        ),
        RuntimeError("[metal::malloc] Resource limit (499000) exceeded."),
        RuntimeError(
            "[METAL] Command buffer execution failed: Insufficient Memory "
            "(00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"
        ),
        RuntimeError("cudaMallocManaged failed: out of memory."),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_the_error_of_mlx_when_it_cannot_allocate_is_recognised(error: Exception) -> None:
    assert is_exhaustion(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[METAL] Command buffer execution failed: Impacting Interactivity"),
        RuntimeError("There is no Stream(gpu, 1) in current thread."),
        ValueError("[malloc] Unable to allocate 1 bytes."),
    ],
)
def test_another_fault_is_not_mistaken_for_exhaustion(error: Exception) -> None:
    assert not is_exhaustion(error)


METAL = "[METAL] Command buffer execution failed: "


@pytest.mark.parametrize(
    "text",
    [
        "Caused GPU Timeout Error (00000002:kIOGPUCommandBufferCallbackErrorTimeout)",
        "Caused GPU Hang Error (00000003:kIOGPUCommandBufferCallbackErrorHang)",
        "Impacting Interactivity (0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)",
        "Discarded (victim of GPU error/recovery) (00000005:kIOGPUCommandBufferCallbackErrorInnocentVictim)",
        "Impacting Interactivity",
    ],
)
def test_a_computation_that_macos_ended_is_no_exhaustion_and_needs_a_new_process(text: str) -> None:
    error = RuntimeError(METAL + text)
    assert is_interrupted(error) and is_gpu_fault(error) and not is_refused(error) and not is_exhaustion(error)
    assert not is_interrupted(ValueError(METAL + text))


def test_a_gpu_that_ignores_this_process_is_distinguished_from_one_that_ended_a_computation() -> None:
    text = (
        "Ignored (for causing prior/excessive GPU errors) (00000004:kIOGPUCommandBufferCallbackErrorSubmissionsIgnored)"
    )
    error = RuntimeError(METAL + text)
    assert is_refused(error) and is_gpu_fault(error) and not is_interrupted(error) and not is_exhaustion(error)


@pytest.mark.parametrize(("faults", "share"), [(0, 1.0), (1, 1.0), (2, 0.25), (3, 0.0625)])
def test_pieces_of_work_become_smaller_at_the_second_fault(faults: int, share: float) -> None:
    note_faults(faults)
    try:
        assert piece_share() == share
    finally:
        note_faults(0)


@pytest.mark.parametrize(
    ("chunk", "patches", "expected"),
    [
        (256, 4000, [256, 128, 64]),
        (0, 1000, [0, 500, 250, 125, 64]),
        (1024, 300, [1024, 150, 75, 64]),
        (0, 40, [0]),
        (16, 4000, [16]),
    ],
)
def test_chunks_are_halved_down_to_64(chunk: int, patches: int, expected: list[int]) -> None:
    assert list(smaller_chunks(chunk, patches)) == expected


@given(st.integers(0, 60_000), st.integers(4, 60_000))
def test_each_further_chunk_needs_less_memory_than_the_one_before(chunk: int, patches: int) -> None:
    needs = [needed_bytes(DOTS, patches, size) for size in smaller_chunks(chunk, patches)]
    assert needs == sorted(needs, reverse=True)
    assert len(set(needs)) == len(needs)


def test_the_estimate_covers_what_was_measured() -> None:
    """Bytes of ``mx.get_peak_memory`` above the weights, true width, float32, Linux, November 2026."""
    measured_mib = {(1024, 0): 242, (1024, 256): 160, (4000, 64): 600, (4000, 256): 623, (4000, 1000): 724}
    for (patches, chunk), mib in measured_mib.items():
        assert mib <= needed_bytes(DOTS, patches, chunk) / 2**20 <= 1.5 * mib


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_free_memory_is_known_under_linux() -> None:
    free = free_bytes()
    assert free is not None
    assert 1 << 20 < free < 1 << 50
