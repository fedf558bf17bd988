"""Proof of float16 with outliers, on any machine: MLX, saved Core ML packages and the tower in float64.

python -P -m dotsctl.tools.dev.prove_float16 MODEL WORK_FOLDER --factor 1048576

In a copy of the model, rows of matrices in three layers are multiplied by a power of two, and the columns that read
them are divided by it. So the model computes the same, with activations that are larger by that factor. Nothing of
this is measured on a GPU or a Neural Engine: MLX runs here with products that add up in float32, as on the GPU of a
Mac, and packages are executed by the reference interpreter.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
from dotsctl.client.cli.printing import exiting_on_error
from dotsctl.encoder_worker.plugins.vision_config import VisionConfig
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.model.checkpoint import all_tensor_files, read_json, tensor_files
from dotsctl.protocol.model.directory import find_model, fingerprint
from dotsctl.protocol.model.half_precision import LEAST_COSINE, HalfPlan, read_plan
from dotsctl.protocol.model.safetensors_header import StoredTensor, read_header
from dotsctl.protocol.model.stored_layouts import canonical_name
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.blas import preload_blas
from dotsctl.tools.half_precision import command
from dotsctl.tools.half_precision.pages import drawn_pages
from dotsctl.tools.random_checkpoint.checkpoint import to_bfloat16
from dotsctl.tools.reference.exact_tower import ExactTower, difference
from numpy.typing import NDArray

PAGE = 2
"""The drawn page that is compared, of 60 patches."""
ROWS = 3
"""Rows that become outliers, of each matrix."""
LARGEST_FACTOR = 1 << 24


def pairs(config: VisionConfig, decoder_layers: int) -> list[tuple[str, str]]:
    """Matrices whose last rows become larger, each with the one that reads them, in three layers of each half."""
    layers = sorted({0, config.num_hidden_layers // 2, config.num_hidden_layers - 1})
    found = [(f"vision_tower.blocks.{n}.attn.qkv", f"vision_tower.blocks.{n}.attn.proj") for n in layers[:1]]
    found += [(f"vision_tower.blocks.{n}.mlp.fc3", f"vision_tower.blocks.{n}.mlp.fc2") for n in layers]
    layers = sorted({0, decoder_layers // 2, decoder_layers - 1})
    return found + [(f"model.layers.{n}.mlp.up_proj", f"model.layers.{n}.mlp.down_proj") for n in layers]


def plant(model: Path, factor: int) -> None:
    """Make outliers in the files of a model in bfloat16 without biases in its tower."""
    config = VisionConfig.from_json(read_json(model, "config.json")["vision_config"])
    names = pairs(config, read_json(model, "config.json")["num_hidden_layers"])
    writers = {f"{writer}.weight" for writer, _ in names}
    readers = {f"{reader}.weight" for _, reader in names}
    for file in all_tensor_files(model):
        for stored_name, tensor in read_header(file).items():
            name = canonical_name(stored_name)
            if name in writers:
                _multiply(file, tensor, (slice(-ROWS, None), slice(None)), factor)
            elif name in readers:
                _multiply(file, tensor, (slice(None), slice(-ROWS, None)), 1 / factor)


def _multiply(file: Path, tensor: StoredTensor, part: tuple[slice, slice], factor: float) -> None:
    """Multiply a part of a matrix in a file. Raises UsageError for another type than bfloat16."""
    if tensor.dtype != "BF16":
        raise UsageError(
            f"{file} holds {tensor.dtype}", "give a model in BF16, as dotsctl.tools.random_checkpoint writes"
        )
    bits = np.memmap(file, np.uint16, "r+", tensor.start, tensor.shape)
    values = (bits[part].astype(np.uint32) << 16).view(np.float32)
    bits[part] = to_bfloat16(values * np.float32(factor))
    bits.flush()


def compare(model: Path, say: command.Report) -> list[tuple[str, float]]:
    """The smallest cosine of any token to float64, by what computed it; of what is infinite, NaN."""
    page = drawn_pages()[PAGE]
    exact = ExactTower.of(model).embeddings(page.values, page.grid)
    plan = command.encoder_plan(model, fingerprint(model), say)
    found = {
        "MLX float16, not scaled": _mlx(model, HalfPlan(), page),
        "MLX float16, scaled": _mlx(model, plan, page),
        "Core ML packages in float16, scaled": _packages(model, page, say),
    }
    return [(name, _cosine(values, exact)) for name, values in found.items()]


def _cosine(found: NDArray[Any], exact: NDArray[Any]) -> float:
    return difference(found, exact)[2] if np.isfinite(found).all() else float("nan")


def _mlx(model: Path, plan: HalfPlan, page: Any) -> NDArray[Any]:
    """Embeddings (num_embeddings, hidden_size) of the MLX tower in float16."""
    import mlx.core as mx
    from dotsctl.encoder_worker.plugins.vision_weights import load_tower
    from dotsctl.tools.half_precision.trial import widen

    config = VisionConfig.from_json(read_json(model, "config.json")["vision_config"])
    tower = load_tower(config, [str(file) for file in tensor_files(model, Role.ENCODER)], mx.float16, plan=plan)
    widen(tower)
    return np.array(tower(mx.array(page.values).astype(mx.float16), [page.grid]).astype(mx.float32))


def _packages(model: Path, page: Any, say: command.Report) -> NDArray[Any]:
    """Embeddings (num_embeddings, hidden_size) of saved packages by the interpreter; makes the packages."""
    from dotsctl.encoder_worker.coreml.manifest import Build
    from dotsctl.encoder_worker.coreml.reference_tower import ReferenceTower
    from dotsctl.tools.coreml.build import convert_encoder
    from dotsctl.tools.coreml.options import ConversionOptions

    folder = convert_encoder(model, ConversionOptions(buckets=(len(page.values),)), say)
    return ReferenceTower(folder, Build.read(folder)).encode(page.values, page.grid)


@click.command()
@click.argument("model")
@click.argument("work", type=click.Path(path_type=Path))
@click.option(
    "--factor", type=click.IntRange(1, LARGEST_FACTOR), default=1 << 20, show_default=True, help="Power of two."
)
def main(model: str, work: Path, factor: int) -> None:
    """Plant outliers in a copy of MODEL in the new folder WORK and compute it in float16.

    Exit codes: 0 all scaled results have a cosine of at least 0.9999 at each token, 1 one has not.
    """
    preload_blas()
    with exiting_on_error():
        _, folder = find_model(model)
        if factor & (factor - 1):
            raise UsageError(f"--factor {factor} is no power of two", "use 1024, 32768 or 1048576")
        shutil.copytree(folder, work / "model")
        os.environ["DOTSCTL_MODELS"] = str(work / "derived")
        plant(work / "model", factor)
        command.run(str(work / "model"), lambda line: click.echo(line, err=True), force=True, as_json=False)
        rows = compare(work / "model", lambda line: click.echo(line, err=True))
        decoder = read_plan(fingerprint(work / "model"), Role.DECODER, work / "model").worst_cosine or 0.0
    rows.append(("MLX decoder in float16, scaled, to float32", decoder))
    for name, cosine in rows:
        click.echo(f"{name:<45} {'not finite' if np.isnan(cosine) else f'smallest cosine {cosine:.6f}'}")
    sys.exit(0 if all(cosine >= LEAST_COSINE for name, cosine in rows if "not scaled" not in name) else 1)


if __name__ == "__main__":
    main()
