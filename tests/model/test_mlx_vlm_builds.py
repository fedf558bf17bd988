"""Builds that mlx-vlm 0.7.10 has converted: loaded as they are, with the embeddings and answers that it gave."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dotsctl import Client
from dotsctl.decoder_worker.plugins.mlx import MLXDecoder
from dotsctl.decoder_worker.rows import Rows
from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.protocol.model.directory import fingerprint
from dotsctl.protocol.model.half_precision import HalfPlan
from dotsctl.protocol.model.quantisation import KINDS
from dotsctl.protocol.model.validation import validate_checkpoint
from dotsctl.tools.random_checkpoint.checkpoint import write_checkpoint
from dotsctl.tools.reference.tower_tensors import TowerTensors

mx = pytest.importorskip("mlx.core")

from dotsctl.decoder_worker import model as decoder_model  # noqa: E402 - needs MLX
from dotsctl.decoder_worker.adapter import BatchAdapter, SplicedPage  # noqa: E402 - needs MLX
from dotsctl.tools.convert import decoder as convert_decoder  # noqa: E402 - needs MLX
from dotsctl.tools.dev.mlx_vlm_builds import builds, stored  # noqa: E402 - needs MLX
from dotsctl.tools.reference.mlx_tower import Recorder  # noqa: E402 - needs MLX
from mlx.utils import tree_flatten  # noqa: E402 - as above

from tests.plugins import load_plugin  # noqa: E402

pytestmark = pytest.mark.model
PAGES = Path(__file__).parents[2] / "client" / "sample_pages"
PEER: dict[str, builds.PeerResults] = {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder with all builds; their results are in ``PEER``."""
    made = tmp_path_factory.mktemp("builds")
    PEER.update(stored.stored_builds(stored.STORED, made))
    yield made / "builds"
    PEER.clear()


@pytest.mark.parametrize("name", builds.BUILDS)
def test_embeddings_and_every_token_are_those_of_mlx_vlm_with_and_without_drafts(folder: Path, name: str) -> None:
    difference = builds.compare(name, folder / name, PEER[name])
    assert difference.match, difference.line()
    assert difference.tokens > 100


def test_the_answers_tell_pages_and_builds_apart(folder: Path) -> None:
    """Else equal answers would show nothing."""
    for results in PEER.values():
        assert len(set(map(tuple, results.answers))) >= builds.PAGES - 1
    assert len({json.dumps(results.answers) for results in PEER.values()}) == len(builds.BUILDS)


def test_a_wrong_answer_or_embedding_is_no_match(folder: Path) -> None:
    truth = PEER["4bit"]
    answers = [[*answer[:-1], answer[-1] + 1] for answer in truth.answers]
    assert not builds.compare("4bit", folder / "4bit", builds.PeerResults(truth.embeddings, answers)).match
    moved = truth.embeddings + np.float32(2e-5)
    assert not builds.compare("4bit", folder / "4bit", builds.PeerResults(moved, truth.answers)).match


def test_the_stored_file_stays_small() -> None:
    assert stored.STORED.stat().st_size < 2_000_000


@pytest.mark.parametrize("name", builds.BUILDS)
def test_packed_weights_are_counted_as_what_they_are(folder: Path, name: str) -> None:
    facts = validate_checkpoint(folder / name)
    plain = validate_checkpoint(folder / "bf16")
    assert facts.decoder.parameters == plain.decoder.parameters == plain.decoder.size_bytes // 2
    assert facts.encoder == plain.encoder
    assert facts.decoder.loaded_bytes(2) == facts.decoder.size_bytes
    network = decoder_model.read_network(folder / name, mx.float32)
    loaded = sum(tensor.nbytes for _, tensor in tree_flatten(network.parameters()))
    assert facts.decoder.loaded_bytes(4) == loaded
    assert (name == "bf16") == (facts.decoder.packed_parameters == 0)


def test_the_encoder_of_a_build_has_the_published_tensors(folder: Path, tmp_path: Path) -> None:
    """So Core ML packages of it are those of the original."""
    write_checkpoint(tmp_path / "source", stored.SMALL, "bfloat16", stored.SEED)
    original, converted = TowerTensors(tmp_path / "source"), TowerTensors(folder / "4bit")
    for name, shape in stored.SMALL.vision.tensors().items():
        flat = (shape[0], int(np.prod(shape[1:]))) if len(shape) == 4 else shape
        key = name.removeprefix("vision_tower.")
        assert np.array_equal(original.get(key, flat), converted.get(key, flat)), name


@pytest.mark.parametrize("bits", KINDS)
def test_a_decoder_that_we_convert_is_the_one_that_mlx_vlm_converts(
    folder: Path, bits: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path))
    source = folder / "bf16"
    made = convert_decoder.convert("m", source, fingerprint(source), KINDS[bits], lambda _: None).decoder
    ours = decoder_model.load_model(source, quantised=made, dtype_name="bfloat16").network
    theirs = decoder_model.load_model(folder / KINDS[bits].kind, dtype_name="bfloat16").network
    expected = dict(tree_flatten(theirs.parameters()))
    found = dict(tree_flatten(ours.parameters()))
    assert found.keys() == expected.keys()
    assert all(mx.array_equal(found[name], expected[name]) for name in expected)


