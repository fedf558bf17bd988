"""Measures the decoder: the largest magnitude in each place of each layer, and the trial of the plan.

The prefill of the model's default task is measured with the embeddings of two drawn pages, dashes and text. Language
models have their largest magnitudes at the first positions and at marks such as those around the image (M. Sun and
others, "Massive Activations in Large Language Models", 2024). Positions of an answer are not measured.

Weights are read, used and dropped a layer at a time, so that memory holds one layer in float32, or the table of
embeddings, besides the activations.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from dotsctl.decoder_worker.model import read_network, read_tokenizer
from dotsctl.decoder_worker.prompt import Prompt, PromptBuilder
from dotsctl.decoder_worker.splice import splice
from dotsctl.decoder_worker.tasks import read_prompts
from dotsctl.encoder_worker.image import Patches
from dotsctl.protocol.model.checkpoint import read_json
from dotsctl.protocol.model.half_precision import HalfPlan, Site, solve
from dotsctl.tools.half_precision.trial import Measured, Rows, judged, largest, value_of, widen, worst_cosine
from mlx.utils import tree_flatten
from mlx_lm.models import qwen2
from mlx_lm.models.activations import swiglu

Report = Callable[[str], None]
MEASURED_PAGES = 2
"""First pages that go through the decoder; the rest of its prompts, which is longer, would be the same again."""
LOGIT_ROWS = 16
"""Last positions of a prompt whose logits are measured; those of all would take a GB."""
SHOWN_LAYERS = 7
"""Layers between two reports of progress."""


@dataclass(frozen=True)
class SplicedPrompt:
    """A prompt and the embeddings that belong into it."""

    prompt: Prompt
    page: Rows
    """(num_embeddings, width)."""


def plan_decoder(model: Path, pages: Sequence[Patches], embeddings: Rows, report: Report) -> HalfPlan:
    """The plan for the text half of a model, tried.

    Args:
        model: its folder.
        pages: what was encoded.
        embeddings: (num_embeddings, width) of all pages, float32.
        report: called with a line of progress.

    Raises:
        MissingError: a file of the model is missing or damaged.
        UsageError: the model's prompts are damaged.
    """
    prompts = _prompts(model, pages, embeddings)
    positions = sum(len(each.prompt.ids) for each in prompts)
    report(f"measuring magnitudes of the decoder in float32 on {positions} positions")
    network = read_network(model, mx.float32, dequantised=True)
    is_tied = "lm_head" not in network
    measured = measure(network, prompts, report)
    plan = plan_of(measured, is_tied)
    if not plan.hopeless:
        report("computing the decoder in float16 with the scaled weights")
        plan = try_plan(read_network(model, mx.float16, plan), plan, prompts, measured)
    return plan


def _prompts(model: Path, pages: Sequence[Patches], embeddings: Rows) -> list[SplicedPrompt]:
    """The prompt of the default task for each of the first pages."""
    config = read_json(model, "config.json")
    builder = PromptBuilder(read_tokenizer(model), read_prompts(model), config.get("image_token_id"))
    counts = [len(page.values) // 4 for page in pages]
    parts = np.split(embeddings, np.cumsum(counts)[:-1])
    prompts = [
        SplicedPrompt(builder.build(builder.tasks[0], None, [count], page.geometry), part)
        for count, page, part in zip(counts, pages, parts, strict=True)
    ]
    return prompts[:MEASURED_PAGES]


def _first_streams(network: qwen2.Model, prompts: Sequence[SplicedPrompt], factor: float) -> list[mx.array]:
    """The residual stream (1, positions, width) of each prompt before the first layer."""
    norm = network.model.norm.weight  # (width,); its type is that of the computation, also where the table is quantised
    table = network.model.embed_tokens
    return [splice(each.prompt, each.page, table, norm.dtype, len(norm), factor)[None] for each in prompts]


def measure(network: qwen2.Model, prompts: Sequence[SplicedPrompt], report: Report) -> Measured:
    """Compute a network in float32 and note the magnitudes; its layers are emptied on the way."""
    found, layers = Measured(), network.model.layers
    streams = _first_streams(network, prompts, 1.0)
    found.tensors |= tensor_peaks(network.model.embed_tokens, "model.embed_tokens.")
    found.ends["stream"] = max(_float(stream) for stream in streams)
    if "lm_head" in network:
        network.model.embed_tokens.clear()
    for number, layer in enumerate(layers):
        found.tensors |= tensor_peaks(layer, f"model.layers.{number}.")
        computed = [_layer(layer, stream) for stream in streams]
        streams = [stream for stream, _ in computed]
        found.places.append({name: max(value_of(peaks[name]) for _, peaks in computed) for name in computed[0][1]})
        found.streams.append(_joined(streams))
        layer.clear()
        mx.clear_cache()
        if number % SHOWN_LAYERS == SHOWN_LAYERS - 1:
            report(f"layer {number + 1} of {len(layers)}")
    found.tensors |= tensor_peaks(network.model.norm, "model.norm.")
    results = [network.model.norm(stream) for stream in streams]
    found.results = _joined(results)
    if "lm_head" in network:
        found.tensors |= tensor_peaks(network.lm_head, "lm_head.")
    head = network.lm_head if "lm_head" in network else network.model.embed_tokens.as_linear
    found.ends["norm"] = max(_float(rows) for rows in results)
    found.ends["logits"] = max(_float(head(rows[:, -LOGIT_ROWS:])) for rows in results)
    return found


def _layer(layer: Any, x: mx.array) -> tuple[mx.array, dict[str, mx.array]]:
    """The residual stream (1, positions, width) after a layer, and the magnitudes inside of the layer.

    Attention gives means of values, so what it gives is never larger than these.
    """
    attention, mlp = layer.self_attn, layer.mlp
    n = layer.input_layernorm(x)
    attended = attention(n, "causal", None)
    h = x + attended
    m = layer.post_attention_layernorm(h)
    gate, up = mlp.gate_proj(m), mlp.up_proj(m)  # (1, positions, intermediate_size)
    product = swiglu(gate, up)
    fed = mlp.down_proj(product)
    y = h + fed
    return y, {
        "norm1": largest(n),
        "queries": largest(attention.q_proj(n)),
        "keys": largest(attention.k_proj(n)),
        "values": largest(attention.v_proj(n)),
        "norm2": largest(m),
        "gate": largest(gate),
        "product": mx.maximum(largest(up), largest(product)),
        "stream": mx.stack([largest(part) for part in (attended, h, fed, y)]).max(),
    }


def _float(values: mx.array) -> float:
    return value_of(largest(values))


def _joined(streams: Sequence[mx.array]) -> Rows:
    """Rows of all prompts, (positions, width), from (1, positions, width) each."""
    return np.array(mx.concatenate([stream[0] for stream in streams]))


def tensor_peaks(module: Any, prefix: str = "") -> dict[str, float]:
    """Largest magnitude of each tensor of a module by its name in the network."""
    return {prefix + key: _float(tensor) for key, tensor in tree_flatten(module.parameters())}


def plan_of(measured: Measured, is_tied: bool) -> HalfPlan:
    """Return the scaling that the measured magnitudes require.

    Args:
        measured: magnitudes of all layers.
        is_tied: whether the table of embeddings is the head as well; then the final norm undoes its factor.
    """
    layers = [f"model.layers.{number}" for number in range(len(measured.places))]
    writers = ["model.embed_tokens.weight"]
    writers += [f"{layer}.{matrix}.weight" for layer in layers for matrix in ("self_attn.o_proj", "mlp.down_proj")]
    norm = "model.norm.weight"
    peak = max(measured.ends["stream"], *(places["stream"] for places in measured.places))
    stream = Site("residual stream: values", peak, tuple(writers), (norm,) if is_tied else ())
    sites = [site for number, layer in enumerate(layers) for site in _sites(number, layer, measured.places[number])]
    final = Site("final norm: values", measured.ends["norm"], () if is_tied else (norm,), ("lm_head.weight",))
    return solve(stream, [*sites, final, Site("logits", measured.ends["logits"])], measured.tensors)


def _sites(number: int, layer: str, peaks: dict[str, float]) -> list[Site]:
    """The places of one layer; the numbers in names of tensors begin with 0, those for people with 1.

    Scores of attention are no site: MLX computes them in float32. Norms come last: what the other places do to a matrix
    may be enough for it.
    """
    name = f"layer {number + 1}"
    q, k, v = (tuple(f"{layer}.self_attn.{part}_proj.{kind}" for kind in ("weight", "bias")) for part in "qkv")
    gate, up, down = (f"{layer}.mlp.{part}_proj.weight" for part in ("gate", "up", "down"))
    first, second = f"{layer}.input_layernorm.weight", f"{layer}.post_attention_layernorm.weight"
    return [
        Site(f"{name}: queries and keys", peaks["queries"], q, k, partner_peak=peaks["keys"]),
        Site(f"{name}: values of attention", peaks["values"], v, (f"{layer}.self_attn.o_proj.weight",)),
        Site(f"{name}: values of the gate", peaks["gate"]),
        Site(f"{name}: products with the gate", peaks["product"], (up,), (down,)),
        Site(f"{name}: values of the first norm", peaks["norm1"], (first,), (q[0], k[0], v[0])),
        Site(f"{name}: values of the second norm", peaks["norm2"], (second,), (gate, up)),
    ]


def try_plan(network: qwen2.Model, plan: HalfPlan, prompts: Sequence[SplicedPrompt], measured: Measured) -> HalfPlan:
    """The plan with its trial; the network is one in float16 with that plan, and its layers are emptied on the way."""
    widen(network)
    streams, cosines = _first_streams(network, prompts, 2.0**plan.residual_exponent), []
    for layer, expected in zip(network.model.layers, measured.streams, strict=True):
        streams = [layer(stream, "causal", None) for stream in streams]
        cosines.append(worst_cosine(mx.concatenate(streams, axis=1)[0], expected))
        layer.clear()
        mx.clear_cache()
    results = mx.concatenate([network.model.norm(stream) for stream in streams], axis=1)[0]
    return judged(plan, cosines, worst_cosine(results, measured.results))
