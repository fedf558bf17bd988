"""The readiness page and real weights: the demo model passes in all its forms, models that do not read are refused."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dotsctl import Client
from dotsctl.client.runtime.readiness_page import MAX_TOKENS, Judgement, PageVerdict, judge, readiness_page
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.encoder_worker.plugin import EncodedPage, PageImage
from dotsctl.protocol.errors import DotsctlError
from dotsctl.protocol.messages import Done
from dotsctl.protocol.model.directory import demo_directory, fingerprint
from dotsctl.protocol.model.tasks import LAYOUT
from dotsctl.protocol.parts import FinishReason
from dotsctl.tools.measuring.decoding import PageReader
from dotsctl.tools.measuring.encoding import PageEncoder, kept
from numpy.typing import NDArray

pytest.importorskip("mlx.core")
safetensors = pytest.importorskip("safetensors.numpy")
pytestmark = pytest.mark.model

DEMO = demo_directory()
Tensors = dict[str, NDArray[np.float32]]
HEADS = 8
"""Query heads of the demo model's decoder."""


def encode(model: Path = DEMO, plugin: str = "mlx") -> EncodedPage:
    encoder = PageEncoder(PluginChoice.parse(plugin), model, lambda _: None)
    page = readiness_page()
    pixels = np.frombuffer(page.pixels, np.uint8).reshape(page.image.height, page.image.width, 3)
    try:
        return kept(encoder.encode_image(PageImage(None, pixels, None)))
    finally:
        encoder.close()


def verdict(page: EncodedPage, model: Path = DEMO, plugin: str = "mlx") -> PageVerdict:
    reader = PageReader(PluginChoice.parse(plugin), model, lambda _: None)
    try:
        text = reader.read(page, LAYOUT.name).text[: 2 * MAX_TOKENS]
    finally:
        reader.close()
    return judge(Done(1, 1, text, FinishReason.STOP, (page.geometry,), 1, 1, 1, {}), LAYOUT.name)


def with_weights(folder: Path, change: Callable[[Tensors], None]) -> Path:
    """A copy of the demo model with other weights."""
    shutil.copytree(DEMO, folder)
    tensors = {name: np.array(tensor) for name, tensor in safetensors.load_file(folder / "model.safetensors").items()}
    change(tensors)
    safetensors.save_file(tensors, folder / "model.safetensors")
    return folder


def random_tower(tensors: Tensors) -> None:
    rng = np.random.default_rng(1)
    for name, tensor in tensors.items():
        if name.startswith("vision_tower.") and tensor.ndim > 1:
            tensors[name] = rng.normal(0, tensor.std(), tensor.shape).astype(tensor.dtype)


def nan_layer(tensors: Tensors) -> None:
    tensors["model.layers.1.mlp.down_proj.weight"][:] = np.nan


def rotated_heads(tensors: Tensors) -> None:
    """Query heads of every layer take each other's places, and the output projection does not."""
    for name in list(tensors):
        if "self_attn.q_proj" in name:
            tensors[name] = np.roll(tensors[name], tensors[name].shape[0] // HEADS, axis=0)


def shuffled(page: EncodedPage) -> EncodedPage:
    return replace(page, embeddings=np.random.default_rng(0).permutation(page.embeddings))


def zeros(page: EncodedPage) -> EncodedPage:
    return replace(page, embeddings=np.zeros_like(page.embeddings))


def test_the_demo_model_passes() -> None:
    assert verdict(encode()) == (Judgement.PASSED, "")


@pytest.mark.parametrize("change", [shuffled, zeros])
def test_embeddings_that_show_no_page_are_refused(change: Callable[[EncodedPage], EncodedPage]) -> None:
    found = verdict(change(encode()))
    assert found.judgement is Judgement.REFUSED and "in the answer: '" in found.reason


@pytest.fixture(autouse=True)
def models(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path / "models"))
    yield


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (random_tower, "no word of the readiness page is in the answer: '"),
        (nan_layer, "NaN"),
        (rotated_heads, "no word of the readiness page is in the answer: '"),
    ],
)
def test_damaged_weights_are_refused_with_what_was_read(
    change: Callable[[Tensors], None], problem: str, tmp_path: Path
) -> None:
    model = with_weights(tmp_path / "model", change)
    with pytest.raises(DotsctlError) as caught:
        Client(model=model, private=True)
    assert problem in str(caught.value)


def test_a_damaged_model_is_used_where_the_page_is_skipped(tmp_path: Path) -> None:
    model = with_weights(tmp_path / "model", random_tower)
    with Client(model=model, private=True, readiness_page=False) as client:
        assert [worker.readiness for worker in client.status().workers] == ["", ""]


def test_a_running_model_shows_when_it_has_read_the_page() -> None:
    with Client(model="demo", private=True) as client:
        for worker in client.status().workers:
            assert worker.readiness.startswith("passed in ") and worker.readiness_age_s >= 0


@pytest.mark.parametrize("bits", [8, 4])
def test_quantised_decoders_pass(bits: int) -> None:
    from dotsctl.protocol.model.quantisation import Quantisation
    from dotsctl.tools.convert import decoder as convert_decoder

    convert_decoder.convert("demo", DEMO, fingerprint(DEMO), Quantisation(bits, 64), lambda _: None)
    assert verdict(encode(), plugin=f"mlx:bits={bits}").judgement is Judgement.PASSED


@pytest.mark.parametrize("weights", ["same", "int8"])
def test_packages_pass_through_the_interpreter(weights: str) -> None:
    pytest.importorskip("coremltools")
    from dotsctl.tools.coreml.build import convert_encoder
    from dotsctl.tools.coreml.options import ConversionOptions

    convert_encoder(DEMO, ConversionOptions(weights=weights, buckets=(240, 260)), lambda _: None)
    page = encode(plugin="coreml:compute_units=reference")
    assert verdict(page).judgement is Judgement.PASSED
