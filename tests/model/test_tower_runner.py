"""What happens to a request when memory runs out, shown with towers that refuse what is too large."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from dotsctl.encoder_worker.plugins import tower_runner
from dotsctl.encoder_worker.plugins.gpu_pace import GpuPace
from dotsctl.encoder_worker.plugins.tower_runner import TowerRunner
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.protocol.errors import ErrorCode, PageError
from dotsctl.protocol.worker.gpu_faults import note_faults

mx = pytest.importorskip("mlx.core")

pytestmark = pytest.mark.model
CONFIG = VisionConfig(64, 588, 96, 2, 4, 1e-5, False, True)
Grid = tuple[int, int]


@dataclass
class Narrow:
    """A tower without mathematics that cannot allocate above a number of patches times queries."""

    room: int
    error: Exception = field(default_factory=lambda: RuntimeError("[malloc] Unable to allocate 4096 bytes."))
    calls: list[tuple[int, int]] = field(default_factory=list)
    """Patches and query chunk of each call."""

    def __call__(self, patches: Any, grids: Sequence[Grid], query_chunk: int, pace: GpuPace | None) -> Any:
        num_patches = len(patches)
        assert num_patches == sum(height * width for height, width in grids)
        self.calls.append((num_patches, query_chunk))
        if num_patches * (query_chunk or num_patches) > self.room:
            raise self.error
        return patches[::4]  # (num_patches / 4, 588)


def runner(tower: Narrow, query_chunk: int = 512, pack_patches: int = 4096, on_gpu: bool = True) -> TowerRunner:
    return TowerRunner(tower, CONFIG, mx.float32, query_chunk, pack_patches, on_gpu)


def images(*grids: Grid) -> tuple[list[np.ndarray], list[Grid]]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(height * width, 588)).astype(np.float32) for height, width in grids], list(grids)


def test_a_page_that_does_not_fit_is_tried_with_fewer_queries_at_a_time_until_it_does() -> None:
    tower = Narrow(room=1024 * 150)
    patches, grids = images((32, 32))
    (found,) = runner(tower).encode(patches, grids)
    assert tower.calls == [(1024, 512), (1024, 256), (1024, 128)]
    assert np.array_equal(found, patches[0][::4])


def test_the_next_page_is_tried_with_the_usual_chunk_again() -> None:
    tower = Narrow(room=1024 * 150)
    made = runner(tower)
    made.encode(*images((32, 32)))
    made.encode(*images((4, 4)))
    assert tower.calls[-1] == (16, 512)


def test_a_page_that_never_fits_fails_with_the_numbers_and_the_remedy() -> None:
    tower = Narrow(room=0, error=MemoryError())
    with pytest.raises(PageError, match=r"1024 patches: about [\d,]+ MiB .* --max-pixels 100352") as caught:
        runner(tower).encode(*images((32, 32)))
    assert caught.value.code is ErrorCode.OOM
    assert [chunk for _, chunk in tower.calls] == [512, 256, 128, 64]


def test_images_that_do_not_fit_together_are_encoded_one_by_one() -> None:
    tower = Narrow(room=20 * 512)
    patches, grids = images((4, 4), (2, 4), (4, 2))
    found = runner(tower).encode(patches, grids)
    assert tower.calls == [(32, 512), (16, 512), (8, 512), (8, 512)]
    assert all(np.array_equal(a, b[::4]) for a, b in zip(found, patches, strict=True))


def test_images_are_packed_up_to_the_option() -> None:
    tower = Narrow(room=1 << 40)
    patches, grids = images((4, 4), (2, 4), (4, 2), (8, 8))
    found = runner(tower, pack_patches=24).encode(patches, grids)
    assert [count for count, _ in tower.calls] == [24, 8, 64]
    assert all(np.array_equal(a, b[::4]) for a, b in zip(found, patches, strict=True))
    assert all(part.flags.c_contiguous for part in found)


WATCHDOG = RuntimeError(
    "[METAL] Command buffer execution failed: Caused GPU Timeout Error "
    "(00000002:kIOGPUCommandBufferCallbackErrorTimeout)"
)


def test_a_computation_that_macos_ended_is_an_error_that_ends_the_process() -> None:
    tower = Narrow(room=0, error=WATCHDOG)
    with pytest.raises(RuntimeError, match="GPU Timeout"):
        runner(tower).encode(*images((32, 32)))
    assert len(tower.calls) == 1


def test_a_refusing_gpu_is_an_error_that_no_smaller_chunk_answers() -> None:
    text = (
        "Ignored (for causing prior/excessive GPU errors) (00000004:kIOGPUCommandBufferCallbackErrorSubmissionsIgnored)"
    )
    tower = Narrow(room=0, error=RuntimeError(text))
    with pytest.raises(RuntimeError, match="SubmissionsIgnored"):
        runner(tower).encode(*images((32, 32)))
    assert len(tower.calls) == 1


@pytest.mark.parametrize("on_gpu", [True, False])
def test_submissions_are_short_on_a_gpu_and_shorter_after_faults(on_gpu: bool) -> None:
    found = []

    def tower(patches: Any, grids: Sequence[Grid], query_chunk: int, pace: GpuPace | None) -> Any:
        found.append(pace.target_s if pace else None)
        return patches[::4]

    for faults in (0, 1, 2):
        note_faults(faults)
        try:
            TowerRunner(tower, CONFIG, mx.float32, 0, 4096, on_gpu).encode(*images((4, 4)))
        finally:
            note_faults(0)
    assert found == ([0.05, 0.05, 0.0125] if on_gpu else [None] * 3)


def test_another_error_is_not_mistaken_for_exhaustion() -> None:
    tower = Narrow(room=0, error=RuntimeError("a fault of the kernel"))
    with pytest.raises(RuntimeError, match="a fault of the kernel"):
        runner(tower).encode(*images((4, 4)))
    assert len(tower.calls) == 1


def test_on_a_cpu_what_cannot_fit_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    tower = Narrow(room=1 << 40)
    limits = {1024: tower_runner.needed_bytes(CONFIG, 1024, 100)}
    monkeypatch.setattr(tower_runner, "free_bytes", lambda: limits[1024])
    mx.clear_cache()
    runner(tower, on_gpu=False).encode(*images((32, 32)))
    assert tower.calls == [(1024, 64)]
    monkeypatch.setattr(tower_runner, "free_bytes", lambda: 1000)
    with pytest.raises(PageError, match="0 MiB are free"):
        runner(tower, on_gpu=False).encode(*images((32, 32)))
    assert len(tower.calls) == 1


def test_where_free_memory_is_unknown_the_page_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tower_runner, "free_bytes", lambda: None)
    tower = Narrow(room=1 << 40)
    runner(tower, on_gpu=False).encode(*images((4, 4)))
    assert tower.calls == [(16, 512)]
