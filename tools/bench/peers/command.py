"""``dotsctl bench peers``: options and help. What it does is imported when it runs."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click
from dotsctl.client.cli.completion import DECODER, ENCODER, MODEL

if TYPE_CHECKING:
    from dotsctl.tools.bench.peers.report import PeerComparison

WAYS = ("batch", "server", "sequential")


def _parse_numbers(_: click.Context, option: click.Parameter, text: str) -> tuple[int, ...]:
    """``1,2`` to numbers."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 0:
        raise click.BadParameter(f"{text!r} is no list of numbers such as 1,2", param=option)
    return numbers


@click.command(short_help="Compare the speed with mlx-vlm.")
@click.option("--model", type=MODEL, metavar="NAME|PATH", help="Model. [default: a random one of 199 M parameters]")
@click.option("--encoder", type=ENCODER, metavar="NAME[:KEY=VALUE,...]", help="Encoder plugin. [default: auto]")
@click.option("--decoder", type=DECODER, metavar="NAME[:KEY=VALUE,...]", help="Decoder plugin. [default: mlx]")
@click.option("--pages", type=click.IntRange(min=1), default=16, show_default=True, help="Pages to read.")
@click.option(
    "--kind",
    "kinds",
    metavar="WIDTHxHEIGHT:TOKENS",
    multiple=True,
    default=("448x616:64", "224x308:160"),
    show_default=True,
    help="Size of the pages and length of the answers; may be repeated.",
)
@click.option(
    "--way",
    "ways",
    type=click.Choice(WAYS),
    multiple=True,
    default=("batch", "server"),
    show_default=True,
    help="Way to use mlx-vlm; may be repeated.",
)
@click.option(
    "--threads",
    default="1",
    show_default=True,
    metavar="N,...",
    callback=_parse_numbers,
    help="BLAS threads of each process; 0: as the library chooses.",
)
@click.option(
    "--clients",
    default="16",
    show_default=True,
    metavar="N,...",
    callback=_parse_numbers,
    help="Pages in flight at once, for dotsctl and the server.",
)
@click.option("--hints", is_flag=True, help="Read the pages by dotsctl with their own answers as hints as well.")
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Rounds; of each side the round with the median time counts.",
)
@click.option("--python", type=click.Path(path_type=Path), help="Python that has mlx-vlm. [default: one is installed]")
@click.option(
    "--count",
    metavar="PATCHES,...",
    default=None,
    callback=lambda context, option, text: text and _parse_numbers(context, option, text),
    help="Only count operations and bytes of such pages, as 5000,8640,19800, with 1,000 tokens.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def peers(
    model: str | None,
    encoder: str | None,
    decoder: str | None,
    pages: int,
    kinds: tuple[str, ...],
    ways: tuple[str, ...],
    threads: tuple[int, ...],
    clients: tuple[int, ...],
    hints: bool,
    repeat: int,
    python: Path | None,
    count: tuple[int, ...] | None,
    as_json: bool,
) -> None:
    """Compare the speed with mlx-vlm.

    Both sides read the same pages with the same checkpoint, prompt, answer length and BLAS, models loaded and warm.
    The first run installs mlx-vlm into an environment of its own, in the user's cache folder.

    Read the ratios: they come from one run, and times of a busy machine mean little on their own.
    """
    from dotsctl.protocol.errors import UsageError
    from dotsctl.tools.bench.peers.workload import Workload

    try:
        workloads = [Workload.parse(kind, pages) for kind in kinds]
    except ValueError as error:
        raise UsageError(f"--kind: {error}", "write it as 448x616:64") from None
    if count:
        _print_counted(model, count, as_json=as_json)
        return
    from dotsctl.tools.bench.peers.environment import peer_python
    from dotsctl.tools.bench.peers.measuring import Sides

    with tempfile.TemporaryDirectory() as scratch:
        folder = _model(model, Path(scratch))
        sides = Sides(folder, python or peer_python(), ways, threads, clients, encoder, decoder, hints)
        compared = [
            sides.compare(workload, repeat, Path(scratch), lambda line: click.echo(line, err=True))
            for workload in workloads
        ]
    _print(compared, as_json=as_json)


def _model(model: str | None, scratch: Path) -> Path:
    """The folder of the model; a random one is written where none was named."""
    from dotsctl.protocol.model.directory import find_model
    from dotsctl.tools.random_checkpoint.checkpoint import write_checkpoint
    from dotsctl.tools.random_checkpoint.shape import PRESETS

    if model is not None:
        return find_model(model)[1]
    write_checkpoint(scratch / "mid", PRESETS["mid"], "float32")
    return scratch / "mid"


def _print_counted(model: str | None, patches: tuple[int, ...], *, as_json: bool) -> None:
    """Print what pages cost by arithmetic, with the sizes of a model or of dots.ocr."""
    from dataclasses import asdict

    from dotsctl.protocol.model.checkpoint import read_json
    from dotsctl.protocol.model.config import CONFIG, sizes
    from dotsctl.protocol.model.directory import find_model
    from dotsctl.tools.bench.main import print_json, print_text
    from dotsctl.tools.bench.peers import counted
    from dotsctl.tools.random_checkpoint.shape import PRESETS

    if model is None:
        text, vision = PRESETS["full"].text, PRESETS["full"].vision
    else:
        text, vision = sizes(read_json(find_model(model)[1], CONFIG))
    pages = [counted.count(vision, text, 16, each, counted.TOKENS) for each in patches]
    largest = max(pages, key=lambda page: page.patches)
    verdict = (
        f"A page of {largest.patches:,} patches needs {largest.tower / 1e12:.0f} TFLOP in the tower and "
        f"{(largest.prefill + largest.answer) / 1e12:.0f} in the decoder."
    )
    if as_json:
        print_json(verdict, {"pages": [asdict(page) for page in pages]})
    else:
        print_text(verdict, counted.table(pages), counted.LEGEND)


def _print(compared: "list[PeerComparison]", *, as_json: bool) -> None:
    from dotsctl.tools.bench.main import print_json, print_text
    from dotsctl.tools.bench.peers.report import LEGEND

    verdict = "\n".join(each.verdict() for each in compared)
    if as_json:
        print_json(verdict, {"compared": [each.record() for each in compared]})
        return
    tables = [f"{each.workload.pages} pages of {each.workload.name}\n{each.table()}" for each in compared]
    print_text(verdict, "\n\n".join(tables), LEGEND)
