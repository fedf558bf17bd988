"""The encoder plugin ``mlx``: pictures in, embeddings out, and its options."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dotsctl.encoder_worker.plugin import PageImage, encode_images
from dotsctl.encoder_worker.plugins.mlx import MLXEncoder
from dotsctl.encoder_worker.plugins.mlx_options import MLXEncoderOptions
from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.protocol.worker.plugin_options import parse_options
from PIL import Image

from tests.plugins import load_plugin

pytestmark = pytest.mark.model


def png(width: int, height: int) -> bytes:
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def encoder(model: Path) -> Any:
    made = MLXEncoder()
    load_plugin(made, model, {}, lambda note: None)
    yield made
    made.close()


def test_a_file_and_its_pixels_give_the_same_embeddings(encoder: MLXEncoder) -> None:
    content = png(120, 90)
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    from_file = encode_images(encoder, [PageImage(content, None, None)])[0]
    from_pixels = encode_images(encoder, [PageImage(None, pixels, None)])[0]
    assert np.array_equal(from_file.embeddings, from_pixels.embeddings)
    assert from_file.geometry == from_pixels.geometry
    assert from_file.geometry.source == (120, 90)
    assert from_file.grid == (6, 8)
    assert from_file.embeddings.shape == (12, 48)
    assert from_file.timings_ms.keys() == {"open", "resize", "encode"}


def test_a_lower_pixel_limit_makes_fewer_embeddings_and_a_higher_one_changes_nothing(encoder: MLXEncoder) -> None:
    content = png(900, 900)
    standard = len(encode_images(encoder, [PageImage(content, None, None)])[0].embeddings)
    assert standard <= 200_000 // 784
    assert len(encode_images(encoder, [PageImage(content, None, 50_000)])[0].embeddings) <= 50_000 // 784
    assert len(encode_images(encoder, [PageImage(content, None, 784)])[0].embeddings) == 1
    assert len(encode_images(encoder, [PageImage(content, None, 10_000_000)])[0].embeddings) == standard


def test_an_encoder_process_gets_by_without_mlx_lm(model: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from dotsctl.encoder_worker.plugins.mlx import MLXEncoder;"
        "from dotsctl.encoder_worker.plugins.mlx_options import MLXEncoderOptions;"
        f"MLXEncoder().load(Path({str(model)!r}), MLXEncoderOptions(), print);"
        "print('mlx.core' in sys.modules, 'mlx_lm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout.splitlines()[-1] == "True False"


def test_images_of_one_request_give_what_each_gives_alone(model: Path) -> None:
    images = [PageImage(png(*size), None, None) for size in [(120, 90), (60, 200), (56, 56), (300, 280)]]
    made = MLXEncoder()
    load_plugin(made, model, {"pack_patches": "150"}, lambda note: None)
    together = encode_images(made, images)
    alone = [encode_images(made, [image])[0] for image in images]
    made.close()
    assert [page.geometry for page in together] == [page.geometry for page in alone]
    assert [page.grid for page in together] == [page.grid for page in alone]
    for page, expected in zip(together, alone, strict=True):
        assert np.abs(page.embeddings - expected.embeddings).max() < 1e-5
        assert page.timings_ms.keys() == expected.timings_ms.keys()


def test_bfloat16_is_announced_and_travels_as_bits(model: Path) -> None:
    wide, narrow = MLXEncoder(), MLXEncoder()
    load_plugin(wide, model, {"dtype": "float32"}, lambda note: None)
    spec = load_plugin(narrow, model, {"dtype": "bfloat16"}, lambda note: None)
    image = PageImage(png(120, 90), None, None)
    (expected,), (found,) = encode_images(wide, [image]), encode_images(narrow, [image])
    assert (spec.dtype, found.embeddings.dtype) == ("bf16", np.uint16)
    values = (found.embeddings.astype(np.uint32) << 16).view(np.float32)
    assert 0 < np.abs(values - expected.embeddings).mean() < 0.1 * np.abs(expected.embeddings).mean()


def test_a_compiled_encoder_gives_the_same(model: Path, encoder: MLXEncoder) -> None:
    compiled = MLXEncoder()
    load_plugin(compiled, model, {"compile": "on"}, lambda note: None)
    image = PageImage(png(120, 90), None, None)
    (expected,), (found,) = encode_images(encoder, [image]), encode_images(compiled, [image])
    assert np.abs(found.embeddings - expected.embeddings).max() < 1e-5


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"chunk": "3"}, "no option 'chunk': write query_chunk; 'dotsctl plugins' explains all options"),
        (
            {"query_chunk": "x"},
            "query_chunk='x' is not a whole number, at least 0: correct it",
        ),
        ({"pack_patches": "-1"}, r"pack_patches='-1' is not a whole number, at least 0: .*default: 4096"),
        ({"compile": "yes"}, "compile='yes' is not on or off"),
        ({"dtype": "float8"}, "dtype='float8' is not float32, bfloat16 or float16"),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_known(model: Path, option: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_plugin(MLXEncoder(), model, option, lambda note: None)


@pytest.mark.parametrize(
    ("on_gpu", "fused", "expected"),
    [
        (False, True, MLXEncoderOptions(256, 4096, False, "float32")),
        (True, True, MLXEncoderOptions(0, 4096, True, "bfloat16")),
        (True, False, MLXEncoderOptions(1024, 4096, True, "bfloat16")),
    ],
)
def test_what_the_user_leaves_open_depends_on_the_device(
    on_gpu: bool, fused: bool, expected: MLXEncoderOptions
) -> None:
    assert MLXEncoderOptions().on(on_gpu, fused) == expected
    chosen = {"query_chunk": "7", "pack_patches": "0", "compile": "off", "dtype": "float32"}
    assert parse_options(MLXEncoderOptions, chosen, "encoder mlx").on(on_gpu, fused) == MLXEncoderOptions(
        7, 0, False, "float32"
    )


def test_a_model_that_prepares_pages_otherwise_is_refused(write_model: Callable[..., Path]) -> None:
    folder = write_model()
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5]}')
    with pytest.raises(UsageError, match="image_mean"):
        load_plugin(MLXEncoder(), folder, {}, lambda note: None)


def test_without_mlx_the_error_states_what_to_install(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlx.core", None)
    for module in ("tower_runner", "vision_tower", "vision_weights"):
        monkeypatch.delitem(sys.modules, f"dotsctl.encoder_worker.plugins.{module}", raising=False)
    with pytest.raises(MissingError, match=r"pip install --force-reinstall dotsctl"):
        load_plugin(MLXEncoder(), model, {}, lambda note: None)
