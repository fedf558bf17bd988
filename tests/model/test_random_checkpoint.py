"""Random checkpoints in the loaders: the numbers arrive, and activations stay in a sane range."""

from pathlib import Path

import numpy as np
import pytest
from dotsctl.decoder_worker.plugins.mlx import MLXDecoder
from dotsctl.encoder_worker.plugin import PageImage, encode_images
from dotsctl.encoder_worker.plugins.mlx import MLXEncoder
from dotsctl.tools.random_checkpoint.checkpoint import write_checkpoint
from dotsctl.tools.random_checkpoint.shape import Shape

from tests.plugins import load_plugin

pytestmark = pytest.mark.model
mx = pytest.importorskip("mlx.core")
SHAPE = Shape(32, 3, 64, 6, real_vocabulary=False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("random")
    for dtype in ("float32", "bfloat16"):
        write_checkpoint(base / dtype, SHAPE, dtype)
    return {path.name: path for path in base.iterdir()}


def test_bfloat16_tensors_are_the_rounded_float32_ones(folders: dict[str, Path]) -> None:
    exact, rounded = (mx.load(str(folders[dtype] / "model.safetensors")) for dtype in ("float32", "bfloat16"))
    assert exact.keys() == rounded.keys()
    for name, tensor in exact.items():
        assert mx.array_equal(tensor.astype(mx.bfloat16), rounded[name]), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_both_workers_load_one_and_embeddings_are_neither_tiny_nor_huge(folders: dict[str, Path], dtype: str) -> None:
    encoder, decoder = MLXEncoder(), MLXDecoder()
    assert load_plugin(encoder, folders[dtype], {}, lambda note: None).width == 32
    pixels = np.random.default_rng(0).integers(0, 256, (112, 84, 3), np.uint8)
    embeddings = encode_images(encoder, [PageImage(None, pixels, None)])[0].embeddings
    assert embeddings.shape == (12, 32)
    assert np.isfinite(embeddings).all()
    assert 0.1 < embeddings.std() < 10
    assert load_plugin(decoder, folders[dtype], {}, lambda note: None).width == 32
    encoder.close()
    decoder.close()
