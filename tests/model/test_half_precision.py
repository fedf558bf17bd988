"""Scaling for float16 with small random networks: no result changes in float32, and float16 computes outliers."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dotsctl.decoder_worker.plugin import EncodedPrompt
from dotsctl.decoder_worker.plugins.mlx import MLXDecoder
from dotsctl.encoder_worker.image import Patches
from dotsctl.encoder_worker.plugin import PageImage, encode_images
from dotsctl.encoder_worker.plugins.mlx import MLXEncoder
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.protocol.errors import CommandFailedError, MissingError, UsageError
from dotsctl.protocol.model.checkpoint import read_json, tensor_files
from dotsctl.protocol.model.directory import demo_directory, fingerprint
from dotsctl.protocol.model.half_precision import LEAST_COSINE, HalfPlan
from dotsctl.protocol.model.layout import TextSizes, VisionSizes
from dotsctl.protocol.model.quantisation import Quantisation
from dotsctl.protocol.parts import Role
from dotsctl.protocol.tensor import describe
from dotsctl.tools.half_precision import command
from dotsctl.tools.half_precision.pages import drawn_pages
from dotsctl.tools.reference.exact_tower import ExactTower, difference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

mx = pytest.importorskip("mlx.core")
from dotsctl.tools.half_precision.decoder import plan_decoder  # noqa: E402
from dotsctl.tools.half_precision.encoder import plan_encoder  # noqa: E402
from dotsctl.tools.half_precision.trial import Measured  # noqa: E402

from tests.plugins import load_plugin  # noqa: E402

pytestmark = pytest.mark.model
Tensors = dict[str, np.ndarray]
Writer = Callable[..., Path]
POWERS = st.floats(-6, 24).map(lambda power: 2.0**power)
ENCODER_PLACES = ("norm1", "queries", "keys", "scores", "values", "norm2", "gate", "product", "stream")
ENCODER_ENDS = ("patch embedding", "stream", "final norm", "merger norm", "merger", "embeddings")
DECODER_PLACES = ("norm1", "queries", "keys", "values", "norm2", "gate", "product", "stream")
SLOW = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", autouse=True)
def on_the_cpu() -> Any:
    """Float32 products of a GPU may be less exact."""
    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(before)


@pytest.fixture(scope="module")
def page() -> Patches:
    """Sixty patches of several colours."""
    return drawn_pages()[2]


def config_of(model: Path) -> VisionConfig:
    return VisionConfig.from_json(read_json(model, "config.json")["vision_config"])


def encode(model: Path, plan: HalfPlan, dtype: Any, page: Patches) -> np.ndarray:
    from dotsctl.encoder_worker.plugins.vision_weights import load_tower

    files = [str(file) for file in tensor_files(model, Role.ENCODER)]
    tower = load_tower(config_of(model), files, dtype, plan=plan)
    return np.array(tower(mx.array(page.values).astype(dtype), [page.grid]).astype(mx.float32))


def prefill(model: Path, plan: HalfPlan, dtype: Any, rows: np.ndarray) -> np.ndarray:
    """Logits (3 + length, vocabulary) behind three tokens and embeddings (length, width), scaled as those of a page."""
    from dotsctl.decoder_worker.model import read_network

    return logits_of(read_network(model, dtype, plan), plan, dtype, rows)


def logits_of(network: Any, plan: HalfPlan, dtype: Any, rows: np.ndarray) -> np.ndarray:
    """The same of a network that was read with the plan."""
    tokens = network.model.embed_tokens(mx.array([1, 2, 3]))  # (3, width)
    page = (mx.array(rows) * 2.0**plan.residual_exponent).astype(dtype)  # (length, width)
    logits = network(None, input_embeddings=mx.concatenate([tokens, page])[None])  # (1, 3 + length, vocabulary)
    return np.array(logits.astype(mx.float32))[0]


def variant_tensors(vision: VisionSizes, text: TextSizes) -> Tensors:
    """Random tensors of a model with other tensors than the fixture ``model`` has."""
    rng = np.random.default_rng(3)
    shapes = vision.tensors() | text.tensors()
    return {
        name: (rng.normal(size=shape) / max(1, np.prod(shape[1:])) ** 0.5 + 0.5 * (len(shape) == 1)).astype(np.float32)
        for name, shape in shapes.items()
    }


@pytest.fixture(scope="module", params=["as dots.ocr", "biases, no final norm, tied head"])
def variant(request: pytest.FixtureRequest, model: Path, write_model: Writer) -> Path:
    if request.param == "as dots.ocr":
        return model
    config = read_json(model, "config.json")
    vision = config["vision_config"] | {"use_bias": True, "post_norm": False}
    tensors = variant_tensors(
        VisionSizes(64, 48, 96, 2, 4, use_bias=True, post_norm=False),
        TextSizes(48, 80, 2, 4, 2, config["vocab_size"], tie_word_embeddings=True),
    )
    return write_model(tensors=tensors, vision_config=vision, tie_word_embeddings=True)


@given(st.data())
@SLOW
def test_any_scaling_of_the_encoder_leaves_its_embeddings_as_they_are(
    variant: Path, page: Patches, data: st.DataObject
) -> None:
    from dotsctl.encoder_worker.plugins.vision_weights import read_tower
    from dotsctl.tools.half_precision.encoder import plan_of, tensor_peaks

    config = config_of(variant)
    files = [str(file) for file in tensor_files(variant, Role.ENCODER)]
    places = st.fixed_dictionaries(dict.fromkeys(ENCODER_PLACES, POWERS))
    measured = Measured(
        tensors=tensor_peaks(read_tower(config, files, mx.float32)),
        places=[data.draw(places) for _ in range(config.num_hidden_layers)],
        ends=data.draw(st.fixed_dictionaries(dict.fromkeys(ENCODER_ENDS, POWERS))),
    )
    plan = plan_of(measured, config)
    plain, scaled = (encode(variant, each, mx.float32, page) for each in (HalfPlan(), plan))
    assert np.abs(scaled - plain).max() <= 1e-6 * np.abs(plain).max()


@given(st.data())
@SLOW
def test_any_scaling_of_the_decoder_leaves_its_logits_as_they_are(variant: Path, data: st.DataObject) -> None:
    from dotsctl.decoder_worker.model import read_network
    from dotsctl.tools.half_precision.decoder import plan_of, tensor_peaks

    network = read_network(variant, mx.float32)
    places = st.fixed_dictionaries(dict.fromkeys(DECODER_PLACES, POWERS))
    measured = Measured(
        tensors=tensor_peaks(network),
        places=[data.draw(places) for _ in network.model.layers],
        ends=data.draw(st.fixed_dictionaries(dict.fromkeys(("stream", "norm", "logits"), POWERS))),
    )
    plan = plan_of(measured, is_tied="lm_head" not in network)
    rows = np.random.default_rng(5).normal(size=(7, 48)).astype(np.float32)
    plain, scaled = (prefill(variant, each, mx.float32, rows) for each in (HalfPlan(), plan))
    assert np.abs(scaled - plain).max() <= 1e-6 * np.abs(plain).max()


def test_scaling_leaves_the_logits_of_a_quantised_decoder_as_they_are() -> None:
    from dotsctl.decoder_worker.model import load_model, read_network
    from dotsctl.tools.convert.decoder import convert
    from dotsctl.tools.half_precision.decoder import plan_of, tensor_peaks

    demo = demo_directory()
    quantised = convert("demo", demo, fingerprint(demo), Quantisation(8, 32), lambda line: None).decoder
    network = read_network(demo, mx.float32)
    measured = Measured(
        tensors=tensor_peaks(network),
        places=[dict.fromkeys(DECODER_PLACES, 2.0**16) for _ in network.model.layers],
        ends=dict.fromkeys(("stream", "norm", "logits"), 2.0**18),
    )
    plan = plan_of(measured, is_tied="lm_head" not in network)
    rows = np.random.default_rng(5).normal(size=(7, network.args.hidden_size)).astype(np.float32)
    plain, scaled = (
        logits_of(load_model(demo, 0, quantised, "float32", each).network, each, mx.float32, rows)
        for each in (HalfPlan(), plan)
    )
    assert np.abs(scaled - plain).max() <= 1e-6 * np.abs(plain).max()


def planted(tensors: Tensors, entries: dict[str, float]) -> Tensors:
    """A copy of the tensors in which one weight of each named matrix is an outlier."""
    found = dict(tensors)
    for name, value in entries.items():
        found[name] = tensors[name].copy()
        found[name][-3, 5] = value  # of qkv: a row of the values
    return found


def outliers(magnitude: float, *matrices: str) -> dict[str, float]:
    return {name: magnitude * (-1) ** number for number, name in enumerate(matrices)}


BLOCK, LAYER = "vision_tower.blocks.{}", "model.layers.{}"
ENCODER_MATRICES = [
    (f"{BLOCK.format(0)}.attn.qkv.weight", f"{BLOCK.format(1)}.attn.proj.weight", f"{BLOCK.format(2)}.mlp.fc3.weight"),
    (f"{BLOCK.format(1)}.attn.qkv.weight", f"{BLOCK.format(2)}.mlp.fc3.weight", f"{BLOCK.format(3)}.mlp.fc2.weight"),
]
DECODER_MATRICES = [
    (
        f"{LAYER.format(0)}.self_attn.v_proj.weight",
        f"{LAYER.format(1)}.self_attn.o_proj.weight",
        f"{LAYER.format(2)}.mlp.up_proj.weight",
    ),
    (
        f"{LAYER.format(0)}.mlp.down_proj.weight",
        f"{LAYER.format(1)}.self_attn.v_proj.weight",
        f"{LAYER.format(3)}.mlp.up_proj.weight",
    ),
]
MAGNITUDES = [(1e3, 0), (1e4, 1), (1e6, 0)]
"""The seed of the outliers and of the matrices that have them."""


@pytest.fixture(autouse=True)
def models_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path))


def smallest_cosine(found: np.ndarray, expected: np.ndarray) -> float:
    assert np.isfinite(found).all()
    return difference(found, expected)[2]


def four_layers() -> tuple[Any, Tensors]:
    from tests.model.conftest import Sizes, random_tensors

    sizes = Sizes(layers=4)
    return sizes, random_tensors(sizes)


@pytest.mark.parametrize(("magnitude", "place"), MAGNITUDES)
def test_an_encoder_with_outliers_is_exact_in_float16_or_its_plan_names_the_layer(
    write_model: Writer, magnitude: float, place: int
) -> None:
    """On the dashes some tokens lose even in float32: the outliers amplify any error 20,000 times there."""
    sizes, tensors = four_layers()
    model = write_model(sizes, planted(tensors, outliers(magnitude, *ENCODER_MATRICES[place])))
    pages = drawn_pages()[:2]
    plan, _ = plan_encoder(model, pages, lambda line: None)
    assert plan.hopeless == ()
    cosines = []
    for page in pages:
        exact = ExactTower.of(model).embeddings(page.values, page.grid)
        cosines.append(smallest_cosine(encode(model, plan, mx.float16, page), exact))
    assert min(cosines) >= LEAST_COSINE or re.match("layer [1-4] loses most", plan.imprecise)
    assert cosines[1] >= LEAST_COSINE  # the page of text
    if magnitude == 1e6:
        assert not np.isfinite(encode(model, HalfPlan(), mx.float16, pages[1])).all()


@pytest.mark.parametrize(("magnitude", "place"), MAGNITUDES)
def test_a_decoder_with_outliers_is_exact_in_float16_or_its_plan_names_the_layer(
    write_model: Writer, magnitude: float, place: int
) -> None:
    sizes, tensors = four_layers()
    model = write_model(sizes, planted(tensors, outliers(magnitude, *DECODER_MATRICES[place])))
    pages, rng = drawn_pages(), np.random.default_rng(8)
    rows = rng.normal(size=(sum(len(page.values) // 4 for page in pages), sizes.width)).astype(np.float32)
    plan = plan_decoder(model, pages, rows, lambda line: None)
    assert plan.hopeless == ()
    assert (plan.worst_cosine or 0) >= LEAST_COSINE or re.match("layer [1-4] loses most", plan.imprecise)
    unseen = rng.normal(size=(20, sizes.width)).astype(np.float32)
    exact, found = prefill(model, HalfPlan(), mx.float32, unseen), prefill(model, plan, mx.float16, unseen)
    assert smallest_cosine(found, exact) >= (LEAST_COSINE if not plan.imprecise else 0.99)
    if magnitude == 1e6:
        assert not np.isfinite(prefill(model, HalfPlan(), mx.float16, unseen)).all()


def exchanged(tensors: Tensors, factor: float, *pairs: tuple[str, str]) -> Tensors:
    """The same function with outliers: a row of a first matrix is multiplied, a column of the second one divided."""
    found = dict(tensors)
    for first, second in pairs:
        found[first], found[second] = tensors[first].copy(), tensors[second].copy()
        found[first][-3] *= factor
        found[second][:, -3] /= factor
    return found


ENCODER_PAIRS = [
    (f"{BLOCK.format(0)}.attn.qkv.weight", f"{BLOCK.format(0)}.attn.proj.weight"),
    (f"{BLOCK.format(1)}.mlp.fc3.weight", f"{BLOCK.format(1)}.mlp.fc2.weight"),
    (f"{BLOCK.format(3)}.mlp.fc3.weight", f"{BLOCK.format(3)}.mlp.fc2.weight"),
]
DECODER_PAIRS = [
    (f"{LAYER.format(layer)}.mlp.up_proj.weight", f"{LAYER.format(layer)}.mlp.down_proj.weight") for layer in range(3)
]


@pytest.mark.parametrize("factor", [1e4, 1e6])
def test_large_activations_of_well_conditioned_layers_cost_no_exactness(write_model: Writer, factor: float) -> None:
    sizes, tensors = four_layers()
    model = write_model(sizes, exchanged(tensors, factor, *ENCODER_PAIRS, *DECODER_PAIRS))
    pages = drawn_pages()[1:3]
    encoder, embeddings = plan_encoder(model, pages, lambda line: None)
    decoder = plan_decoder(model, pages, embeddings, lambda line: None)
    for plan in (encoder, decoder):
        assert (plan.hopeless, plan.imprecise) == ((), "")
        assert (plan.worst_cosine or 0) >= LEAST_COSINE
    exact = ExactTower.of(model).embeddings(pages[0].values, pages[0].grid)
    assert smallest_cosine(encode(model, encoder, mx.float16, pages[0]), exact) >= LEAST_COSINE
    assert factor < 1e6 or not np.isfinite(encode(model, HalfPlan(), mx.float16, pages[0])).all()
    rows = np.random.default_rng(8).normal(size=(20, sizes.width)).astype(np.float32)
    logits = prefill(model, HalfPlan(), mx.float32, rows)
    assert smallest_cosine(prefill(model, decoder, mx.float16, rows), logits) >= LEAST_COSINE
    assert factor < 1e6 or not np.isfinite(prefill(model, HalfPlan(), mx.float16, rows)).all()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (f"{BLOCK.format(2)}.mlp.fc1.weight", "encoder: layer 3: values of the gate reach [0-9,]+, more than 32,752"),
        (
            f"{LAYER.format(1)}.mlp.gate_proj.weight",
            "decoder: layer 2: values of the gate reach [0-9,]+, more than 32,752",
        ),
    ],
)
def test_a_gate_that_is_too_large_is_named_and_its_model_is_refused(
    write_model: Writer, name: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes, tensors = four_layers()
    model = write_model(sizes, planted(tensors, {name: 1e6}))
    with pytest.raises(CommandFailedError, match=problem):
        command.run(str(model), lambda line: None, force=False, as_json=False)
    half = problem.partition(":")[0]
    with pytest.raises(UsageError, match=f"{problem.partition(': ')[2]}.*use --{half} mlx:dtype=bfloat16"):
        load_plugin(
            {"encoder": MLXEncoder(), "decoder": MLXDecoder()}[half], model, {"dtype": "float16"}, lambda line: None
        )


@pytest.mark.parametrize("half", [MLXEncoder, MLXDecoder])
def test_float16_without_a_measurement_is_refused_with_the_command_that_measures(model: Path, half: Any) -> None:
    with pytest.raises(MissingError, match=f"dotsctl convert {re.escape(str(model))} --float16"):
        load_plugin(half(), model, {"dtype": "float16"}, lambda line: None)


def page_bytes() -> bytes:
    image = Image.new("RGB", (280, 196), "white")
    ImageDraw.Draw(image).text((20, 20), "float16", "black", ImageFont.load_default(40))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def test_both_halves_in_float16_read_what_they_read_in_float32(
    write_model: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes, tensors = four_layers()
    entries = outliers(1e5, *ENCODER_MATRICES[1]) | outliers(1e5, *DECODER_MATRICES[1])
    model = write_model(sizes, planted(tensors, entries))
    command.run(str(model), lambda line: None, force=False, as_json=True)
    plans = json.loads(capsys.readouterr().out)
    assert plans["encoder"]["residual_exponent"] < 0 and plans["decoder"]["residual_exponent"] < 0
    found = {dtype: read_page(model, dtype) for dtype in ("float32", "float16")}
    assert found["float16"][0] == "<f2"
    assert smallest_cosine(found["float16"][1], found["float32"][1]) >= LEAST_COSINE
    assert found["float16"][2] == found["float32"][2]


def read_page(model: Path, dtype: str) -> tuple[str, np.ndarray, str]:
    """Type and embeddings (num_embeddings, width) of a page, and its answer of 20 tokens."""
    encoder, decoder = MLXEncoder(), MLXDecoder()
    try:
        spec = load_plugin(encoder, model, {"dtype": dtype}, lambda line: None)
        (page,) = encode_images(encoder, [PageImage(page_bytes(), None, None)])
        header = describe(page.embeddings, spec.dtype)
        load_plugin(decoder, model, {"dtype": dtype}, lambda line: None)
        decoder.admit(EncodedPrompt(1, page.embeddings, "text", None, 20, None))
        finished = None
        while finished is None:
            finished = next((piece.finish for piece in decoder.step() if piece.finish), None)
    finally:
        encoder.close()
        decoder.close()
    return header.dtype, page.embeddings, finished.text


@pytest.fixture
def outlier_model(write_model: Writer) -> Path:
    """A model of four layers, three of which have activations near 10^6."""
    sizes, tensors = four_layers()
    return write_model(sizes, exchanged(tensors, 1e6, *ENCODER_PAIRS))


def convert(model: Path, lines: list[str]) -> tuple[Path, Any]:
    pytest.importorskip("coremltools")
    from dotsctl.encoder_worker.coreml.manifest import Build
    from dotsctl.tools.coreml.build import convert_encoder
    from dotsctl.tools.coreml.options import ConversionOptions

    folder = convert_encoder(model, ConversionOptions(buckets=(60,)), lines.append)
    return folder, Build.read(folder)


def test_packages_of_a_model_with_outliers_are_exact_by_the_interpreter(outlier_model: Path, page: Patches) -> None:
    from dotsctl.encoder_worker.coreml.reference_tower import ReferenceTower

    lines: list[str] = []
    folder, build = convert(outlier_model, lines)
    assert "float16: 6 tensors scaled for their magnitudes, stream by 2^2" in lines
    exact = ExactTower.of(outlier_model).embeddings(page.values, page.grid)
    assert smallest_cosine(ReferenceTower(folder, build).encode(page.values, page.grid), exact) >= LEAST_COSINE


def test_packages_of_a_model_with_outliers_are_refused_without_scaling(
    outlier_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dotsctl.tools.coreml import build

    monkeypatch.setattr(build, "encoder_plan", lambda *_, **__: HalfPlan())
    with pytest.raises((CommandFailedError, UsageError), match=r"too large for float16|reaches"):
        convert(outlier_model, [])


def test_a_conversion_names_the_layer_that_float16_cannot_compute(write_model: Writer) -> None:
    sizes, tensors = four_layers()
    model = write_model(sizes, planted(tensors, {f"{BLOCK.format(2)}.mlp.fc1.weight": 1e6}))
    with pytest.raises(UsageError, match=r"layer 3: values of the gate reach [0-9,]+.*--precision float32"):
        convert(model, [])
