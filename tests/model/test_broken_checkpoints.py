"""Models that are broken in one place: each is refused before anything is loaded, in words that help."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dotsctl.decoder_worker.plugins.mlx import MLXDecoder
from dotsctl.encoder_worker.plugins.mlx import MLXEncoder
from dotsctl.protocol.errors import DotsctlError, ExitCode, MissingError
from dotsctl.protocol.machine import memory
from dotsctl.protocol.model.validation import validate_checkpoint
from safetensors.numpy import load_file, save_file

from tests.plugins import load_plugin

pytestmark = pytest.mark.model
Break = Callable[[Path], object]
Tensors = dict[str, np.ndarray]
CONFIG, INDEX, TOKENIZER = "config.json", "model.safetensors.index.json", "tokenizer.json"
SECOND, LAST = "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"
AGAIN = "download the model again"
DOWN = "model.layers.1.mlp.down_proj.weight"
QKV = "vision_tower.blocks.1.attn.qkv.weight"
PATCH = "vision_tower.patch_embed.patchifier.proj.weight"
BIAS = "vision_tower.merger.ln_q.bias"


def in_json(file: str, change: Callable[[dict[str, Any]], object]) -> Break:
    """Change the content of a JSON file."""

    def apply(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        change(content)
        (folder / file).write_text(json.dumps(content))

    return apply


def config(**values: Any) -> Break:
    return in_json(CONFIG, lambda content: content.update(values))


def vision(**values: Any) -> Break:
    return in_json(CONFIG, lambda content: content["vision_config"].update(values))


def in_tensors(change: Callable[[Tensors], object]) -> Break:
    """Change the tensors of the shard that holds them, keeping index and shards in agreement."""

    def apply(folder: Path) -> None:
        places = json.loads((folder / INDEX).read_text())["weight_map"]
        tensors = {name: load_file(folder / file)[name] for name, file in places.items()}
        change(tensors)
        places = {name: places.get(name, SECOND) for name in tensors}
        for file in set(places.values()):
            save_file({name: tensors[name] for name in tensors if places[name] == file}, folder / file)
        (folder / INDEX).write_text(json.dumps({"weight_map": places}))

    return apply


def with_tensor(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Break:
    return in_tensors(lambda tensors: tensors.update({name: np.ascontiguousarray(change(tensors[name]))}))


def in_bytes(file: str, change: Callable[[bytes], bytes]) -> Break:
    return lambda folder: (folder / file).write_bytes(change((folder / file).read_bytes()))


def both(first: Break, second: Break) -> Break:
    def apply(folder: Path) -> None:
        first(folder)
        second(folder)

    return apply


def without(*files: str) -> Break:
    return lambda folder: [(folder / file).unlink() for file in files]


def only_bin(folder: Path) -> None:
    for path in (*folder.glob("*.safetensors"), folder / INDEX):
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"PK\x03\x04")


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def beyond_the_end(content: bytes) -> bytes:
    """The last tensor's place moved behind the end of the file."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = max((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])
    header[name]["data_offsets"] = [place + (1 << 40) for place in header[name]["data_offsets"]]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def drop_marks(content: dict[str, Any]) -> None:
    content["added_tokens"] = [token for token in content["added_tokens"] if "user" not in token["content"]]


def drop_shard_from_index(content: dict[str, Any]) -> None:
    content["weight_map"] = {name: file for name, file in content["weight_map"].items() if file != SECOND}


