"""Loads the text half of a dots.ocr snapshot into mlx-lm's Qwen2. Imported by the MLX plugin alone.

Weights are float32 on a CPU, where bfloat16 products do not go through the BLAS and are 40 times slower, and bfloat16
on a GPU, if no other type is chosen. Quantised matrices stay quantised; affine scales and offsets, and with them what
passes through the layers, have these types.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from dotsctl.decoder_worker import bare_mlx_lm  # noqa: F401
from dotsctl.decoder_worker.quantised import QuantisedDecoder
from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.protocol.machine.memory import pipeline_need, require_memory
from dotsctl.protocol.model.checkpoint import read_json, tensor_files
from dotsctl.protocol.model.half_precision import HalfPlan
from dotsctl.protocol.model.quantisation import LEVELS, OFFSETS, SCALES, StoredQuantisation, stored_quantisation
from dotsctl.protocol.model.stored_layouts import canonical_name, half_of, is_harmless
from dotsctl.protocol.model.validation import validate_checkpoint
from dotsctl.protocol.parts import Role
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models import qwen2
from tokenizers import Tokenizer

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
        UsageError: the plan scales weights whose scales are bytes.
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


def read_network(
    folder: Path, dtype: mx.Dtype | None, plan: HalfPlan = UNSCALED, *, dequantised: bool = False
) -> qwen2.Model:
    """The text half with its own weights, not evaluated: MLX reads a tensor when something needs it.

    Args:
        folder: of the model, which was validated.
        dtype: of the weights, and of the scales and offsets of quantised ones; none: as they are stored.
        plan: powers of two to scale weights with.
        dequantised: whether quantised matrices become plain ones.

    Raises:
        MissingError: a file or a tensor is missing.
        UsageError: the plan scales weights whose scales are bytes.
    """
    config = read_json(folder, "config.json")
    stored = stored_quantisation(config)
    files = tensor_files(folder, Role.DECODER)
    network = _network(_arguments(config), _tensors(files, dtype, plan), stored, "download the model again")
    if dequantised:
        dequantise(network, dtype)
    _scale_epsilons(network, plan.epsilon_factor)
    return network


def _quantised_network(
    arguments: qwen2.ModelArgs, quantised: QuantisedDecoder, dtype: mx.Dtype, plan: HalfPlan
) -> qwen2.Model:
    """The text half with the weights of a quantised decoder, not evaluated."""
    stored = StoredQuantisation(quantised.quantisation)
    tensors = _tensors(quantised.files, dtype, plan)
    network = _network(arguments, tensors, stored, f"rebuild the quantised decoder: {quantised.remedy}")
    _scale_epsilons(network, plan.epsilon_factor)
    return network


def _network(
    arguments: qwen2.ModelArgs, tensors: dict[str, mx.array], stored: StoredQuantisation, remedy: str
) -> qwen2.Model:
    """A network with these tensors, exactly those that it has places for. Raises MissingError.

    A matrix is quantised where it has scales.
    """
    network = qwen2.Model(arguments)

    def storage(name: str, module: nn.Module) -> dict[str, Any] | bool:
        found = stored.of(name) if f"{name}{SCALES}" in tensors else None
        return asdict(found) if found and hasattr(module, "to_quantized") else False

    nn.quantize(network, class_predicate=storage)
    try:
        network.load_weights(list(tensors.items()))
    except ValueError as error:
        raise MissingError(f"the weights do not fit config.json ({error})", remedy) from None
    return network


def dequantise(network: qwen2.Model, dtype: mx.Dtype | None = None) -> None:
    """Replace quantised matrices by plain ones, not evaluated; none of ``dtype``: the type that MLX chooses."""
    plain = []
    for name, module in network.named_modules():
        if isinstance(module, nn.QuantizedLinear | nn.QuantizedEmbedding):
            parts = [module["weight"], module["scales"], module.get("biases")]
            kind = {"group_size": module.group_size, "bits": module.bits, "mode": module.mode}
            weight = mx.dequantize(*parts, **kind)
            bias = {"bias": module["bias"]} if "bias" in module else {}
            made = (
                nn.Embedding(1, 1) if isinstance(module, nn.QuantizedEmbedding) else nn.Linear(1, 1, "bias" in module)
            )
            made.update({"weight": weight if dtype is None else weight.astype(dtype), **bias})
            plain.append((name, made))
    network.update_modules(tree_unflatten(plain))


def _scaled(name: str, tensor: mx.array, plan: HalfPlan) -> mx.array:
    """A tensor multiplied with its power of two, in float32 where there is one; scales and offsets as their matrix."""
    matrix, _, part = name.rpartition(".")
    is_shared = f".{part}" in (SCALES, OFFSETS)
    factor = plan.factor(f"{matrix}{LEVELS}" if is_shared else name)
    if factor == 1 or tensor.dtype == mx.uint32:  # packed levels are multiplied by their scales
        return tensor
    if tensor.dtype == mx.uint8:
        raise UsageError(
            f"float16 needs scaled weights, and {name} holds bytes that cannot be scaled", "use dtype=bfloat16"
        )
    return tensor.astype(mx.float32) * factor


def _scale_epsilons(network: qwen2.Model, factor: float) -> None:
    """Multiply the epsilon of each norm, all of which take the residual stream."""
    for layer in network.model.layers:
        layer.input_layernorm.eps *= factor
        layer.post_attention_layernorm.eps *= factor
    network.model.norm.eps *= factor


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


def _tensors(files: Iterable[Path], dtype: mx.Dtype | None, plan: HalfPlan) -> dict[str, mx.array]:
    """The text half's tensors by published name; MLX reads them when they are evaluated, so the tower's never are."""
    tensors: dict[str, mx.array] = {}
    for file in files:
        for name, tensor in cast(dict[str, mx.array], mx.load(str(file))).items():
            if half_of(name) is Role.DECODER and not is_harmless(name):
                key = canonical_name(name)
                scaled = _scaled(key, tensor, plan)
                is_number = mx.issubdtype(scaled.dtype, mx.floating)
                tensors[key] = scaled.astype(dtype) if dtype is not None and is_number else scaled
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
