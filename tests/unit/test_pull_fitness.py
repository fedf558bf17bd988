"""Repositories that cannot be loaded are refused with the true reason, for less than 5 MB."""

import json
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest
from dotsctl.client.models import fitness
from dotsctl.protocol.model.layout import Shape as TensorShape
from dotsctl.protocol.model.quantisation import KINDS
from dotsctl.tools.random_checkpoint.shape import PRESETS, Shape, config_files

from tests.fake_hub import FakeHub, safetensors
from tests.pulling import WEIGHTS, fetched, refused, run

MOST_BYTES = 5_000_000
SHAPE = Shape(16, 1, 16, 1)
"""With the table of the real vocabulary, so that the weights have 10 MB."""
INDEX = "model.safetensors.index.json"
OUTPUT = "model.layers.0.self_attn.o_proj.weight"
QKV = "vision_tower.blocks.0.attn.qkv"
Files = dict[str, bytes]
Change = Callable[[Files], object]


def weights(**changes: tuple[str, TensorShape]) -> bytes:
    """A file with the tensors of the model, some of them changed or added."""
    tensors = {name: ("BF16", shape) for name, shape in (SHAPE.vision.tensors() | SHAPE.text.tensors()).items()}
    tensors |= changes
    sizes = {"BF16": 2, "U32": 4, "F32": 4}
    return safetensors(
        {name: (kind, list(shape), prod(shape) * sizes[kind]) for name, (kind, shape) in tensors.items()}
    )


@pytest.fixture(scope="module")
def good() -> Files:
    files = {name: json.dumps(content).encode() for name, content in config_files(SHAPE, "bfloat16").items()}
    return {**files, WEIGHTS: weights(), "README.md": b"# A model\n"}


@pytest.fixture
def repository(remote: FakeHub, good: Files) -> FakeHub:
    remote.files = dict(good)
    return remote


def config(**values: Any) -> Change:
    def apply(files: Files) -> None:
        files["config.json"] = json.dumps(json.loads(files["config.json"]) | values).encode()

    return apply


def only(**others: bytes) -> Change:
    """Other files in place of the weights."""

    def apply(files: Files) -> None:
        del files[WEIGHTS]
        files.update({name.replace("__", "."): content for name, content in others.items()})

    return apply


def adapter(files: Files) -> None:
    """A repository as programs that train adapters write it."""
    files.clear()
    files |= {"adapter_config.json": b"{}", "adapter_model.safetensors": bytes(10_000_000), "tokenizer.json": b"{}"}


def missing_shard(files: Files) -> None:
    places = dict.fromkeys(SHAPE.vision.tensors(), WEIGHTS) | {"lm_head.weight": "model-00002-of-00002.safetensors"}
    files[INDEX] = json.dumps({"weight_map": places}).encode()


def other_weights(**changes: tuple[str, TensorShape]) -> Change:
    return lambda files: files.update({WEIGHTS: weights(**changes)})


