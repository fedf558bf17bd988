"""Write a random checkpoint in the true layout of dots.ocr, of any size, without holding it in memory.

The files, keys, names and token ids are those of the Hugging Face snapshot, so that every loader of the real
model takes it; only the sizes and the numbers are free. Products keep the variance of their input, so that activations
stay as large as in a trained model. The same seed gives the same bytes on every machine.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import click
import numpy as np
from dotsctl.client.cli.printing import exiting_on_error
from dotsctl.protocol.errors import OutputError
from dotsctl.protocol.model import layout
from dotsctl.tools.random_checkpoint.shape import PRESETS, Shape, config_files
from numpy.typing import NDArray

BLOCK = 4_194_301
"""Random numbers that are drawn; all tensors are cut from them. A prime, so that no two rows of a matrix are equal."""
CHUNK = 1 << 20
"""Numbers that are in memory at a time in addition to the block."""
ITEM_BYTES = {"float32": 4, "bfloat16": 2}
DTYPES = {"float32": "F32", "bfloat16": "BF16"}
"""The types, as safetensors names them."""


def write_checkpoint(out: Path, shape: Shape, dtype: str = "float32", seed: int = 0, shard_bytes: int = 4 << 30) -> int:
    """Write all files of a checkpoint; config.json comes last, so an incomplete one is not considered a model.

    Args:
        out: folder, which is made; it must not hold a model yet.
        shape: the sizes.
        dtype: ``float32`` or ``bfloat16``.
        seed: of all random numbers.
        shard_bytes: most bytes of tensors in a file; one tensor that is larger gets a file of its own.

    Returns:
        The number of parameters.

    Raises:
        OutputError: the folder holds a model, or the disk has too little space.
    """
    tensors = shape.vision.tensors() | shape.text.tensors()
    total_bytes = layout.parameters(tensors) * ITEM_BYTES[dtype]
    _prepare(out, total_bytes)
    numbers = Numbers(seed, shape.tokens * shape.hidden)
    shards = _shards(tensors, ITEM_BYTES[dtype], shard_bytes)
    places: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else "model.safetensors"
        _write_shard(out / file, {name: tensors[name] for name in names}, dtype, numbers)
        places |= dict.fromkeys(names, file)
    files = config_files(shape, dtype)
    if len(shards) > 1:
        files = {
            "model.safetensors.index.json": {"metadata": {"total_size": total_bytes}, "weight_map": places}
        } | files
    for file, content in files.items():
        (out / file).write_text(json.dumps(content, indent=None if file == "tokenizer.json" else 2), encoding="utf-8")
    return layout.parameters(tensors)


class Numbers:
    """Random tensors; the numbers of each follow from the seed and its own name alone."""

    def __init__(self, seed: int, live_head: int) -> None:
        """Draw the block.

        Args:
            seed: of everything.
            live_head: numbers of ``lm_head.weight`` that are not zero; the rows after them have no token, and a
                row of zeros is never the best one.
        """
        self._seed, self._live_head = seed, live_head
        self._block = _draw(seed)

    def chunks(self, name: str, shape: layout.Shape) -> Iterator[NDArray[np.float32]]:
        """A tensor in rows, at most ``CHUNK`` numbers at a time, each chunk (count,) float32."""
        start = int.from_bytes(hashlib.sha256(f"{self._seed} {name}".encode()).digest()[:8], "big") % BLOCK
        mean, scale = _moments(name, shape)
        count = prod(shape)
        for done in range(0, count, CHUNK):
            place = (start + done) % BLOCK
            chunk = self._block[place : place + min(CHUNK, count - done)] * np.float32(scale)
            if mean:
                chunk += np.float32(mean)
            if name == layout.LM_HEAD:
                chunk[max(self._live_head - done, 0) :] = 0
            yield chunk


@lru_cache(maxsize=1)
def _draw(seed: int) -> NDArray[np.float32]:
    """The block (BLOCK + CHUNK,) of nearly Gaussian numbers; its end repeats its beginning.

    Twelve uniform numbers have the variance 1 in sum. Integers and powers of two make the sum exact, which a logarithm
    of the system's library would not be.
    """
    lanes = np.random.PCG64(seed).random_raw(3 * BLOCK).view(np.uint16).reshape(BLOCK, 12)
    block = (lanes.sum(axis=1, dtype=np.int32) * 2 - 12 * 65535).astype(np.float32) / np.float32(1 << 17)
    return np.concatenate([block, block[:CHUNK]])


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Bits of the nearest bfloat16, ties to even; finite values only."""
    bits = values.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)


