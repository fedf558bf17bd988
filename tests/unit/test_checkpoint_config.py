"""Values of config.json: those that would give wrong text are named, all others are taken."""

import json
from typing import Any

import pytest
from dotsctl.protocol.model.config import config_problems, sizes
from dotsctl.tools.random_checkpoint.shape import Shape, config_files
from hypothesis import given, settings
from hypothesis import strategies as st

SHAPE = Shape(16, 1, 16, 1, real_vocabulary=False)
CONFIG_TEXT = json.dumps(config_files(SHAPE, "float32")["config.json"])


def config() -> dict[str, Any]:
    return json.loads(CONFIG_TEXT)


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
    ("quantization", {"bits": 7}),
    ("quantization", {"bits": True}),
    ("quantization", {"bits": 4, "group_size": 48}),
    ("quantization", {"bits": 4, "group_size": 64, "mode": "mxfp4"}),
    ("quantization", {"bits": 4, "mode": "fp8"}),
    ("quantization", {"bits": 4, "mode": ["affine"]}),
    ("quantization", {"bits": 4, "model.norm": {"bits": 9}}),
    ("quantization", True),
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


@pytest.mark.parametrize(("key", "heads"), [("num_attention_heads", 24), ("vision_config.num_attention_heads", 6)])
def test_another_number_of_heads_is_named_though_every_shape_would_be_the_same(key: str, heads: int) -> None:
    real = config_files(Shape(1536, 1, 1536, 1), "bfloat16")["config.json"]
    assert config_problems(real) == []
    section = real["vision_config"] if "." in key else real
    section["num_attention_heads"] = heads
    (problem,) = config_problems(real)
    assert problem.what == f"{key} is {heads}, dots.ocr splits its width of 1536 into 12"