UNFIT: dict[str, tuple[Change, str]] = {
    "another architecture": (config(model_type="qwen2_5_vl"), "it is of the type 'qwen2_5_vl', and dotsctl reads"),
    "GGUF only": (only(**{"dots-Q8_0__gguf": bytes(10_000_000)}), "only as dots-Q8_0.gguf, the format of llama.cpp"),
    "pickled weights only": (only(**{"model__bin": bytes(10_000_000)}), "has its weights only as model.bin"),
    "a LoRA adapter": (adapter, "holds an adapter (adapter_config.json), which changes a model and is none by itself"),
    "an adapter beside files of its model": (
        only(adapter_config__json=b"{}", adapter_model__safetensors=bytes(10_000_000)),
        "holds an adapter (adapter_config.json)",
    ),
    "a missing shard": (
        missing_shard,
        "model.safetensors.index.json: model-00002-of-00002.safetensors is named here and does not exist",
    ),
    "a quantised tower": (
        other_weights(**{f"{QKV}.weight": ("U32", (48, 2)), f"{QKV}.scales": ("BF16", (48, 1))}),
        f"model.safetensors: {QKV}.scales says that the encoder is quantised",
    ),
    "wrong shapes": (
        other_weights(**{OUTPUT: ("BF16", (16, 32))}),
        f"model.safetensors: {OUTPUT} has the shape [16, 32], config.json says [16, 16]",
    ),
    "another quantiser": (
        config(quantization_config={"quant_method": "awq"}),
        "config.json: quantization_config names the method 'awq'",
    ),
    "a mode that MLX does not have": (config(quantization={"bits": 4, "mode": "nf4"}), "mode 'nf4'"),
    "weights that are no safetensors": (
        lambda files: files.update({WEIGHTS: b"\xff" * 10_000_000}),
        "model.safetensors is not a complete .safetensors file",
    ),
    "a header without end": (
        lambda files: files.update({WEIGHTS: (9_000_000).to_bytes(8, "little") + bytes(9_000_000)}),
        "model.safetensors: the headers have more than 2 MB",
    ),
    "a configuration without end": (
        lambda files: files.update({"config.json": b" " * 10_000_000}),
        "config.json has 10 MB, more than 1 MB",
    ),
    "wrong pixel limits": (
        lambda files: files.update({"preprocessor_config.json": b'{"min_pixels": "few"}'}),
        "preprocessor_config.json: min_pixels and max_pixels must be whole numbers",
    ),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_what_cannot_be_loaded_is_refused_with_the_reason_for_less_than_5_mb(
    repository: FakeHub, pull_home: Path, kind: str
) -> None:
    change, reason = UNFIT[kind]
    change(repository.files)
    message = refused()
    assert reason in message
    assert "download" not in message.partition(reason)[2], "another download of the same files would not help"
    assert repository.sent_bytes < MOST_BYTES < sum(map(len, repository.files.values()))
    assert not pull_home.exists() or not list(pull_home.iterdir())


def test_a_server_that_knows_no_ranges_is_left_when_the_header_is_there(repository: FakeHub) -> None:
    repository.knows_ranges = False
    repository.files[WEIGHTS] = weights(**{OUTPUT: ("BF16", (16, 32))})
    assert "has the shape [16, 32]" in refused()


def test_the_repository_of_these_tests_is_installed_when_nothing_is_wrong(repository: FakeHub, pull_home: Path) -> None:
    folder = run()
    assert (folder / WEIGHTS).read_bytes() == repository.files[WEIGHTS]


def test_what_was_read_of_the_weights_for_the_check_is_not_read_again(repository: FakeHub) -> None:
    run()
    last = len(repository.files[WEIGHTS]) - 1
    assert fetched(repository, WEIGHTS) == [
        f"bytes=0-{fitness.FIRST_BYTES - 1}",
        f"bytes={fitness.FIRST_BYTES}-{last}",
    ]
    assert repository.sent_bytes == sum(map(len, repository.files.values()))


def test_tokens_that_do_not_fit_are_refused_before_the_weights(repository: FakeHub, pull_home: Path) -> None:
    content = json.loads(repository.files["tokenizer.json"])
    content["added_tokens"] = [each for each in content["added_tokens"] if each["content"] != "<|imgpad|>"]
    repository.files["tokenizer.json"] = json.dumps(content).encode()
    assert "tokenizer.json: the token <|imgpad|> is missing" in refused()
    assert fetched(repository, WEIGHTS) == [f"bytes=0-{fitness.FIRST_BYTES - 1}"]
    assert not list(pull_home.iterdir())


def test_the_headers_of_the_real_model_are_well_below_the_limit() -> None:
    full = PRESETS["full"]
    tensors = list(full.vision.tensors())
    for name, shape in full.text.tensors().items():
        parts = KINDS["4"].parts if len(shape) == 2 else (".weight",)
        tensors += [f"language_model.{name.removesuffix('.weight')}{part}" for part in parts]
    entry = {"dtype": "BF16", "shape": [10_000, 1_000], "data_offsets": [10**9, 10**9]}
    assert len(json.dumps(dict.fromkeys(tensors, entry))) < fitness.MOST_HEADERS_BYTES / 10
