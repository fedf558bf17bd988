"""Validation of a whole model directory: config values, and what no change of a byte may do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dotsctl.protocol.checkpoint import INDEX
from dotsctl.protocol.checkpoint_config import config_problems, sizes
from dotsctl.protocol.checkpoint_layout import canonical_name
from dotsctl.protocol.checkpoint_validation import CheckpointFacts, PatchLayout, validate_checkpoint
from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.model_directory import demo_directory
from dotsctl.tools.random_checkpoint import write_checkpoint
from dotsctl.tools.random_shape import Shape, config_files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SHAPE = Shape(16, 1, 16, 1, real_vocabulary=False)
WEIGHTS = "model.safetensors"
Change = Callable[[dict[str, Any]], object]


CONFIG_TEXT = json.dumps(config_files(SHAPE, "float32")["config.json"])


def config() -> dict[str, Any]:
    return json.loads(CONFIG_TEXT)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    write_checkpoint(folder, SHAPE)
    return folder


@pytest.fixture(scope="module")
def facts(good: Path) -> CheckpointFacts:
    return validate_checkpoint(good)


def test_the_demo_model_is_valid() -> None:
    found = validate_checkpoint(demo_directory())
    assert (found.encoder.num_tensors, found.decoder.num_tensors) == (31, 39)
    assert found.encoder.dtypes == ("F16",)
    assert found.limits.max_pixels == 68_992
    assert found.max_positions == 2048


def test_a_good_config_has_no_problems_and_gives_the_sizes() -> None:
    assert config_problems(config()) == []
    assert sizes(config()) == (SHAPE.text, SHAPE.vision)


@pytest.mark.parametrize(
    "extra",
    [
        {"torch_dtype": "float64"},
        {"something": {"new": 1}},
        {"head_dim": 4},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000}},
        {"layer_types": ["full_attention"]},
        {"quantization": None},
    ],
)
def test_keys_of_no_consequence_and_what_other_programs_add_are_taken(extra: dict[str, Any]) -> None:
    assert config_problems(config() | extra) == []


@pytest.mark.parametrize("key", ["attention_bias", "hidden_act", "rope_scaling", "use_sliding_window"])
def test_a_key_that_has_a_default_may_be_absent(key: str) -> None:
    less = config()
    del less[key]
    assert config_problems(less) == []


WRONG: list[tuple[str, Any]] = [
    ("model_type", "qwen2"),
    ("architectures", ["Qwen2ForCausalLM"]),
    ("architectures", "DotsOCRForCausalLM"),
    ("hidden_act", "gelu"),
    ("hidden_act", None),
    ("attention_bias", False),
    ("attention_bias", 1),
    ("mlp_bias", True),
    ("rope_scaling", {"type": "yarn", "factor": 4}),
    ("rope_parameters", {"rope_type": "linear"}),
    ("rope_parameters", {"rope_type": "default", "rope_theta": 10_000}),
    ("partial_rotary_factor", 0.5),
    ("use_sliding_window", True),
    ("layer_types", ["sliding_attention"]),
    ("tie_word_embeddings", "no"),
    ("hidden_size", 0),
    ("hidden_size", "16"),
    ("hidden_size", 1 << 40),
    ("intermediate_size", 2.5),
    ("num_hidden_layers", 100_000),
    ("num_attention_heads", True),
    ("num_attention_heads", 3),
    ("num_attention_heads", 16),
    ("num_key_value_heads", 3),
    ("head_dim", 8),
    ("vocab_size", -1),
    ("max_position_embeddings", None),
    ("rms_norm_eps", 1),
    ("rms_norm_eps", 0),
    ("rms_norm_eps", float("nan")),
    ("rope_theta", "1e6"),
    ("rope_theta", float("inf")),
    ("quantization", {"bits": 4}),
    ("quantization_config", {"quant_method": "awq"}),
    ("vision_config", None),
    ("vision_config", []),
    ("vision_config.num_channels", 1),
    ("vision_config.patch_size", 16),
    ("vision_config.spatial_merge_size", 1),
    ("vision_config.temporal_patch_size", 2),
    ("vision_config.is_causal", True),
    ("vision_config.embed_dim", 24),
    ("vision_config.hidden_size", 32),
    ("vision_config.num_attention_heads", 3),
    ("vision_config.use_bias", "false"),
    ("vision_config.post_norm", None),
    ("vision_config.rms_norm_eps", 0.5),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_value_that_would_give_wrong_text_is_named_with_its_key(key: str, value: Any) -> None:
    content = config()
    *path, last = key.split(".")
    section = content[path[0]] if path else content
    section[last] = value
    problems = config_problems(content)
    assert problems
    assert key in problems[0].what
    assert problems[0].file == "config.json"
    assert problems[0].remedy


@pytest.mark.parametrize(
    "key",
    [
        *("model_type", "architectures", "hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size"),
        *("num_attention_heads", "num_key_value_heads", "rms_norm_eps", "rope_theta", "max_position_embeddings"),
        *("vision_config", "vision_config.embed_dim", "vision_config.use_bias", "vision_config.rms_norm_eps"),
    ],
)
def test_a_key_without_a_default_must_be_there(key: str) -> None:
    content = config()
    *path, last = key.split(".")
    del (content[path[0]] if path else content)[last]
    assert [key in problem.what and "missing" in problem.what for problem in config_problems(content)] == [True]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*config(), *(f"vision_config.{key}" for key in config()["vision_config"])]), JSON_VALUES)
def test_any_value_of_any_key_is_taken_or_named_and_never_an_error(key: str, value: object) -> None:
    content = config()
    *path, last = key.split(".")
    (content[path[0]] if path else content)[last] = value
    if not config_problems(content):
        sizes(content)


def mutated(good: Path, folder: Path, content: bytes) -> Path:
    """The good model with another file of weights."""
    if not folder.exists():
        shutil.copytree(good, folder)
    (folder / WEIGHTS).write_bytes(content)
    return folder


def facts_or_refusal(folder: Path) -> CheckpointFacts | None:
    try:
        return validate_checkpoint(folder)
    except MissingError as error:
        assert str(folder) in str(error)
        return None


SETTINGS = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SETTINGS
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_a_changed_byte_of_a_header_is_refused_or_changes_nothing(
    good: Path, facts: CheckpointFacts, tmp_path: Path, place: float, byte: int
) -> None:
    content = bytearray((good / WEIGHTS).read_bytes())
    header_bytes = 8 + int.from_bytes(content[:8], "little")
    content[int(place * header_bytes)] = byte
    assert facts_or_refusal(mutated(good, tmp_path / "m", bytes(content))) in (facts, None)


def test_both_outcomes_of_a_changed_byte_exist(good: Path, facts: CheckpointFacts, tmp_path: Path) -> None:
    content = (good / WEIGHTS).read_bytes()
    assert facts_or_refusal(mutated(good, tmp_path / "m", content.replace(b'"pt"', b'"tf"', 1))) == facts
    assert facts_or_refusal(mutated(good, tmp_path / "m", content.replace(b'"F32"', b'"F16"', 1))) is None


@SETTINGS
@given(place=st.floats(0, 1, exclude_max=True))
def test_a_file_that_is_cut_off_anywhere_is_refused(good: Path, tmp_path: Path, place: float) -> None:
    content = (good / WEIGHTS).read_bytes()
    assert facts_or_refusal(mutated(good, tmp_path / "m", content[: int(place * len(content))])) is None


@SETTINGS
@given(
    file=st.sampled_from(
        ["config.json", "generation_config.json", "tokenizer.json", "preprocessor_config.json", INDEX]
    ),
    place=st.floats(0, 1, exclude_max=True),
    byte=st.integers(0, 255),
)
def test_a_changed_byte_of_a_json_file_is_never_another_error(
    sharded: Path, tmp_path: Path, file: str, place: float, byte: int
) -> None:
    folder = tmp_path / "m"
    if not folder.exists():
        shutil.copytree(sharded, folder)
    content = bytearray((sharded / file).read_bytes())
    content[int(place * len(content))] = byte
    (folder / file).write_bytes(bytes(content))
    facts_or_refusal(folder)
    shutil.copy(sharded / file, folder / file)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    write_checkpoint(folder, SHAPE, shard_bytes=20_000)
    return folder


def edit_header(folder: Path, change: Change) -> None:
    """Change the header of the weights and leave their bytes."""
    content = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ([16, 3, 14, 14], PatchLayout.CHANNELS_FIRST),
        ([16, 14, 14, 3], PatchLayout.CHANNELS_LAST),
        ([16, 588], PatchLayout.FLAT),
    ],
)
def test_the_layout_of_the_patch_embedding_is_told_from_its_shape(
    good: Path, tmp_path: Path, shape: list[int], layout: PatchLayout
) -> None:
    folder = mutated(good, tmp_path / "m", (good / WEIGHTS).read_bytes())
    name = "vision_tower.patch_embed.patchifier.proj.weight"
    edit_header(folder, lambda header: header[name].update(shape=shape))
    assert validate_checkpoint(folder).patch_layout is layout


def test_the_names_of_newer_conversions_and_rotary_tables_are_taken(
    good: Path, facts: CheckpointFacts, tmp_path: Path
) -> None:
    folder = mutated(good, tmp_path / "m", (good / WEIGHTS).read_bytes())

    def rename(header: dict[str, Any]) -> None:
        for name in [name for name in header if name.startswith("vision_tower.")]:
            header[f"model.{name}"] = header.pop(name)
        end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        for place, name in enumerate(["model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"]):
            offsets = [end + 8 * place, end + 8 * place + 8]
            header[name] = {"dtype": "F32", "shape": [2], "data_offsets": offsets}

    edit_header(folder, rename)
    with (folder / WEIGHTS).open("ab") as stream:
        stream.write(bytes(16))
    assert validate_checkpoint(folder) == facts
    assert canonical_name("model.vision_tower.x") == "vision_tower.x"
    assert canonical_name("model.norm.weight") == "model.norm.weight"


def test_a_model_whose_head_is_its_embedding_table_is_taken(good: Path, tmp_path: Path) -> None:
    folder = mutated(good, tmp_path / "m", (good / WEIGHTS).read_bytes())
    content = (folder / WEIGHTS).read_bytes()
    sizes_bytes: list[int] = []

    def drop(header: dict[str, Any]) -> None:
        start, end = header.pop("lm_head.weight")["data_offsets"]
        sizes_bytes.append(end - start)  # it is the last tensor

    edit_header(folder, drop)
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: -sizes_bytes[0]])
    (folder / "config.json").write_text(json.dumps(config() | {"tie_word_embeddings": True}))
    found = validate_checkpoint(folder)
    assert found.text.tie_word_embeddings
    assert found.decoder.num_tensors == 14


def test_companions_that_macos_writes_are_no_weights(good: Path, facts: CheckpointFacts, tmp_path: Path) -> None:
    folder = mutated(good, tmp_path / "m", (good / WEIGHTS).read_bytes())
    (folder / f"._{WEIGHTS}").write_bytes(b"\x00\x05\x16\x07")
    assert validate_checkpoint(folder) == facts


def test_a_message_lists_the_first_few_problems_and_counts_the_others(good: Path, tmp_path: Path) -> None:
    folder = mutated(good, tmp_path / "m", (good / WEIGHTS).read_bytes())
    (folder / "config.json").write_text(json.dumps(config() | {"num_hidden_layers": 2}))
    with pytest.raises(MissingError) as caught:
        validate_checkpoint(folder)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"the model in {folder} cannot be used, 12 things are wrong:"
    assert lines[1] == f"  {WEIGHTS}: model.layers.1.input_layernorm.weight is missing"
    assert len(lines) == 8
    assert lines[6:] == ["  and 7 more", "What to do: download the model again"]
