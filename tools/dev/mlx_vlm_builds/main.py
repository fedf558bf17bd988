"""Lets mlx-vlm convert a random checkpoint to every kind, and compares answers: embeddings, and each token.

Exit codes: 0 all match, 1 something does not, 3 mlx-vlm cannot be installed, 7 it failed.
"""

import sys
import tempfile
from pathlib import Path

import click
from dotsctl.client.cli.printing import exiting_on_error
from dotsctl.protocol.errors import REINSTALL, ExitCode, MissingError
from dotsctl.protocol.worker.blas import preload_blas
from dotsctl.tools.bench.peers.environment import MLX_VLM, peer_python
from dotsctl.tools.random_checkpoint.checkpoint import write_checkpoint
from dotsctl.tools.random_checkpoint.shape import PRESETS


@click.command()
@click.option("--python", type=click.Path(path_type=Path), help="Python that has mlx-vlm; none: one is installed.")
@click.option("--model", type=click.Path(path_type=Path), help="Folder of a checkpoint; none: a random one.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the random checkpoint.")
@click.option("--store", is_flag=True, help="Store small builds of a seed of their own for the tests, and end.")
def cli(python: Path | None, model: Path | None, seed: int, store: bool) -> None:
    """Compare our answers to 8 pages with mlx-vlm's, on a checkpoint that it converts to every kind."""
    preload_blas()
    try:
        from dotsctl.tools.dev.mlx_vlm_builds import builds
        from dotsctl.tools.dev.mlx_vlm_builds import stored as storage
    except ImportError as error:
        raise MissingError(f"{error}", REINSTALL) from None
    python = python or peer_python()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        source = model or work / "source"
        if model is None:
            shape, chosen = (storage.SMALL, storage.SEED) if store else (PRESETS["tiny"], seed)
            write_checkpoint(source, shape, "bfloat16", chosen)
        (work / "peer").mkdir()
        click.echo(f"mlx-vlm {MLX_VLM} converts {source}", err=True)
        results = builds.make_builds(python, source, work / "peer")
        if store:
            size_bytes = storage.store(storage.STORED, work / "peer", results)
            click.echo(f"{storage.STORED}: {size_bytes:,} bytes")
            return
        differences = []
        for name, peer in results.items():
            differences.append(builds.compare(name, work / "peer" / "builds" / name, peer))
            click.echo(differences[-1].line())
    sys.exit(ExitCode.OK if all(each.match for each in differences) else ExitCode.SOME_FAILED)


def main() -> None:
    """Run the command line."""
    with exiting_on_error():
        cli(prog_name="python -P -m dotsctl.tools.dev.mlx_vlm_builds")