def test_a_dequantised_network_has_plain_matrices_and_the_same_logits(folder: Path) -> None:
    ids = mx.array([[5, 3, 8]])
    for name in ("5bit", "mxfp8", "mixed_4_6"):
        packed = decoder_model.read_network(folder / name, mx.float32)
        plain = decoder_model.read_network(folder / name, mx.float32, dequantised=True)
        assert not any("scales" in key for key, _ in tree_flatten(plain.parameters()))
        assert mx.allclose(packed(ids), plain(ids), atol=1e-4)


def test_float16_scales_affine_matrices_by_their_scales_and_refuses_scales_that_are_bytes(folder: Path) -> None:
    plan = HalfPlan(exponents={"model.layers.0.mlp.up_proj.weight": -2, "model.layers.0.mlp.down_proj.weight": 2})
    ids = mx.array([[5, 3, 8]])
    scaled = decoder_model.read_network(folder / "6bit", mx.float32, plan)
    plain = decoder_model.read_network(folder / "6bit", mx.float32)
    for part in ("scales", "biases"):
        assert mx.array_equal(4 * scaled.layers[0].mlp.up_proj[part], plain.layers[0].mlp.up_proj[part])
    assert mx.array_equal(scaled(ids), plain(ids))
    with pytest.raises(
        UsageError, match=r"(up|down)_proj\.scales holds bytes that cannot be scaled: use dtype=bfloat16"
    ):
        decoder_model.read_network(folder / "mxfp4", mx.float16, plan)


@pytest.mark.parametrize("name", ["4bit", "mxfp4", "nvfp4"])
def test_a_pass_computes_in_the_chosen_type_whatever_the_table_of_embeddings_gives(folder: Path, name: str) -> None:
    network = decoder_model.load_model(folder / name, dtype_name="float16").network
    logits: dict[str, Any] = {}
    network.lm_head = Recorder(network.lm_head, "logits", logits)
    adapter = BatchAdapter(network, prefill_chunk=8)
    adapter.open(1, SplicedPage([5, 3, 8], mx.zeros((3, 64), mx.float16)))
    while adapter.advance(1) is None:
        pass
    adapter.score({1: Rows(8, [])})
    assert logits["logits"].dtype == mx.float16


def test_the_ids_that_end_an_answer_come_from_generation_config_json(folder: Path, tmp_path: Path) -> None:
    """Builds of the Hub have a wrong one in config.json."""
    build = shutil.copytree(folder / "4bit", tmp_path / "m")
    config = json.loads((build / "config.json").read_text())
    (build / "config.json").write_text(json.dumps(config | {"eos_token_id": [1, 2, 3]}))
    ends = json.loads((build / "generation_config.json").read_text())["eos_token_id"]
    assert decoder_model.load_model(build).end_ids == frozenset(ends)


def test_a_build_is_read_through_real_workers_without_an_option(folder: Path, run_folder: Path) -> None:
    with Client(model=str(folder / "mixed_4_6"), encoder="mlx", private=True, readiness_page=False) as client:
        page = client.read(PAGES / "letter.png", task="text", max_pixels=50_000, max_tokens=8).pages[0]
        assert client.fingerprint == fingerprint(folder / "mixed_4_6")
    assert page.error is None and page.plain_text


def test_a_build_that_is_quantised_already_is_not_quantised_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOTSCTL_MODELS", str(tmp_path))
    build = folder / "mixed_4_6"
    with pytest.raises(UsageError, match=r"m is quantised already \(.*bit and .*bit\): convert the original"):
        convert_decoder.convert("m", build, fingerprint(build), KINDS["8"], lambda _: None)
    with pytest.raises(UsageError, match="is quantised already: leave the option bits out"):
        load_plugin(MLXDecoder(), build, {"bits": "4"}, lambda _: None)


def test_a_build_whose_index_names_a_missing_file_is_refused_before_it_is_read(folder: Path, tmp_path: Path) -> None:
    build = shutil.copytree(folder / "4bit", tmp_path / "m")
    (build / "model.safetensors").rename(build / "other.safetensors")
    with pytest.raises(MissingError, match=r"model\.safetensors is named here and does not exist"):
        validate_checkpoint(build)


def header_of(build: Path) -> dict[str, Any]:
    content = (build / "model.safetensors").read_bytes()
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


def test_the_stored_builds_have_the_layout_that_the_hub_has(folder: Path) -> None:
    """The head lies below the model, the patch embedding has its channels last, and scales lie beside levels."""
    header = header_of(folder / "4bit")
    assert header["language_model.model.lm_head.weight"]["dtype"] == "U32"
    assert header["vision_tower.patch_embed.patchifier.proj.weight"]["shape"][1:] == [14, 14, 3]
    assert header["language_model.model.embed_tokens.scales"]["dtype"] == "BF16"
    config = json.loads((folder / "mixed_4_6" / "config.json").read_text())
    assert config["quantization"]["language_model.model.lm_head"] == {"group_size": 64, "bits": 6}
