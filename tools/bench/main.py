"""Benchmarks: ``dotsctl bench pipeline | transport`` of the runtime itself, with fake plugins; ``dotsctl bench peers``
beside mlx-vlm; ``dotsctl bench plan`` with given costs; ``dotsctl bench energy`` of the encoders, on a Mac.

The first two print ratios measured side by side in one run, because the times of a shared machine mean little on
their own.
"""

import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from dotsctl.client.cli.completion import ENCODER, MODEL
from dotsctl.encoder_worker.plugins import COREML
from dotsctl.tools.bench.peers.command import peers

if TYPE_CHECKING:
    from dotsctl.tools.measuring.report_text import LegendEntry

LIMITS = {"balanced": 1.10, "unbalanced": 1.05}


@click.group(short_help="Measure throughput and energy.")
def cli() -> None:
    """Measure throughput and energy.

    pipeline and transport measure the runtime with fake plugins, peers compares it with mlx-vlm, plan predicts;
    energy measures encoders on a Mac.
    """


def _parse_balance(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> list[tuple[float, float]]:
    """``60/20`` to milliseconds of encoding and decoding."""
    pairs = []
    for text in texts:
        try:
            encode_ms, decode_ms = map(float, text.split("/"))
        except ValueError:
            raise click.BadParameter(f"{text!r} is not ENCODE_MS/DECODE_MS") from None
        pairs.append((encode_ms, decode_ms))
    return pairs


@cli.command()
@click.option("--pages", type=click.IntRange(min=8), default=60, show_default=True, help="Pages to read.")
@click.option("--embed-mib", type=float, default=10.0, show_default=True, help="Size of a page's embeddings, in MiB.")
@click.option(
    "--balance",
    "balances",
    metavar="ENCODE_MS/DECODE_MS",
    multiple=True,
    default=("60/60", "20/80", "80/20"),
    show_default=True,
    callback=_parse_balance,
    help="Milliseconds per page; may be repeated.",
)
@click.option("--prepare-ms", type=float, default=0.0, show_default=True, help="Milliseconds to prepare a page.")
@click.option("--check", is_flag=True, help="Exit 1 above 1.10 of the ideal (1.05 where one stage is slower).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def pipeline(
    pages: int, embed_mib: float, balances: list[tuple[float, float]], prepare_ms: float, check: bool, as_json: bool
) -> None:
    """Compare the pipeline with an ideal one and with none.

    The fake encoder and the serial fake decoder take the given times; the clock runs from the moment when both
    workers are ready. The ideal is one page through both stages plus the slower stage for each other page.
    """
    from dotsctl.tools.bench import pipeline as bench_pipeline

    outcomes = [bench_pipeline.measure(pages, embed_mib, *balance, prepare_ms) for balance in balances]
    verdict = bench_pipeline.verdict(outcomes)
    if as_json:
        print_json(verdict, {"runs": [asdict(outcome) | {"ratio": outcome.ratio} for outcome in outcomes]})
    else:
        rows = [bench_pipeline.HEAD, *(outcome.row() for outcome in outcomes)]
        title = f"{pages} pages of {embed_mib:g} MiB"
        print_text(verdict, "\n".join([title, *rows]), bench_pipeline.LEGEND)
    above = [o for o in outcomes if o.ratio > LIMITS["balanced" if o.encode_ms == o.decode_ms else "unbalanced"]]
    if check and above:
        click.echo(f"{len(above)} of {len(outcomes)} runs are above their limit", err=True)
        sys.exit(1)


@cli.command()
@click.option("--rounds", type=click.IntRange(min=5), default=50, show_default=True, help="Transfers of each kind.")
@click.option("--mib", type=float, default=15.0, show_default=True, help="Size of a page's embeddings, in MiB.")
@click.option("--check", is_flag=True, help="Exit 1 above 1.3 times the bare transfer.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def transport(rounds: int, mib: float, check: bool, as_json: bool) -> None:
    """Compare the transport of embeddings with bare ZeroMQ.

    From an array in one process to an array in another. Ours adds the header, all checks of the codec, and the check
    that every value is finite; both copy the frames out. The two take turns; medians are compared.
    """
    from dotsctl.tools.bench import transport as bench_transport

    outcome = bench_transport.measure(rounds, mib)
    if as_json:
        print_json(outcome.verdict(), {**asdict(outcome), "ratio": outcome.ratio})
    else:
        numbers = f"ours {outcome.ours_ms:.2f} ms, bare {outcome.bare_ms:.2f} ms, ratio {outcome.ratio:.2f}"
        print_text(outcome.verdict(), f"{mib:g} MiB, medians of {rounds}\n{numbers}")
    if check and outcome.ratio > bench_transport.LIMIT:
        click.echo(f"the ratio is above {bench_transport.LIMIT}", err=True)
        sys.exit(1)


@cli.command()
@click.option("--model", type=MODEL, metavar="NAME|PATH", help="Model. [default: the only installed one]")
@click.option(
    "--encoder",
    "encoders",
    type=ENCODER,
    metavar="NAME[:KEY=VALUE,...]",
    multiple=True,
    help="Encoder; may be repeated. [default: mlx, and coreml if there are packages]",
)
@click.option(
    "--patches", type=click.IntRange(min=4), help="Size of the page in patches. [default: what fits, up to 4032]"
)
@click.option(
    "--seconds", type=click.FloatRange(min=5), default=30.0, show_default=True, help="Measuring time for each encoder."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def energy(model: str | None, encoders: tuple[str, ...], patches: int | None, seconds: float, as_json: bool) -> None:
    """Measure the energy of each encoder on a Mac.

    The output has watt-hours for 1,000 pages and the mean power of CPU, GPU and Neural Engine above idle.

    It uses the system's powermetrics, which needs root: run 'sudo -v' first.
    """
    from dotsctl.protocol.worker.blas import preload_blas

    preload_blas()
    from dotsctl.tools.bench import energy as bench_energy  # imports what the other benchmarks do not need

    measured = bench_energy.measure(model, encoders, patches, seconds, lambda line: click.echo(line, err=True))
    verdict = bench_energy.verdict(measured)
    if as_json:
        print_json(verdict, {"encoders": [asdict(each) for each in measured]})
    else:
        rows = [bench_energy.HEAD, *(each.row() for each in measured)]
        print_text(verdict, "\n".join(rows), bench_energy.LEGEND, uses_coreml=any(COREML in row for row in rows))


@cli.command()
@click.option(
    "--costs", type=click.Path(path_type=Path), required=True, help="JSON file of times; see tools/README.md."
)
@click.option("--size", default="1654x2339", show_default=True, metavar="WIDTHxHEIGHT", help="Pixels of a page.")
@click.option("--pages", type=click.IntRange(min=1), default=64, show_default=True, help="Pages to play.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with every setting instead of a table.")
def plan(costs: Path, size: str, pages: int, as_json: bool) -> None:
    """Find the fastest settings for given costs.

    It plays the pipeline with times that were measured or assumed, and compares encoders, qualities, batches and
    numbers of drafted tokens. Nothing is run on this machine.
    """
    from dotsctl.protocol.errors import UsageError
    from dotsctl.tools.bench import plan_report

    try:
        width, height = map(int, size.split("x"))
    except ValueError:
        raise UsageError(f"--size: {size!r} is not WIDTHxHEIGHT", "write it as 1654x2339") from None
    known = plan_report.read_costs(costs)
    outcomes = plan_report.best_first(known, (width, height), pages)
    verdict = plan_report.verdict(outcomes)
    if as_json:
        print_json(verdict, {"costs": asdict(known), "outcomes": [asdict(outcome) for outcome in outcomes]})
    else:
        title = f"{known.about}\n{pages} pages of {width}x{height} px, {known.tokens:,} tokens each"
        print_text(verdict, f"{title}\n{plan_report.table(outcomes, (width, height))}", plan_report.LEGEND)


cli.add_command(peers)


def print_json(verdict: str, numbers: dict[str, Any]) -> None:
    """Print a report as JSON, with its verdict, machine, versions and date."""
    from dotsctl.tools.measuring.made_by import MadeBy

    made_by = MadeBy.now().record()
    click.echo(json.dumps({"machine": machine_text(), "verdict": verdict, "made_by": made_by, **numbers}))


def print_text(verdict: str, table: str, legend: Sequence["LegendEntry"] = (), *, uses_coreml: bool = False) -> None:
    """Print a report as text."""
    from dotsctl.tools.measuring.made_by import MadeBy
    from dotsctl.tools.measuring.report_text import text_report

    click.echo(text_report(verdict, MadeBy.now(), table, legend, uses_coreml=uses_coreml))


def machine_text() -> str:
    """Return the system, its cores and the version of Python, for a report."""
    import os

    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
