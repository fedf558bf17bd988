"""Quantises the text half of a model with mlx-lm: what ``dotsctl convert MODEL --decoder-bits 8`` does.

By mlx-lm's own rule every matrix is quantised whose rows divide into groups: the table of embeddings, all projections
of attention and MLP, and ``lm_head``. Norms and the biases of q, k and v stay as they are. Unlike mlx-lm, which leaves
out a matrix that does not divide, this refuses. Affine scales and offsets keep the type of the weights (bfloat16 in
dots.ocr), as mlx-lm does it: with float32 the mean error of a weight with 8 bits would be a third less, on a CPU alone.

The weights are read, quantised and written a layer at a time, so memory holds one layer in both forms.
"""

import importlib.metadata
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from dotsctl import __version__
from dotsctl.client.files.folders import staged
from dotsctl.decoder_worker.model import read_network
from dotsctl.decoder_worker.quantised import (
    FORMAT,
    MANIFEST,
    QuantisedDecoder,
    decoder_folder,
    file_digest,
    open_quantised,
)
from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.protocol.machine.libraries import MLX, MLX_LM
from dotsctl.protocol.model.quantisation import MODES, Quantisation
from dotsctl.protocol.model.validation import validate_checkpoint
from dotsctl.protocol.model.weights import FLOATS
from dotsctl.tools.derived import require_space, watched, write_synced
from mlx.utils import tree_flatten
from mlx_lm.models import qwen2

Note = Callable[[str], None]
"""Reports the progress to the user."""


@dataclass(frozen=True)
class Conversion:
    """The result of one call."""

    folder: Path
    decoder: QuantisedDecoder
    is_new: bool
    """Whether it was made now."""


def convert(
    name: str, model: Path, digest: str, quantisation: Quantisation, note: Note, *, force: bool = False
) -> Conversion:
    """Quantise the decoder of a model and write it where the plugin ``mlx`` searches for it.

    Args:
        name: of the model, for the manifest.
        model: its folder.
        digest: its fingerprint.
        quantisation: bits and size of a group.
        note: receives the progress.
        force: make it again where it exists.

    Raises:
        UsageError: a group does not divide a matrix, or the decoder is quantised already.
        MissingError: the model is broken or of another kind.
        CommandFailedError: there is no room on the disk, or it cannot be written.
    """
    folder = decoder_folder(quantisation, digest)
    if not force and folder.is_dir():
        try:
            return Conversion(folder, open_quantised(model, digest, quantisation), is_new=False)
        except MissingError as error:
            note(f"the existing one cannot be used: {error}")
    decoder = validate_checkpoint(model).decoder
    if decoder.packed_parameters:
        kinds = " and ".join(kind for kind in decoder.kinds if kind not in FLOATS)
        raise UsageError(
            f"the decoder of {name} is quantised already ({kinds})", "convert the original, or the build in bf16"
        )
    network = read_network(model, None)
    source_bytes = _size_bytes(network)
    names = _to_quantise(network, quantisation)
    nn.quantize(network, **asdict(quantisation))
    size_bytes = _size_bytes(network)
    require_space(folder, size_bytes, f"the decoder of {name} in {quantisation.kind}")
    with staged(folder) as partial:
        _write_parts(network, partial)
        facts = _facts(name, digest, quantisation, names) | {"source_bytes": source_bytes, "size_bytes": size_bytes}
        facts["files"] = {file.name: file_digest(file) for file in sorted(partial.glob("*.safetensors"))}
        write_manifest(partial, facts | {"report": None})
    return Conversion(folder, open_quantised(model, digest, quantisation), is_new=True)


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write or replace the manifest of a quantised decoder. Raises CommandFailedError."""
    write_synced(folder / MANIFEST, manifest, indent=2)


def _to_quantise(network: qwen2.Model, quantisation: Quantisation) -> list[str]:
    """Names of the matrices that are quantised. Raises UsageError where rows do not divide into groups."""
    group_size = quantisation.group_size
    matrices = {name: module for name, module in network.named_modules() if hasattr(module, "to_quantized")}
    widths = {module.weight.shape[-1]: name for name, module in matrices.items()}
    if odd := [width for width in sorted(widths) if width % group_size]:
        sizes = MODES[quantisation.mode].group_sizes
        fitting = [size for size in sizes if not any(width % size for width in widths)]
        remedy = f"take --group-size {' or '.join(map(str, fitting))}" if fitting else "this model cannot be quantised"
        raise UsageError(f"{widths[odd[0]]} has rows of {odd[0]} weights, not a multiple of {group_size}", f"{remedy}")
    return sorted(matrices)


def _parts(network: qwen2.Model) -> Iterator[tuple[str, nn.Module]]:
    """The modules with weights, by what stands in front of their tensors' names; each becomes one file."""
    yield "model.embed_tokens", network.model.embed_tokens
    for number, layer in enumerate(network.model.layers):
        yield f"model.layers.{number}", layer
    yield "model.norm", network.model.norm
    if "lm_head" in network:
        yield "lm_head", network.lm_head


def _write_parts(network: qwen2.Model, folder: Path) -> None:
    """Read, quantise and write part after part; a part that was written is taken out of the network."""
    for name, part in watched(list(_parts(network)), "quantising"):
        tensors = {f"{name}.{key}": tensor for key, tensor in tree_flatten(part.parameters())}
        mx.save_safetensors(str(folder / f"{name}.safetensors"), tensors)  # evaluates them
        part.clear()
        del tensors
        mx.clear_cache()


def _facts(name: str, digest: str, quantisation: Quantisation, quantised: list[str]) -> dict[str, Any]:
    versions = {library: importlib.metadata.version(library) for library in (MLX, MLX_LM)}
    return {
        "format": FORMAT,
        "kind": "decoder",
        "model": name,
        "fingerprint": digest,
        "bits": quantisation.bits,
        "group_size": quantisation.group_size,
        "mode": quantisation.mode,
        "quantised": quantised,
        "not_quantised": "norms, and the biases of q, k and v",
        "versions": {"dotsctl": __version__, **versions},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _size_bytes(network: qwen2.Model) -> int:
    """Return the size of all tensors in bytes; they need not be evaluated for that."""
    return sum(tensor.nbytes for _, tensor in tree_flatten(network.parameters()))
