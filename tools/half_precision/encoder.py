"""Measures the vision tower: the largest magnitude in each place of each layer, and the trial of the plan.

Weights are read, used and dropped a layer at a time, so that memory holds one layer in float32 besides the activations.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from dotsctl.encoder_worker.image import Patches
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.encoder_worker.plugins.vision_math import rotate
from dotsctl.encoder_worker.plugins.vision_tower import Places, VisionBlock, VisionTower
from dotsctl.encoder_worker.plugins.vision_weights import read_tower
from dotsctl.protocol.model.checkpoint import read_json, tensor_files
from dotsctl.protocol.model.half_precision import HalfPlan, Site, solve
from dotsctl.protocol.parts import Role
from dotsctl.tools.half_precision.trial import Measured, Rows, judged, largest, value_of, widen, worst_cosine
from mlx.utils import tree_flatten

Report = Callable[[str], None]
Peaks = dict[str, mx.array]
"""Largest magnitudes by place, scalars that are not evaluated."""
SHOWN_LAYERS = 6
"""Layers between two reports of progress."""


def plan_encoder(
    model: Path, pages: Sequence[Patches], report: Report, *, is_tried: bool = True
) -> tuple[HalfPlan, Rows]:
    """The plan for the tower of a model, and the embeddings of all pages in float32.

    Args:
        model: its folder.
        pages: to measure; all go through the tower together.
        report: called with a line of progress.
        is_tried: whether the scaled tower is computed in float16 as well, which takes longer than measuring.

    Raises:
        MissingError: a file of the model is missing or damaged.
        UsageError: the model is of another kind.
    """
    config = VisionConfig.from_json(read_json(model, "config.json").get("vision_config", {}))
    files = [str(file) for file in tensor_files(model, Role.ENCODER)]
    patches = mx.array(np.concatenate([page.values for page in pages]))  # (num_patches, 588)
    places = Places([page.grid for page in pages], config.head_dim, 0)
    report(f"measuring magnitudes of the encoder in float32 on {len(patches)} patches")
    measured = measure(read_tower(config, files, mx.float32), patches, places, report)
    plan = plan_of(measured, config)
    if is_tried and not plan.hopeless:
        report("computing the encoder in float16 with the scaled weights")
        plan = try_plan(read_tower(config, files, mx.float16, plan=plan), plan, (patches, places), measured)
    return plan, measured.results


def measure(tower: VisionTower, patches: mx.array, places: Places, report: Report) -> Measured:
    """Compute a tower in float32 and note the magnitudes; its blocks are emptied on the way."""
    found = Measured()
    patchifier = tower.patch_embed.patchifier
    found.tensors |= tensor_peaks(patchifier, "patch_embed.patchifier.")
    embedded = patchifier.proj(patches)  # (num_patches, embed_dim)
    x = patchifier.norm(embedded)
    found.ends = _floats({"patch embedding": largest(embedded), "stream": largest(x)})
    for number, block in enumerate(tower.blocks):
        found.tensors |= tensor_peaks(block, f"blocks.{number}.")
        x, peaks = _block(block, x, places)
        found.places.append(_floats(peaks))
        found.streams.append(np.array(x))
        block.clear()
        mx.clear_cache()
        if number % SHOWN_LAYERS == SHOWN_LAYERS - 1:
            report(f"layer {number + 1} of {len(tower.blocks)}")
    if tower.post_norm:
        found.tensors |= tensor_peaks(tower.post_trunk_norm, "post_trunk_norm.")
        x = tower.post_trunk_norm(x)
    found.tensors |= tensor_peaks(tower.merger, "merger.")
    merged, peaks = _merger(tower.merger, x)
    found.ends |= _floats(peaks)
    found.results = np.array(merged)
    return found


def _block(block: VisionBlock, x: mx.array, places: Places) -> tuple[mx.array, Peaks]:
    """The residual stream (num_patches, embed_dim) after a block, and the magnitudes inside of the block."""
    attention, mlp = block.attn, block.mlp
    n = block.norm1(x)
    q, k, v = mx.split(attention.qkv(n), 3, axis=-1)  # each (num_patches, embed_dim)
    attended = attention(n, places)
    h = x + attended
    m = block.norm2(h)
    gate, up = mlp.fc1(m), mlp.fc3(m)  # (num_patches, intermediate_size)
    product = mlp.by.swiglu(gate, up)
    fed = mlp.fc2(product)
    y = h + fed
    q, k = (_heads(part, attention.heads, places) for part in (q, k))
    return y, {
        "norm1": largest(n),
        "queries": largest(q),
        "keys": largest(k),
        "scores": mx.stack(_scores(q * attention.scale, k, places)).max(),
        "values": largest(v),
        "norm2": largest(m),
        "gate": largest(gate),
        "product": mx.maximum(largest(up), largest(product)),
        "stream": mx.stack([largest(part) for part in (attended, h, fed, y)]).max(),
    }


def _heads(x: mx.array, heads: int, places: Places) -> mx.array:
    """Queries or keys (num_patches, embed_dim) by head and turned, (heads, num_patches, head_dim)."""
    return rotate(x.reshape(len(x), heads, -1).transpose(1, 0, 2), places.cos, places.sin)


def _scores(q: mx.array, k: mx.array, places: Places) -> list[mx.array]:
    """The largest score of each image, of queries and keys (heads, num_patches, head_dim)."""
    return [largest(q[:, a:b] @ k[:, a:b].transpose(0, 2, 1)) for a, b in pairwise(places.cu_seqlens)]


def _merger(merger: Any, x: mx.array) -> tuple[mx.array, Peaks]:
    """Embeddings (num_patches / 4, hidden_size), and the magnitudes on the way."""
    n = merger.ln_q(x)
    hidden = merger.mlp[0](n.reshape(len(n) // 4, -1))  # (num_patches / 4, 4 embed_dim)
    embeddings = merger.mlp[2](merger.mlp[1](hidden))
    peaks = {"final norm": x, "merger norm": n, "merger": hidden, "embeddings": embeddings}
    return embeddings, {name: largest(values) for name, values in peaks.items()}


def _floats(peaks: Peaks) -> dict[str, float]:
    return {name: value_of(peak) for name, peak in peaks.items()}


def tensor_peaks(module: Any, prefix: str = "") -> dict[str, float]:
    """Largest magnitude of each tensor of a module by its name in the tower; of ``qkv``, of each third."""
    peaks = {}
    for key, tensor in tree_flatten(module.parameters()):
        name = prefix + key
        if ".qkv." not in name:
            peaks[name] = value_of(largest(tensor))
            continue
        for third, part in enumerate(mx.split(tensor, 3)):
            peaks[f"{name}.{third}"] = value_of(largest(part))
    return peaks


def plan_of(measured: Measured, config: VisionConfig) -> HalfPlan:
    """Return the scaling that the measured magnitudes require."""
    layers = range(config.num_hidden_layers)
    peak = max(measured.ends["stream"], *(places["stream"] for places in measured.places))
    writers = ["patch_embed.patchifier.norm.weight"]
    writers += [name for layer in layers for name in _both(f"blocks.{layer}.attn.proj", f"blocks.{layer}.mlp.fc2")]
    sites = [Site("patch embedding: results of the convolution", measured.ends["patch embedding"])]
    for layer in layers:
        sites += _sites(layer, measured.places[layer])
    ends = measured.ends
    sites += [
        Site("final norm: values", ends["final norm"] if config.post_norm else 0.0),
        Site("merger: values of the norm", ends["merger norm"], _both("merger.ln_q"), ("merger.mlp.0.weight",)),
        Site("merger: values before GELU", ends["merger"]),
        Site("merger: embeddings", ends["embeddings"]),
    ]
    return solve(Site("residual stream: values", peak, tuple(writers)), sites, measured.tensors)


def _sites(layer: int, peaks: dict[str, float]) -> list[Site]:
    """The places of one layer; the numbers in names of tensors begin with 0, those for people with 1.

    Norms come last: what the other places do to a matrix may be enough for it.
    """
    name, block = f"layer {layer + 1}", f"blocks.{layer}"
    qkv, mlp = f"{block}.attn.qkv", f"{block}.mlp"
    q, k, v = ((f"{qkv}.weight.{third}", f"{qkv}.bias.{third}") for third in range(3))
    norms = (f"{block}.norm1.weight",), (f"{block}.norm2.weight",)
    return [
        Site(f"{name}: queries and keys", peaks["queries"], q, k, partner_peak=peaks["keys"]),
        Site(f"{name}: scores of attention", peaks["scores"]),
        Site(f"{name}: values of attention", peaks["values"], v, (f"{block}.attn.proj.weight",)),
        Site(f"{name}: values of the gate", peaks["gate"]),
        Site(f"{name}: products with the gate", peaks["product"], _both(f"{mlp}.fc3"), (f"{mlp}.fc2.weight",)),
        Site(f"{name}: values of the first norm", peaks["norm1"], norms[0], (q[0], k[0], v[0])),
        Site(
            f"{name}: values of the second norm", peaks["norm2"], norms[1], (f"{mlp}.fc1.weight", f"{mlp}.fc3.weight")
        ),
    ]


def _both(*modules: str) -> tuple[str, ...]:
    """Names of the weight and the bias of each module."""
    return tuple(f"{module}.{kind}" for module in modules for kind in ("weight", "bias"))


def try_plan(tower: VisionTower, plan: HalfPlan, page: tuple[mx.array, Places], measured: Measured) -> HalfPlan:
    """The plan with its trial; the tower is one in float16 with that plan, and its blocks are emptied on the way.

    Args:
        tower: not evaluated.
        plan: that its weights were scaled with.
        page: patches (num_patches, 588) in float32, and where they belong.
        measured: the same pages in float32.
    """
    patches, places = page
    widen(tower)
    x, cosines = tower.patch_embed(patches.astype(mx.float16)), []
    for block, stream in zip(tower.blocks, measured.streams, strict=True):
        x = block(x, places)
        cosines.append(worst_cosine(x, stream))
        block.clear()
        mx.clear_cache()
    x = tower.post_trunk_norm(x) if tower.post_norm else x
    return judged(plan, cosines, worst_cosine(tower.merger(x, places), measured.results))
