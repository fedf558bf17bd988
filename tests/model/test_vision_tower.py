"""The MLX tower against one written in NumPy with float64, from the formulas alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dotsctl.encoder_worker.plugins.gpu_pace import GpuPace
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.tools.reference.exact_tower import ExactTower

mx = pytest.importorskip("mlx.core")

pytestmark = pytest.mark.model
Tensors = dict[str, np.ndarray]


class Held:
    """Tensors of a test in place of a checkpoint's."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors

    def get(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        return self._tensors[f"vision_tower.{name}"].reshape(shape)


def numpy_tower(patches: np.ndarray, grid: tuple[int, int], tensors: Tensors) -> np.ndarray:
    config = VisionConfig(
        64, 48, 96, num_hidden_layers=2, num_attention_heads=4, rms_norm_eps=1e-5, use_bias=False, post_norm=True
    )
    return ExactTower(Held(tensors), config).embeddings(patches, grid)


def tower(folder: Path, dtype: Any = mx.float32, compile_elementwise: bool = False) -> Any:
    from dotsctl.encoder_worker.plugins.vision_weights import load_tower
    from dotsctl.protocol.model.checkpoint import read_json, tensor_files
    from dotsctl.protocol.parts import Role

    config = VisionConfig.from_json(read_json(folder, "config.json")["vision_config"])
    files = [str(file) for file in tensor_files(folder, Role.ENCODER)]
    return load_tower(config, files, dtype, compile_elementwise)


def random_patches(grid: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(grid[0] * grid[1], 588)).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def on_the_cpu() -> Any:
    """Float32 products of a GPU may be less exact."""
    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(before)


@pytest.mark.parametrize("grid", [(2, 2), (4, 6), (10, 4)])
def test_the_tower_equals_the_formulas(model: Path, tensors: Tensors, grid: tuple[int, int]) -> None:
    patches = random_patches(grid)
    expected = numpy_tower(patches, grid, tensors)
    found = np.array(tower(model)(mx.array(patches), [grid]))
    assert found.shape == (grid[0] * grid[1] // 4, 48)
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_the_tower_equals_the_formulas_where_values_are_so_small_that_each_epsilon_counts(
    tensors: Tensors, write_model: Callable[..., Path]
) -> None:
    small = {
        name: tensor * (0.003 if name.endswith(("post_trunk_norm.weight", "patch_embed.patchifier.norm.weight")) else 1)
        for name, tensor in tensors.items()
    }
    small = {name: tensor.astype(np.float32) for name, tensor in small.items()}
    patches = random_patches((4, 4))
    expected = numpy_tower(patches, (4, 4), small)
    found = np.array(tower(write_model(tensors=small))(mx.array(patches), [(4, 4)]))
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("query_chunk", [1, 7, 24, 100])
def test_attention_in_chunks_equals_attention_at_once(model: Path, query_chunk: int) -> None:
    patches = mx.array(random_patches((4, 6)))
    made = tower(model)
    whole = np.array(made(patches, [(4, 6)]))
    assert np.abs(np.array(made(patches, [(4, 6)], query_chunk)) - whole).max() < 1e-5


@pytest.mark.parametrize("query_chunk", [0, 7, 256])
@pytest.mark.parametrize("grid", [(2, 2), (10, 4), (24, 30)])
def test_attention_in_numpy_equals_that_of_mlx(
    model: Path, monkeypatch: pytest.MonkeyPatch, grid: tuple[int, int], query_chunk: int
) -> None:
    patches = mx.array(random_patches(grid))
    made = tower(model)
    in_numpy = np.array(made(patches, [grid], query_chunk))
    monkeypatch.setattr("dotsctl.encoder_worker.plugins.numpy_attention.applies", lambda x: False)
    in_mlx = np.array(made(patches, [grid], query_chunk))
    assert np.abs(in_numpy - in_mlx).max() < 1e-5 * np.abs(in_mlx).max()
    assert not np.array_equal(in_numpy, in_mlx)  # else one of them was not computed


def test_attention_in_numpy_is_for_float32_on_a_cpu_alone() -> None:
    from dotsctl.encoder_worker.plugins import numpy_attention

    assert numpy_attention.applies(mx.zeros(1))
    assert not any(numpy_attention.applies(mx.zeros(1).astype(dtype)) for dtype in (mx.bfloat16, mx.float16))


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_attention_in_numpy_stands_large_scores(scale: float) -> None:
    from dotsctl.encoder_worker.plugins import numpy_attention

    q, k, v = (mx.array(np.random.default_rng(seed).normal(size=(2, 30, 8)).astype(np.float32)) for seed in range(3))
    expected = np.array(mx.fast.scaled_dot_product_attention(q[None] * scale, k[None], v[None], scale=0.5))[0]
    found = np.array(numpy_attention.attend(q * scale, k, v, 0.5, 7))
    assert np.isfinite(found).all() and np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
@pytest.mark.parametrize("query_chunk", [0, 100])
def test_the_tower_in_short_submissions_gives_the_same(
    model: Path, monkeypatch: pytest.MonkeyPatch, dtype: Any, query_chunk: int
) -> None:
    """In pieces of 64 rows, as on a GPU so slow that no more of them fit into 50 ms."""
    monkeypatch.setattr("dotsctl.encoder_worker.plugins.numpy_attention.applies", lambda x: False)
    patches, grid = mx.array(random_patches((20, 20))).astype(dtype), (20, 20)
    made = tower(model, dtype)
    whole = np.array(made(patches, [grid]).astype(mx.float32))
    submissions: list[float] = []

    class Slow(GpuPace):
        def timed(self, flop: float, compute: Callable[[], None]) -> None:
            submissions.append(flop)
            compute()

    pace = Slow()
    pace.flop = 1.0
    found = np.array(made(patches, [grid], query_chunk, pace).astype(mx.float32))
    assert np.abs(found - whole).max() < (1e-5 if dtype == mx.float32 else 0.05) * np.abs(whole).max()
    assert len(submissions) == 2 * 4 * 6 + 2  # of two layers: qkv, attention, projection, network; and the merger
    assert max(submissions) == 64 * 2 * 256 * (256 + 48)  # 64 rows of the merger


SEVERAL = [(2, 2), (4, 6), (10, 4), (2, 12), (4, 6)]
"""Grids of different sizes, and two of the same with different contents."""


@pytest.fixture(scope="module")
def several() -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    return [rng.normal(size=(height * width, 588)).astype(np.float32) for height, width in SEVERAL]


@pytest.mark.parametrize("query_chunk", [0, 16])
@pytest.mark.parametrize("groups", [[range(5)], [range(2), range(2, 5)], [range(1), range(1, 4), range(4, 5)]])
def test_an_image_gives_the_same_embeddings_whatever_other_images_the_request_has(
    model: Path, several: list[np.ndarray], groups: list[range], query_chunk: int
) -> None:
    made = tower(model)
    alone = np.concatenate(
        [np.array(made(mx.array(patches), [grid])) for patches, grid in zip(several, SEVERAL, strict=True)]
    )
    found = [
        made(mx.array(np.concatenate([several[i] for i in group])), [SEVERAL[i] for i in group], query_chunk)
        for group in groups
    ]
    assert np.abs(np.concatenate([np.array(part) for part in found]) - alone).max() < 1e-5


def test_the_images_of_one_call_equal_the_formulas(model: Path, tensors: Tensors, several: list[np.ndarray]) -> None:
    expected = [numpy_tower(patches, grid, tensors) for patches, grid in zip(several, SEVERAL, strict=True)]
    found = np.array(tower(model)(mx.array(np.concatenate(several)), SEVERAL))
    assert np.abs(found - np.concatenate(expected)).max() < 1e-5 * np.abs(found).max()


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_a_compiled_tower_gives_the_same_for_pages_of_several_sizes(model: Path, dtype: Any) -> None:
    plain, fused = tower(model, dtype), tower(model, dtype, compile_elementwise=True)
    assert fused.blocks[0].mlp.by is not plain.blocks[0].mlp.by
    for grid in [(2, 2), (4, 6), (10, 4)]:
        patches = mx.array(random_patches(grid)).astype(dtype)
        expected, found = (np.array(made(patches, [grid]).astype(mx.float32)) for made in (plain, fused))
        assert np.abs(found - expected).max() < (1e-5 if dtype == mx.float32 else 2e-2) * np.abs(expected).max()


def test_both_layouts_of_the_patch_embedding_load_the_same(
    model: Path, tensors: Tensors, write_model: Callable[..., Path]
) -> None:
    name = "vision_tower.patch_embed.patchifier.proj.weight"
    last = write_model(tensors=tensors | {name: np.ascontiguousarray(tensors[name].transpose(0, 2, 3, 1))})
    patches = mx.array(random_patches((2, 4)))
    assert np.array_equal(np.array(tower(model)(patches, [(2, 4)])), np.array(tower(last)(patches, [(2, 4)])))


def test_a_sharded_snapshot_loads_the_same(model: Path, write_model: Callable[..., Path]) -> None:
    sharded = write_model(shards=3)
    patches = mx.array(random_patches((2, 2)))
    assert np.array_equal(np.array(tower(model)(patches, [(2, 2)])), np.array(tower(sharded)(patches, [(2, 2)])))


def test_the_norm_casts_before_it_multiplies_by_the_weight() -> None:
    import mlx.nn as nn

    rng = np.random.default_rng(2)
    x = mx.array(rng.normal(size=(50, 64)).astype(np.float32)).astype(mx.bfloat16)
    norm = nn.RMSNorm(64, 1e-5)
    norm.weight = mx.array(rng.normal(1, 0.5, 64).astype(np.float32)).astype(mx.bfloat16)
    wide = x.astype(mx.float32)
    scaled = wide * mx.rsqrt(mx.mean(wide * wide, axis=-1, keepdims=True) + 1e-5)
    expected = scaled.astype(mx.bfloat16) * norm.weight
    late = (scaled * norm.weight.astype(mx.float32)).astype(mx.bfloat16)
    assert not mx.array_equal(expected, late)
    assert mx.array_equal(norm(x), expected)


def test_a_tensor_that_is_missing_is_named(tensors: Tensors, write_model: Callable[..., Path]) -> None:
    less = {name: tensor for name, tensor in tensors.items() if name != "vision_tower.merger.ln_q.bias"}
    with pytest.raises(MissingError, match=r"merger\.ln_q\.bias"):
        tower(write_model(tensors=less))


def test_a_tower_of_another_patch_size_is_refused(model: Path) -> None:
    with pytest.raises(UsageError, match="patch_size is 16"):
        VisionConfig.from_json({"patch_size": 16})
