"""Checks config.json against the model that the two halves compute, and reads the sizes that it gives.

A value that is wrong here makes no error later, only wrong text, so every value that the mathematics relies on is
compared. Keys that are not named here are of no consequence and may have any value.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.model.directory import SMALL_BUILD
from dotsctl.protocol.model.layout import TextSizes, VisionSizes
from dotsctl.protocol.model.quantisation import stored_quantisation
from dotsctl.protocol.model.safetensors_header import shown

CONFIG = "config.json"
AGAIN = "download the model again"
OTHER_MODEL = "give the folder of a dots.ocr or dots.mocr snapshot, or --model demo"
OTHER_BUILD = f"use another build, as that of 'dotsctl pull {SMALL_BUILD}', or the original in bfloat16"

OURS = {"model_type": "dots_ocr", "architectures": ["DotsOCRForCausalLM"]}
TEXT_FIXED: dict[str, Any] = {
    "hidden_act": "silu",
    "attention_bias": True,
    "mlp_bias": False,
    "rope_scaling": None,
    "use_sliding_window": False,
    "partial_rotary_factor": 1,
}
"""The values that the decoder is built for. A key that is absent has this value in the model's own code."""
VISION_FIXED: dict[str, Any] = {
    "num_channels": 3,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 1,
    "is_causal": False,
    "hidden_act": "silu",
}
"""The same of the encoder."""
REAL_WIDTH, REAL_HEADS = 1536, 12
"""The sizes of dots.ocr: no shape of a tensor shows into how many heads a width is split."""
TEXT_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
VISION_SIZES = ("embed_dim", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
MOST = 1 << 24
"""A limit above every size that a model of this kind can have."""
MOST_LAYERS = 1024
LARGEST_EPSILON = 1e-3
"""The largest epsilon of a norm; dots.ocr has 1e-6 and 1e-5."""
LARGEST_ROPE_THETA = 1e9


@dataclass(frozen=True)
class Problem:
    """One reason for which a model cannot be used."""

    file: str
    """Name of the file in the model's folder."""
    what: str
    """Names the key."""
    remedy: str = AGAIN


def config_problems(config: dict[str, Any]) -> list[Problem]:
    """Return everything in config.json that prevents the use of the model; none, and :func:`sizes` can be called."""
    for key, value in OURS.items():
        if config.get(key) != value:
            what = f"{key} is {_shown(config, key)}, a dots.ocr model has {json.dumps(value)}"
            return [Problem(CONFIG, what, OTHER_MODEL)]
    vision = config.get("vision_config")
    if not isinstance(vision, dict):
        return [Problem(CONFIG, "vision_config is missing, so the model reads no pictures", OTHER_MODEL)]
    try:
        stored_quantisation(config)
    except UsageError as error:
        return [Problem(CONFIG, error.problem, OTHER_BUILD)]
    found = [*_text_problems(config), *_vision_problems(vision)] or [*_split_problems(config, vision)]
    return [Problem(CONFIG, what) for what in found]


def sizes(config: dict[str, Any]) -> tuple[TextSizes, VisionSizes]:
    """Sizes of both halves of a config.json without problems."""
    vision = config["vision_config"]
    text = {key: config[key] for key in (*TEXT_SIZES, "vocab_size")}
    flags = {"use_bias": vision["use_bias"], "post_norm": vision["post_norm"]}
    return (
        TextSizes(**text, tie_word_embeddings=config.get("tie_word_embeddings", False)),
        VisionSizes(**{key: vision[key] for key in VISION_SIZES}, **flags),
    )


def _text_problems(config: dict[str, Any]) -> Iterator[str]:
    yield from _fixed("", config, TEXT_FIXED)
    yield from _counts("", config, (*TEXT_SIZES, "vocab_size", "max_position_embeddings"))
    yield from _number("", config, "rms_norm_eps", LARGEST_EPSILON)
    yield from _number("", config, "rope_theta", LARGEST_ROPE_THETA)
    if type(config.get("tie_word_embeddings", False)) is not bool:
        yield f"tie_word_embeddings is {_shown(config, 'tie_word_embeddings')}, it must be true or false"
    # Newer versions of transformers write the following two when they save a model.
    rope = config.get("rope_parameters")
    plain = {"rope_type": "default", "rope_theta": config.get("rope_theta")}
    if rope is not None and (not isinstance(rope, dict) or plain | rope != plain):
        yield f"rope_parameters is {_shown(config, 'rope_parameters')}, only {json.dumps(plain)} can be computed"
    layers = config.get("layer_types")
    if layers is not None and (not isinstance(layers, list) or any(kind != "full_attention" for kind in layers)):
        yield f"layer_types is {_shown(config, 'layer_types')}, every layer must have full_attention"


def _vision_problems(vision: dict[str, Any]) -> Iterator[str]:
    yield from _fixed("vision_config.", vision, VISION_FIXED)
    yield from _counts("vision_config.", vision, VISION_SIZES)
    yield from _number("vision_config.", vision, "rms_norm_eps", LARGEST_EPSILON)
    for key in ("use_bias", "post_norm"):
        if type(vision.get(key)) is not bool:
            yield f"vision_config.{key} is {_shown(vision, key)}, it must be true or false"


def _split_problems(config: dict[str, Any], vision: dict[str, Any]) -> Iterator[str]:
    """Sizes that are valid by themselves and do not go together."""
    width, heads, shared = config["hidden_size"], config["num_attention_heads"], config["num_key_value_heads"]
    if width % (2 * heads):
        yield f"hidden_size {width} cannot be split into num_attention_heads {heads} of an even width"
    elif config.get("head_dim") not in (None, width // heads):
        yield f"head_dim is {_shown(config, 'head_dim')}, hidden_size over num_attention_heads is {width // heads}"
    if heads % shared:
        yield f"num_attention_heads {heads} cannot be shared by num_key_value_heads {shared}"
    for name, wide, split in (
        ("", width, heads),
        ("vision_config.", vision["embed_dim"], vision["num_attention_heads"]),
    ):
        if wide == REAL_WIDTH and split != REAL_HEADS:
            yield f"{name}num_attention_heads is {split}, dots.ocr splits its width of {wide} into {REAL_HEADS}"
    if vision["embed_dim"] % (4 * vision["num_attention_heads"]):
        yield (
            f"vision_config.embed_dim {vision['embed_dim']} cannot be split into vision_config.num_attention_heads "
            f"{vision['num_attention_heads']} of a width that is a multiple of 4"
        )
    if vision["hidden_size"] != width:
        yield f"vision_config.hidden_size is {vision['hidden_size']}, the decoder's hidden_size is {width}"


def _fixed(where: str, section: dict[str, Any], values: dict[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        found = section.get(key, value)
        # 1 == True in Python, and not in JSON.
        if found != value or isinstance(found, bool) != isinstance(value, bool):
            yield f"{where}{key} is {_shown(section, key)}, only {json.dumps(value)} can be computed"


def _counts(where: str, section: dict[str, Any], keys: tuple[str, ...]) -> Iterator[str]:
    for key in keys:
        most = MOST_LAYERS if key == "num_hidden_layers" else MOST
        value = section.get(key)
        if type(value) is not int or not 0 < value <= most:
            yield f"{where}{key} is {_shown(section, key)}, it must be a whole number from 1 to {most:,}"


def _number(where: str, section: dict[str, Any], key: str, largest: float) -> Iterator[str]:
    value = section.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= largest:
        yield f"{where}{key} is {_shown(section, key)}, it must be a number above 0 and at most {largest:g}"


def _shown(section: dict[str, Any], key: str) -> str:
    """A value as it is written in the file."""
    return shown(json.dumps(section[key])) if key in section else "missing"
