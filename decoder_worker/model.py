"""Loads the text half of a dots.ocr snapshot into mlx-lm's Qwen2. Imported by the MLX plugin alone.

Weights are float32 on a CPU, where bfloat16 products do not go through the BLAS and are 40 times slower, and bfloat16
on a GPU, if no other type is chosen. Those of a quantised decoder stay quantised; its scales and offsets, and with them
what passes through the layers, have these types.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from dotsctl.decoder_worker import bare_mlx_lm  # noqa: F401
from dotsctl.decoder_worker.quantised import QuantisedDecoder
from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.machine.memory import pipeline_need, require_memory
from dotsctl.protocol.model.checkpoint import read_json, tensor_files
from dotsctl.protocol.model.half_precision import HalfPlan
from dotsctl.protocol.model.layout import is_harmless
from dotsctl.protocol.model.validation import validate_checkpoint
from mlx.utils import tree_flatten
from mlx_lm.models import qwen2
from tokenizers import Tokenizer

PREFIXES = ("model.", "lm_head.")
"""The prefixes of the names of the text half's tensors; ``model.vision_tower.`` is not among them."""
FORWARDED = (
    "hidden_size",
    "num_hidden_layers",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "rms_norm_eps",
    "vocab_size",
    "rope_theta",
    "max_position_embeddings",
)
"""Keys of config.json that mlx-lm needs."""
DTYPES = {"float32": mx.float32, "bfloat16": mx.bfloat16, "float16": mx.float16}
UNSCALED = HalfPlan()
QUANTISED_PART = re.compile(r"\.(scales|biases)$")
"""Ends of the names of scales and offsets, which are multiplied as the weight that they belong to."""


@dataclass(frozen=True)
class TextModel:
    """The decoder half, ready to compute."""

    network: qwen2.Model
    tokenizer: Tokenizer
    width: int
    """Columns of its embeddings; 1536 in dots.ocr."""
    dtype: mx.Dtype
    context: int
    """Positions for prompt and answer together."""
    end_ids: frozenset[int]
    """Tokens that end an answer."""
    image_token_id: int | None
    """The placeholder's id, where config.json names it."""
    on_gpu: bool
    position_bytes: int
    """The bytes of the keys and values of one position in all layers; 28,672 in dots.ocr with bfloat16."""
    page_factor: float
    """Power of two to multiply the embeddings of a page with."""


def load_model(
    folder: Path,
    cache_bytes: int = 0,
    quantised: QuantisedDecoder | None = None,
    dtype_name: str | None = None,
    plan: HalfPlan = UNSCALED,
) -> TextModel:
    """Load and evaluate the text half.

    Args:
        folder: of the model.
        cache_bytes: what keys and values of all pages will take at most.
        quantised: weights to use in place of the model's own.
        dtype_name: a key of ``DTYPES``; none: float32 on a CPU and bfloat16 on a GPU.
        plan: powers of two to scale weights with; the logits stay the same.

    Raises:
        MissingError: the model is broken, of another kind, or with the encoder too large for this machine.
    """
    facts = validate_checkpoint(folder)
    config = read_json(folder, "config.json")
    generation = read_json(folder, "generation_config.json")
    arguments = _arguments(config)
    on_gpu = mx.default_device().type == mx.DeviceType.gpu
    dtype = DTYPES[dtype_name or ("bfloat16" if on_gpu else "float32")]
    decoder_bytes = None if quantised is None else quantised.size_bytes
    require_memory(pipeline_need(facts, dtype.size, cache_bytes, decoder_bytes))
    if quantised is None:
        network = read_network(folder, dtype, plan)
    else:
        network = _quantised_network(arguments, quantised, dtype, plan)
    for _, weight in tree_flatten(network.parameters()):
        mx.eval(weight)  # one by one: all at once, the stored tensors are in memory together with their float32 copies
    longest = generation.get("max_length")
    positions = arguments.max_position_embeddings
    return TextModel(
        network=network,
        tokenizer=read_tokenizer(folder),
        width=arguments.hidden_size,
        dtype=dtype,
        context=min(positions, longest) if isinstance(longest, int) else positions,
        end_ids=_end_ids(generation),
        image_token_id=config.get("image_token_id"),
        on_gpu=on_gpu,
        position_bytes=_position_bytes(arguments, dtype),
        page_factor=2.0**plan.residual_exponent,
    )