def _moments(name: str, shape: layout.Shape) -> tuple[float, float]:
    """Mean and standard deviation of a tensor's numbers. Norms are not quite 1, so that none can be forgotten."""
    if name.endswith(".bias"):
        return 0.0, 0.02
    if len(shape) == 1:
        return 1.0, 0.1
    if name == layout.EMBEDDING:
        return 0.0, 1.0
    gain = 3.0 if name == layout.LM_HEAD else 1.0  # so that the best token stands out
    return 0.0, gain / prod(shape[1:]) ** 0.5


def _prepare(out: Path, total_bytes: int) -> None:
    """Make the folder and see that the tensors fit."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot be made ({error})", "choose another folder") from None
    if any(out.glob("*.safetensors")) or (out / "config.json").exists():
        raise OutputError(f"{out} holds a model already", "choose another folder, or remove it first")
    free_bytes = shutil.disk_usage(out).free
    if free_bytes < total_bytes * 1.01:
        raise OutputError(
            f"{out} needs {total_bytes / 1e9:.2f} GB and its disk has {free_bytes / 1e9:.2f} GB free",
            "make space, or choose a folder on another disk",
        )


def _shards(tensors: dict[str, layout.Shape], item_bytes: int, shard_bytes: int) -> list[list[str]]:
    """Names for each file, in order."""
    shards: list[list[str]] = []
    filled = 0
    for name, shape in tensors.items():
        size_bytes = prod(shape) * item_bytes
        if not shards or filled + size_bytes > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size_bytes
    return shards


def _write_shard(path: Path, tensors: dict[str, layout.Shape], dtype: str, numbers: Numbers) -> None:
    """One safetensors file: length of the header, header, tensors without gaps."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in tensors.items():
        start, end = end, end + prod(shape) * ITEM_BYTES[dtype]
        header[name] = {"dtype": DTYPES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors.items():
            for chunk in numbers.chunks(name, shape):
                stream.write((to_bfloat16(chunk) if dtype == "bfloat16" else chunk).data)


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--preset", type=click.Choice(list(PRESETS)), default="tiny", show_default=True)
@click.option("--hidden", type=click.IntRange(min=16), help="Width of the decoder.")
@click.option("--layers", type=click.IntRange(min=1), help="Layers of the decoder.")
@click.option("--vision-dim", type=click.IntRange(min=16), help="Width of the encoder.")
@click.option("--vision-layers", type=click.IntRange(min=1), help="Layers of the encoder.")
@click.option("--vocab", type=click.Choice(["real", "small"]), default="real", show_default=True)
@click.option("--dtype", type=click.Choice(list(DTYPES)), default="bfloat16", show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--shard-mib", type=click.IntRange(min=1), default=4096, show_default=True, help="Size limit of a file.")
def cli(out: Path, preset: str, vocab: str, dtype: str, seed: int, shard_mib: int, **sizes: int | None) -> None:
    """Write a random checkpoint with the layout of dots.ocr to the folder OUT.

    Presets: tiny (widths 128 and 256, 4 + 4 layers), mid (widths 512, 6 + 8 layers), six-layers (the true widths,
    6 + 2 layers), full (42 + 28 layers, 6.08 GB in bfloat16). The small vocabulary has some hundred tokens; mlx-vlm
    takes the real one only.
    """
    started = time.perf_counter()
    changes: dict[str, Any] = {key: size for key, size in sizes.items() if size is not None}
    shape = replace(PRESETS[preset], real_vocabulary=vocab == "real", **changes)
    count = write_checkpoint(out, shape, dtype, seed, shard_mib << 20)
    took_s = time.perf_counter() - started
    click.echo(f"{out}: {count:,} parameters, {count * ITEM_BYTES[dtype] / 1e9:.2f} GB {dtype}, {took_s:.1f} s")


def main() -> None:
    """Run the command line."""
    with exiting_on_error():
        cli(prog_name="python -P -m dotsctl.tools.random_checkpoint")