BROKEN: dict[str, tuple[Break, tuple[str, ...]]] = {
    "missing shard": (without(SECOND), (INDEX, SECOND, "does not exist", AGAIN)),
    "shard missing from the index": (
        in_json(INDEX, drop_shard_from_index),
        (INDEX, SECOND, "not named here", "remove the file"),
    ),
    "tensor missing from the index": (
        in_json(INDEX, lambda content: content["weight_map"].pop(BIAS)),
        (INDEX, BIAS, "no file", AGAIN),
    ),
    "index places a tensor in another shard": (
        in_json(INDEX, lambda content: content["weight_map"].update({BIAS: SECOND})),
        (INDEX, f"{BIAS} is in", SECOND, AGAIN),
    ),
    "index places a tensor that no shard has": (
        in_json(INDEX, lambda content: content["weight_map"].update({"model.more.weight": LAST})),
        (LAST, "model.more.weight is missing", "the index places it here", AGAIN),
    ),
    "index leads out of the folder": (
        in_json(INDEX, lambda content: content["weight_map"].update({BIAS: "../x.safetensors"})),
        (INDEX, BIAS, "../x.safetensors", "in this folder", AGAIN),
    ),
    "index without a map": (in_json(INDEX, dict.clear), (INDEX, "weight_map", AGAIN)),
    "missing tensor": (in_tensors(lambda tensors: tensors.pop(DOWN)), ("model-0000", f"{DOWN} is missing", AGAIN)),
    "extra tensor": (
        in_tensors(lambda tensors: tensors.update({"model.layers.0.self_attn.o_proj.bias": np.zeros(48, "f4")})),
        (SECOND, "model.layers.0.self_attn.o_proj.bias [48] is not part of a dots.ocr model", AGAIN),
    ),
    "one layer too many": (
        in_tensors(lambda tensors: tensors.update({"model.layers.2.mlp.up_proj.weight": np.zeros((80, 48), "f4")})),
        (SECOND, "model.layers.2.mlp.up_proj.weight [80, 48] is not part", AGAIN),
    ),
    "wrong shape": (
        with_tensor("model.norm.weight", lambda old: old[:-1]),
        ("model-0000", "model.norm.weight has the shape [47]", "config.json says [48]", AGAIN),
    ),
    "transposed product": (
        with_tensor(DOWN, np.transpose),
        (f"{DOWN} has the shape [80, 48]", "config.json says [48, 80]", AGAIN),
    ),
    "weights in int8": (
        with_tensor(DOWN, lambda old: old.astype(np.int8)),
        (f"{DOWN} has the type I8", "BF16, F16 or F32", "use another build"),
    ),
    "patch embedding with two frames": (
        with_tensor(PATCH, lambda old: np.stack([old, old], axis=2)),
        (f"{PATCH} has the shape [64, 3, 2, 14, 14]", "[64, 3, 14, 14] or [64, 14, 14, 3] or [64, 588]", AGAIN),
    ),
    "patch embedding with its axes in an unknown order": (
        with_tensor(PATCH, np.transpose),
        (f"{PATCH} has the shape [14, 14, 3, 64]", AGAIN),
    ),
    "merger with an RMSNorm": (in_tensors(lambda tensors: tensors.pop(BIAS)), (f"{BIAS} is missing", AGAIN)),
    "one tensor under two names": (
        in_tensors(lambda tensors: tensors.update({f"model.{BIAS}": tensors[BIAS]})),
        (f"{BIAS} is in", "too", AGAIN),
    ),
    "file cut off": (in_bytes(SECOND, lambda content: content[:-100]), (SECOND, "cut off", "download it again")),
    "download that stopped at once": (in_bytes(SECOND, lambda content: b""), (SECOND, "0 bytes", "download it again")),
    "header of an impossible length": (
        in_bytes(SECOND, lambda content: b"\xff" * 8 + content[8:]),
        (SECOND, "claims a header of", "download it again"),
    ),
    "header that leads out of the file": (in_bytes(SECOND, beyond_the_end), (SECOND, "cut off", "download it again")),
    "pointer of Git LFS": (
        in_bytes(SECOND, lambda content: b"version https://git-lfs.github.com/spec/v1\n"),
        (SECOND, "git lfs pull"),
    ),
    "weights as .bin": (only_bin, (".bin", "run code", ".safetensors files of the model")),
    "no weights": (
        without(INDEX, "model-00001-of-00003.safetensors", SECOND, LAST),
        ("no .safetensors file", "complete dots.ocr snapshot"),
    ),
    "quantised configuration": (
        config(quantization={"group_size": 64, "bits": 4}),
        (CONFIG, "matrices are 4bit", "no file has their scales", AGAIN),
    ),
    "quantised tensors": (
        in_tensors(lambda tensors: tensors.update({DOWN.replace("weight", "scales"): np.zeros((48, 2), "f4")})),
        (DOWN.replace("weight", "scales"), "quantised, but config.json has no quantization", "use another build"),
    ),
    "quantised encoder": (
        in_tensors(lambda tensors: tensors.update({QKV.replace("weight", "scales"): np.zeros((192, 1), "f4")})),
        (QKV.replace("weight", "scales"), "the encoder is quantised", "use another build"),
    ),
    "weights of another quantiser": (
        in_tensors(lambda tensors: tensors.update({DOWN.replace("weight", "qweight"): np.zeros((48, 2), "i4")})),
        (DOWN.replace("weight", "qweight"), "another program than MLX", "use another build"),
    ),
    "groups that do not divide the rows": (
        both(
            config(quantization={"group_size": 64, "bits": 4}),
            in_tensors(lambda tensors: tensors.update({DOWN.replace("weight", "scales"): np.zeros((48, 2), "f4")})),
        ),
        (DOWN.replace("weight", "scales"), "rows of 80 weights", "groups of 64", "use another build"),
    ),
    "another type of model": (config(model_type="qwen2_5_vl"), (CONFIG, "model_type", "qwen2_5_vl", "--model demo")),
    "heads that do not divide the width": (config(num_attention_heads=5), (CONFIG, "num_attention_heads 5", AGAIN)),
    "more key heads than stored": (
        config(num_key_value_heads=4),
        ("model.layers.0.self_attn.k_proj.weight has the shape [24, 48]", "config.json says [48, 48]", AGAIN),
    ),
    "heads that cannot share keys": (config(num_key_value_heads=3), (CONFIG, "num_key_value_heads 3", AGAIN)),
    "stretched rotation": (config(rope_scaling={"type": "yarn"}), (CONFIG, "rope_scaling", "yarn", "null", AGAIN)),
    "tied embeddings beside a head": (
        config(tie_word_embeddings=True),
        ("lm_head.weight exists", "tie_word_embeddings in config.json is true", "set tie_word_embeddings to false"),
    ),
    "layers that are not stored": (
        config(num_hidden_layers=3),
        ("12 problems", "model.layers.2.input_layernorm.weight is missing", "and 7 more", AGAIN),
    ),
    "encoder of another width": (
        vision(hidden_size=64),
        (CONFIG, "vision_config.hidden_size is 64", "decoder's hidden_size is 48", AGAIN),
    ),
    "biases that are not stored": (
        vision(use_bias=True),
        ("vision_tower.blocks.0.attn.qkv.bias is missing", AGAIN),
    ),
    "norm that the configuration denies": (
        vision(post_norm=False),
        ("vision_tower.post_trunk_norm.weight [64] is not part", AGAIN),
    ),
    "patches of 16 pixels": (vision(patch_size=16), (CONFIG, "vision_config.patch_size is 16", "only 14", AGAIN)),
    "no vision": (in_json(CONFIG, lambda content: content.pop("vision_config")), (CONFIG, "vision_config", "--model")),
    "configuration that is no JSON": (
        in_bytes(CONFIG, lambda content: content[:-9]),
        (CONFIG, "cannot be read", AGAIN),
    ),
    "no tokenizer": (without(TOKENIZER), (TOKENIZER, "is missing", "complete dots.ocr snapshot")),
    "tokenizer cut off": (in_bytes(TOKENIZER, lambda content: content[:500]), (TOKENIZER, "cannot be read", AGAIN)),
    "tokenizer without the marks of a prompt": (in_json(TOKENIZER, drop_marks), (TOKENIZER, "<|user|>", AGAIN)),
    "tokenizer of another kind": (
        in_json(TOKENIZER, lambda content: content["model"].pop("vocab")),
        (TOKENIZER, "model.vocab", AGAIN),
    ),
    "vocabulary smaller than the tokenizer's": (
        config(vocab_size=100),
        (TOKENIZER, "has the id 264", "vocab_size in config.json is 100", AGAIN),
    ),
    "placeholder with another id": (
        config(image_token_id=151665),
        (CONFIG, "image_token_id is 151665", "<|imgpad|> has the id 257", "different models", AGAIN),
    ),
    "no generation_config": (without("generation_config.json"), ("generation_config.json is missing", "complete")),
    "no end of an answer": (
        in_json("generation_config.json", lambda content: content.pop("eos_token_id")),
        ("generation_config.json", "eos_token_id is missing", AGAIN),
    ),
    "end outside of the vocabulary": (
        in_json("generation_config.json", lambda content: content.update(eos_token_id=[256, 151673])),
        ("generation_config.json", "eos_token_id holds 151673", "vocab_size in config.json is 272", AGAIN),
    ),
    "no preprocessor_config": (
        without("preprocessor_config.json"),
        ("preprocessor_config.json is missing", "complete"),
    ),
    "empty folder": (empty, (CONFIG, "is missing", "--model demo")),
}