def read_network(folder: Path, dtype: mx.Dtype | None, plan: HalfPlan = UNSCALED) -> qwen2.Model:
    """The text half with its own weights, not evaluated: MLX reads a tensor when something needs it.

    Args:
        folder: of the model, which was validated.
        dtype: of the weights; none: as they are stored.
        plan: powers of two to scale weights with.

    Raises:
        MissingError: a file or a tensor is missing.
    """
    network = qwen2.Model(_arguments(read_json(folder, "config.json")))
    _fill(network, _tensors(folder, dtype, plan), "weights", "download the model again")
    _scale_epsilons(network, plan.epsilon_factor)
    return network


def _quantised_network(
    arguments: qwen2.ModelArgs, quantised: QuantisedDecoder, dtype: mx.Dtype, plan: HalfPlan
) -> qwen2.Model:
    """The text half with quantised weights, not evaluated."""
    network, chosen = qwen2.Model(arguments), quantised.quantisation
    nn.quantize(network, chosen.group_size, chosen.bits)
    tensors: dict[str, mx.array] = {}
    for file in quantised.files:
        for name, tensor in cast(dict[str, mx.array], mx.load(str(file))).items():
            is_levels = tensor.dtype == mx.uint32
            tensors[name] = tensor if is_levels else _scaled(name, tensor, plan).astype(dtype)
    _fill(network, tensors, "quantised weights", f"rebuild them: {quantised.remedy}")
    _scale_epsilons(network, plan.epsilon_factor)
    return network


def _scaled(name: str, tensor: mx.array, plan: HalfPlan) -> mx.array:
    """A tensor multiplied with its power of two, in float32 where there is one."""
    factor = plan.factor(QUANTISED_PART.sub(".weight", name))
    return tensor if factor == 1 else tensor.astype(mx.float32) * factor


def _scale_epsilons(network: qwen2.Model, factor: float) -> None:
    """Multiply the epsilon of each norm, all of which take the residual stream."""
    for layer in network.model.layers:
        layer.input_layernorm.eps *= factor
        layer.post_attention_layernorm.eps *= factor
    network.model.norm.eps *= factor


def _fill(network: qwen2.Model, tensors: dict[str, mx.array], what: str, remedy: str) -> None:
    """Give the network its tensors, exactly those that it has places for. Raises MissingError."""
    try:
        network.load_weights(list(tensors.items()))
    except ValueError as error:
        raise MissingError(f"the {what} do not fit config.json ({error})", remedy) from None


def _arguments(config: dict[str, Any]) -> qwen2.ModelArgs:
    """Sizes for mlx-lm, of a model that was validated."""
    return qwen2.ModelArgs(
        model_type="qwen2",
        tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
        rope_scaling=config.get("rope_scaling"),
        **{key: config[key] for key in FORWARDED},
    )


def _position_bytes(arguments: qwen2.ModelArgs, dtype: mx.Dtype) -> int:
    head_dim = arguments.hidden_size // arguments.num_attention_heads
    return 2 * arguments.num_hidden_layers * arguments.num_key_value_heads * head_dim * dtype.size


def _tensors(folder: Path, dtype: mx.Dtype | None, plan: HalfPlan) -> dict[str, mx.array]:
    """The text half's tensors; MLX reads them when they are evaluated, so the tower's are never read."""
    tensors: dict[str, mx.array] = {}
    for file in tensor_files(folder, PREFIXES):
        for name, tensor in cast(dict[str, mx.array], mx.load(str(file))).items():
            if name.startswith(PREFIXES) and not name.startswith("model.vision_tower.") and not is_harmless(name):
                scaled = _scaled(name, tensor, plan)
                tensors[name] = scaled if dtype is None else scaled.astype(dtype)
    return tensors


def _end_ids(generation: dict[str, Any]) -> frozenset[int]:
    """Ids that end an answer, from generation_config.json: config.json of dots.ocr has none, or wrong ones."""
    found = generation["eos_token_id"]
    return frozenset(found if isinstance(found, list) else [found])


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model. Raises MissingError."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise MissingError(f"{path} is missing", "download the complete dots.ocr snapshot")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library has no class of its own for a file that it cannot use
        raise MissingError(f"{path} is not a usable tokenizer ({error})", "download the model again") from None
