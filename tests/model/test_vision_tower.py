"""The MLX tower against one written in NumPy with float64 and loops, from the formulas alone."""

import io
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dotsctl.encoder_worker.plugin import PageImage
from dotsctl.encoder_worker.plugins.mlx import MLXEncoder
from dotsctl.protocol.errors import MissingError, UsageError
from PIL import Image

mx = pytest.importorskip("mlx.core")

pytestmark = pytest.mark.model
Tensors = dict[str, np.ndarray]
HEADS = 4


def rms_norm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * weight


def positions(grid: tuple[int, int]) -> list[tuple[int, int]]:
    """Row and column of each patch in the order of the input."""
    return [
        (2 * block_row + row, 2 * block_column + column)
        for block_row in range(grid[0] // 2)
        for block_column in range(grid[1] // 2)
        for row in range(2)
        for column in range(2)
    ]


def turn(x: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Rotary embedding of (num_patches, head_dim), pair by pair."""
    half, quarter, out = x.shape[1] // 2, x.shape[1] // 4, x.copy()
    for patch, place in enumerate(positions(grid)):
        for d in range(half):
            angle = place[d // quarter] * 10000.0 ** (-(d % quarter) / quarter)
            a, b = x[patch, d], x[patch, d + half]
            out[patch, d] = a * math.cos(angle) - b * math.sin(angle)
            out[patch, d + half] = b * math.cos(angle) + a * math.sin(angle)
    return out


def block(x: np.ndarray, t: Tensors, name: str, grid: tuple[int, int]) -> np.ndarray:
    n = rms_norm(x, t[f"{name}.norm1.weight"])
    width = x.shape[1]
    dim = width // HEADS
    qkv = n @ t[f"{name}.attn.qkv.weight"].T
    heads = []
    for head in range(HEADS):
        q, k, v = (qkv[:, part * width + head * dim :][:, :dim] for part in range(3))
        scores = turn(q, grid) @ turn(k, grid).T / math.sqrt(dim)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        heads.append(weights / weights.sum(-1, keepdims=True) @ v)
    x = x + np.concatenate(heads, -1) @ t[f"{name}.attn.proj.weight"].T
    n = rms_norm(x, t[f"{name}.norm2.weight"])
    gate = n @ t[f"{name}.mlp.fc1.weight"].T
    inner = gate / (1 + np.exp(-gate)) * (n @ t[f"{name}.mlp.fc3.weight"].T)
    return x + inner @ t[f"{name}.mlp.fc2.weight"].T


def numpy_tower(patches: np.ndarray, grid: tuple[int, int], tensors: Tensors) -> np.ndarray:
    t = {name.removeprefix("vision_tower."): tensor.astype(np.float64) for name, tensor in tensors.items()}
    weight = t["patch_embed.patchifier.proj.weight"].reshape(-1, 588)
    x = patches.astype(np.float64) @ weight.T + t["patch_embed.patchifier.proj.bias"]
    x = rms_norm(x, t["patch_embed.patchifier.norm.weight"])
    for index in range(2):
        x = block(x, t, f"blocks.{index}", grid)
    x = rms_norm(x, t["post_trunk_norm.weight"])
    centred = x - x.mean(-1, keepdims=True)
    x = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * t["merger.ln_q.weight"]
    x = (x + t["merger.ln_q.bias"]).reshape(len(x) // 4, -1)
    x = x @ t["merger.mlp.0.weight"].T + t["merger.mlp.0.bias"]
    x = x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2
    return x @ t["merger.mlp.2.weight"].T + t["merger.mlp.2.bias"]


def tower(folder: Path, query_chunk: int = 0) -> Any:
    from dotsctl.encoder_worker.plugins.vision_tower import PREFIXES, VisionConfig, load_tower
    from dotsctl.protocol.checkpoint import read_json, tensor_files

    config = VisionConfig.from_json(read_json(folder, "config.json")["vision_config"])
    return load_tower(config, [str(file) for file in tensor_files(folder, PREFIXES)], mx.float32, query_chunk)


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
    found = np.array(tower(model)(mx.array(patches), grid))
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
    found = np.array(tower(write_model(tensors=small))(mx.array(patches), (4, 4)))
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("query_chunk", [1, 7, 24, 100])
def test_attention_in_chunks_equals_attention_at_once(model: Path, query_chunk: int) -> None:
    patches = mx.array(random_patches((4, 6)))
    whole = np.array(tower(model)(patches, (4, 6)))
    assert np.abs(np.array(tower(model, query_chunk)(patches, (4, 6))) - whole).max() < 1e-5


def test_both_layouts_of_the_patch_embedding_load_the_same(
    model: Path, tensors: Tensors, write_model: Callable[..., Path]
) -> None:
    name = "vision_tower.patch_embed.patchifier.proj.weight"
    last = write_model(tensors=tensors | {name: np.ascontiguousarray(tensors[name].transpose(0, 2, 3, 1))})
    patches = mx.array(random_patches((2, 4)))
    assert np.array_equal(np.array(tower(model)(patches, (2, 4))), np.array(tower(last)(patches, (2, 4))))


def test_a_sharded_snapshot_loads_the_same(model: Path, write_model: Callable[..., Path]) -> None:
    sharded = write_model(shards=3)
    patches = mx.array(random_patches((2, 2)))
    assert np.array_equal(np.array(tower(model)(patches, (2, 2))), np.array(tower(sharded)(patches, (2, 2))))


def test_the_norm_casts_before_it_multiplies_by_the_weight() -> None:
    from dotsctl.encoder_worker.plugins.vision_tower import nn

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
    from dotsctl.encoder_worker.plugins.vision_tower import VisionConfig

    with pytest.raises(UsageError, match="patch_size is 16"):
        VisionConfig.from_json({"patch_size": 16})


def png(width: int, height: int) -> bytes:
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def encoder(model: Path) -> Any:
    made = MLXEncoder()
    made.load(model, {}, lambda note: None)
    yield made
    made.close()


def test_a_file_and_its_pixels_give_the_same_embeddings(encoder: MLXEncoder) -> None:
    content = png(120, 90)
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    from_file = encoder.encode([PageImage(content, None, None)])[0]
    from_pixels = encoder.encode([PageImage(None, pixels, None)])[0]
    assert np.array_equal(from_file.embeddings, from_pixels.embeddings)
    assert from_file.geometry == from_pixels.geometry
    assert from_file.geometry.source == (120, 90)
    assert from_file.grid == (6, 8)
    assert from_file.embeddings.shape == (12, 48)
    assert from_file.timings_ms.keys() == {"open", "resize", "encode"}


def test_a_lower_pixel_limit_makes_fewer_embeddings_and_a_higher_one_changes_nothing(encoder: MLXEncoder) -> None:
    content = png(900, 900)
    standard = len(encoder.encode([PageImage(content, None, None)])[0].embeddings)
    assert standard <= 200_000 // 784
    assert len(encoder.encode([PageImage(content, None, 50_000)])[0].embeddings) <= 50_000 // 784
    assert len(encoder.encode([PageImage(content, None, 784)])[0].embeddings) == 1
    assert len(encoder.encode([PageImage(content, None, 10_000_000)])[0].embeddings) == standard


def test_an_encoder_process_gets_by_without_mlx_lm(model: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from dotsctl.encoder_worker.plugins.mlx import MLXEncoder;"
        f"MLXEncoder().load(Path({str(model)!r}), {{}}, print);"
        "print('mlx.core' in sys.modules, 'mlx_lm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout.splitlines()[-1] == "True False"


def test_an_unknown_option_is_refused_with_the_known_ones(model: Path) -> None:
    with pytest.raises(UsageError, match=r"no option chunk.*query_chunk"):
        MLXEncoder().load(model, {"chunk": "3"}, lambda note: None)
    with pytest.raises(UsageError, match="query_chunk='x'"):
        MLXEncoder().load(model, {"query_chunk": "x"}, lambda note: None)


def test_a_model_that_prepares_pages_otherwise_is_refused(write_model: Callable[..., Path]) -> None:
    folder = write_model()
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5]}')
    with pytest.raises(UsageError, match="image_mean"):
        MLXEncoder().load(folder, {}, lambda note: None)


def test_without_mlx_the_error_says_what_to_install(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlx.core", None)
    monkeypatch.delitem(sys.modules, "dotsctl.encoder_worker.plugins.vision_tower", raising=False)
    with pytest.raises(MissingError, match=r"pip install 'dotsctl\[all\]'"):
        MLXEncoder().load(model, {}, lambda note: None)