@pytest.fixture(scope="module")
def good(write_model: Callable[..., Path]) -> Path:
    return write_model(shards=3)


def test_the_model_is_valid_before_it_is_broken(good: Path) -> None:
    assert validate_checkpoint(good).encoder.parameters > 0


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_model_is_refused_with_file_key_and_remedy(good: Path, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    apply, words = BROKEN[kind]
    apply(folder)
    with pytest.raises(MissingError) as caught:
        validate_checkpoint(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert all(word in message for word in words), message
    for plugin in (MLXEncoder(), MLXDecoder()):
        with pytest.raises(DotsctlError) as refused:
            load_plugin(plugin, folder, {}, lambda note: None)
        assert str(refused.value) == message
        assert refused.value.exit_code is ExitCode.MISSING


def test_a_tokenizer_that_its_library_cannot_use_is_refused(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    in_json(TOKENIZER, lambda content: content["model"].update(merges=[["a", "nothing of the kind"]]))(folder)
    with pytest.raises(MissingError, match=r"tokenizer\.json is not a usable tokenizer.*download the model again"):
        load_plugin(MLXDecoder(), folder, {}, lambda note: None)


@pytest.mark.parametrize("plugin", [MLXEncoder, MLXDecoder])
def test_a_model_that_exceeds_the_memory_is_refused_by_either_worker(
    good: Path, plugin: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "memory_limit", lambda: memory.MemoryLimit(100 << 20))
    with pytest.raises(MissingError, match=r"too large for this machine.*there are 0\.10 GB.*more memory"):
        load_plugin(plugin(), good, {}, lambda note: None)


def test_rotary_tables_that_other_programs_save_are_left_out(write_model: Callable[..., Path], good: Path) -> None:
    folder = write_model(shards=3)
    names = ("vision_tower.rotary_pos_emb.inv_freq", "model.layers.0.self_attn.rotary_emb.inv_freq")
    in_tensors(lambda tensors: tensors.update(dict.fromkeys(names, np.ones(8, "f4"))))(folder)
    for plugin in (MLXEncoder(), MLXDecoder()):
        load_plugin(plugin, folder, {}, lambda note: None)
        plugin.close()
