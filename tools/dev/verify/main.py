"""Compares our tower and decoder with references on the same weights: ``python -P -m dotsctl.tools.dev.verify``.

Compared are the activations of one page after the patch embedding, the attention and the MLP of the first block, the
final norm and the merger; the logits of its first step; and the greedy answers to several pages. Every implementation
gets the same patches and prompt ids. In bfloat16 the tower alone is compared, with float64 and with mlx-vlm's error:
two best tokens that are nearly equal change places there.

``verify --noise ...``, with ``--noise`` as the first word, measures instead how exact an encoder must be; the options
are those of ``dotsctl.tools.dev.noise``.

Exit codes: 0 all match, 1 something does not, 2 a wrong option, 3 something that was requested is not installed.
"""

import os
import sys
import tempfile
from pathlib import Path

import click
from dotsctl.client.cli.printing import exiting_on_error
from dotsctl.encoder_worker.plugins import COREML
from dotsctl.protocol.errors import REINSTALL, ExitCode, MissingError, UsageError
from dotsctl.protocol.worker.blas import preload_blas
from dotsctl.tools.dev.noise import main as noise

REFERENCES = ("stored", "float64", "mlx-vlm", "torch")
NOISE = "--noise"
MAX_TOKENS = 32
"""The most tokens of each answer."""


def _parse_names(_: click.Context, __: click.Parameter, text: str | None) -> tuple[str, ...] | None:
    """``stored,torch`` to names, each once."""
    if text is None:
        return None
    names = tuple(dict.fromkeys(text.split(",")))
    if wrong := [name for name in names if name not in REFERENCES]:
        raise click.BadParameter(f"{', '.join(wrong)} is unknown; choose among {', '.join(REFERENCES)}")
    return names


@click.command()
@click.option("--model", type=click.Path(path_type=Path), help="Folder of a checkpoint; none: a tiny random one.")
@click.option("--pages", type=click.IntRange(1, 64), default=8, show_default=True, help="Pages that are answered.")
@click.option(
    "--against",
    metavar="NAME,...",
    callback=_parse_names,
    help="References: stored, float64, mlx-vlm, torch; none: all that are installed.",
)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Folder for metadata.json and plots.")
@click.option(
    "--encoder", type=click.Choice([COREML]), help="Compare Core ML packages with our tower and with float64."
)
@click.option("--build", metavar="NAME", help="With --encoder coreml: the build; else as the encoder chooses.")
@click.option("--bucket", "buckets", type=int, multiple=True, help="With --encoder coreml: page sizes; else all.")
@click.option(
    "--units",
    type=click.Choice(["cpu_and_ne", "cpu_and_gpu", "cpu_only"]),
    multiple=True,
    help="With --encoder coreml on a Mac: compute units; else all.",
)
@click.option("--store", type=click.Path(path_type=Path), help="Write mlx-vlm's results to this .npz file, and end.")
def cli(
    model: Path | None,
    pages: int,
    against: tuple[str, ...] | None,
    dtype: str,
    output: Path | None,
    encoder: str | None,
    build: str | None,
    buckets: tuple[int, ...],
    units: tuple[str, ...],
    store: Path | None,
) -> None:
    """Compare our tower, first-step logits and answers with references on the same weights.

    With --noise as the first word: measure how much noise on its embeddings a text bears; see --noise --help.
    """
    if encoder is not None:
        sys.exit(_verify_packages(model, build, buckets, units, output))
    if build or buckets or units:
        raise UsageError("--build, --bucket and --units are for --encoder coreml")
    blas = preload_blas()  # before anything imports mlx.core, so that all of MLX computes with the same one
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # mlx-vlm imports transformers; nothing here needs the network
    try:
        from dotsctl.tools.dev.verify.run import VerifyRun
    except ImportError as error:
        raise MissingError(f"{error}", REINSTALL) from None
    with tempfile.TemporaryDirectory() as scratch:
        run = VerifyRun.prepare(model, Path(scratch), pages, dtype, MAX_TOKENS)
        if store is not None:
            size_bytes = run.store(store)
            click.echo(f"{store}: {size_bytes:,} bytes")
            return
        rows = run.compare(against, click.echo)
        click.echo(run.table(rows))
        if output is not None:
            run.report(output, rows, {"dtype": dtype, "pages": pages, "blas": blas})
    if not rows:
        raise UsageError("nothing was compared", "name a reference with --against")
    sys.exit(ExitCode.OK if all(row.match for row in rows) else ExitCode.SOME_FAILED)


def _verify_packages(
    model: Path | None, build: str | None, buckets: tuple[int, ...], units: tuple[str, ...], output: Path | None
) -> ExitCode:
    """Compare the packages of a build; one of the model, or of the only installed one."""
    preload_blas()
    from dotsctl.encoder_worker.coreml.manifest import Build
    from dotsctl.tools.verify_coreml import comparison, report

    chosen = units or comparison.DEVICE_UNITS
    order = comparison.BuildRequest(str(model) if model else None, build, buckets, chosen)
    folder, found = comparison.compare(order, lambda line: click.echo(line, err=True))
    click.echo(report.table(found))
    if output is not None:
        report.write_report(output, found, Build.read(folder))
    return ExitCode.OK if all(row.match for row in found.rows) else ExitCode.SOME_FAILED


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == [NOISE]:
        noise.main(sys.argv[2:])
    with exiting_on_error():
        cli(prog_name="python -P -m dotsctl.tools.dev.verify")
