"""Peak memory of the MLX encoder for a page: ``python -P -m dotsctl.tools.dev.encoder_memory --model DIR``.

Two figures for the same page: the memory of its arrays as MLX reports it, and on Linux the memory of the process as the
system reports it, pictures and libraries included. The page goes through the plugin, as in the worker. Exit code 1
above the limit.
"""

import math
import sys
import time
from pathlib import Path

import click
import numpy as np
from dotsctl.client.cli.printing import exiting_on_error
from dotsctl.encoder_worker.plugin import PageImage, encode_images
from dotsctl.encoder_worker.plugins.mlx import MLXEncoder
from dotsctl.encoder_worker.plugins.mlx_options import MLXEncoderOptions
from dotsctl.protocol.errors import ExitCode, MissingError, UsageError
from dotsctl.protocol.geometry import PATCH_PX
from dotsctl.protocol.worker.plugin_options import parse_options
from dotsctl.tools.dev.verify.pages import draw
from numpy.typing import NDArray

MIB = 1 << 20
PAPER = 2**0.5
"""Height over width."""


def page_of(num_patches: int) -> NDArray[np.uint8]:
    """Pixels (height, width, 3) that make so many patches without resizing, as near to the shape of paper as can be.

    Raises:
        UsageError: no page has so many patches; it must be four times the product of two sides.
    """
    cells = num_patches // 4
    shapes = [(cells // width, width) for width in range(1, math.isqrt(max(cells, 0)) + 1) if cells % width == 0]
    shapes = [shape for shape in shapes if shape[0] / shape[1] <= 4]
    if num_patches % 4 or not shapes:
        raise UsageError(f"no page has {num_patches} patches", "take a number like 4000, four times 40 times 25")
    height, width = min(shapes, key=lambda shape: abs(math.log(shape[0] / shape[1] / PAPER)))
    return np.asarray(draw(0, (width * 2 * PATCH_PX, height * 2 * PATCH_PX)))


def parse(options: str) -> dict[str, str]:
    """``dtype=bfloat16,query_chunk=64`` to pairs."""
    pairs = [pair.partition("=") for pair in options.split(",") if pair]
    return {key: value for key, _, value in pairs}


def resident_peak_bytes(reset: bool = False) -> int | None:
    """Most resident memory of this process since the last reset, from Linux; None elsewhere."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


@click.command()
@click.option("--model", type=click.Path(path_type=Path), required=True, help="Folder of a checkpoint.")
@click.option("--patches", type=click.IntRange(min=16), default=4000, show_default=True, help="Size of the page.")
@click.option("--options", default="", metavar="KEY=VALUE,...", help="Options of the encoder plugin mlx.")
@click.option(
    "--limit-mib", type=click.IntRange(min=1), default=1024, show_default=True, help="Memory limit above the weights."
)
def cli(model: Path, patches: int, options: str, limit_mib: int) -> None:
    """Encode one page and report the memory that it took above the weights."""
    if not (model / "config.json").is_file():
        raise MissingError(f"{model} has no config.json", "give the folder of a dots.ocr snapshot")
    pixels = page_of(patches)
    encoder = MLXEncoder()
    encoder.load(model, parse_options(MLXEncoderOptions, parse(options), "encoder mlx"), lambda note: None)
    import mlx.core as mx  # after the plugin has loaded a fast BLAS

    encode_images(encoder, [PageImage(None, np.full((56, 56, 3), 255, np.uint8), None)])
    mx.clear_cache()
    weights, before = mx.get_active_memory(), resident_peak_bytes(reset=True)
    mx.reset_peak_memory()
    started = time.process_time()
    (page,) = encode_images(encoder, [PageImage(None, pixels, max_pixels=None)])
    took_s = time.process_time() - started
    above = mx.get_peak_memory() - weights
    after = resident_peak_bytes()
    click.echo(f"weights {weights / MIB:,.0f} MiB, page of {page.grid[0]} x {page.grid[1]} patches, {took_s:.1f} CPU-s")
    click.echo(f"arrays of MLX: {above / MIB:,.0f} MiB above the weights at their peak (limit {limit_mib:,})")
    if before is not None and after is not None:
        click.echo(f"process: {(after - before) / MIB:,.0f} MiB above its resident memory before the page")
    sys.exit(ExitCode.OK if above <= limit_mib * MIB else ExitCode.SOME_FAILED)


def main() -> None:
    """Run the command line."""
    with exiting_on_error():
        cli(prog_name="python -P -m dotsctl.tools.dev.encoder_memory")


if __name__ == "__main__":
    main()
