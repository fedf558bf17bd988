"""Benchmarks: ``dotsctl bench pipeline | transport | control | simulate`` of the runtime itself, with fake plugins;
``dotsctl bench energy`` of the encoders, on a Mac.

The first two print ratios measured side by side in one run, because the times of a shared machine mean little on
their own.
"""

import json
import platform
import sys
from dataclasses import asdict

import click
from dotsctl.protocol.errors import DotsctlError
from dotsctl.tools.bench import control as bench_control
from dotsctl.tools.bench import pipeline as bench_pipeline
from dotsctl.tools.bench import simulation as bench_simulation
from dotsctl.tools.bench import transport as bench_transport

LIMITS = {"balanced": 1.10, "unbalanced": 1.05}
PROGRESS_S = 5.0
"""Between two lines of a long run."""


@click.group()
def cli() -> None:
    """Measure and test the runtime itself, without a model; and the energy of encoders, on a Mac."""


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
@click.option("--pages", type=click.IntRange(min=8), default=60, show_default=True)
@click.option("--embed-mib", type=float, default=10.0, show_default=True, help="Embeddings of a page.")
@click.option(
    "--balance",
    "balances",
    metavar="ENCODE_MS/DECODE_MS",
    multiple=True,
    default=("60/60", "20/80", "80/20"),
    show_default=True,
    callback=_parse_balance,
    help="Milliseconds a page; may be repeated.",
)
@click.option("--check", is_flag=True, help="Exit 1 above 1.10 of the ideal (1.05 where one stage is slower).")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output instead of a table.")
def pipeline(pages: int, embed_mib: float, balances: list[tuple[float, float]], check: bool, as_json: bool) -> None:
    """Wall time of encoding and decoding against the ideal two-stage pipeline, and without overlap.

    The fake encoder and the serial fake decoder take the given times; the clock runs from the moment when both
    workers are ready. The ideal is one page through both stages plus the slower stage for each other page.
    """
    outcomes = [bench_pipeline.measure(pages, embed_mib, *balance) for balance in balances]
    if as_json:
        click.echo(json.dumps({"machine": _machine(), "runs": [asdict(o) | {"ratio": o.ratio} for o in outcomes]}))
    else:
        click.echo(f"{pages} pages of {embed_mib:g} MiB, {_machine()}")
        click.echo("encode/decode  ideal s  wall s  ratio  no overlap s  ratio  outstanding  busy enc/dec  RSS drift")
        for outcome in outcomes:
            click.echo(outcome.row())
    above = [o for o in outcomes if o.ratio > LIMITS["balanced" if o.encode_ms == o.decode_ms else "unbalanced"]]
    if check and above:
        click.echo(f"{len(above)} of {len(outcomes)} runs are above their limit", err=True)
        sys.exit(1)


@cli.command()
@click.option("--rounds", type=click.IntRange(min=5), default=50, show_default=True)
@click.option("--mib", type=float, default=15.0, show_default=True, help="Embeddings of a page.")
@click.option("--check", is_flag=True, help="Exit 1 above 1.3 times the bare transfer.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output instead of text.")
def transport(rounds: int, mib: float, check: bool, as_json: bool) -> None:
    """Time of embeddings from encoder to decoder, against a bare PUSH/PULL of the same frames.

    From an array in one process to an array in another. Ours adds the header, all checks of the codec, and the check
    that every value is finite; both copy the frames out. The two take turns; medians are compared.
    """
    outcome = bench_transport.measure(rounds, mib)
    if as_json:
        click.echo(json.dumps({"machine": _machine(), **asdict(outcome), "ratio": outcome.ratio}))
    else:
        click.echo(f"{mib:g} MiB, medians of {rounds}, {_machine()}")
        click.echo(f"ours {outcome.ours_ms:.2f} ms, bare {outcome.bare_ms:.2f} ms, ratio {outcome.ratio:.2f}")
    if check and outcome.ratio > bench_transport.LIMIT:
        click.echo(f"the ratio is above {bench_transport.LIMIT}", err=True)
        sys.exit(1)


@cli.command()
@click.option("--questions", type=click.IntRange(min=100), default=1000, show_default=True)
@click.option("--mib", type=float, default=15.0, show_default=True, help="Embeddings of a page.")
@click.option("--check", is_flag=True, help="Exit 1 when the 99th percentile is above 10 ms.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output instead of text.")
def control(questions: int, mib: float, check: bool, as_json: bool) -> None:
    """Time from a control message to its answer while large pages flow from the encoder to the decoder.

    The message is a question for the status, from a client of its own; another client has pages read meanwhile.
    """
    outcome = bench_control.measure(questions, mib)
    if as_json:
        click.echo(json.dumps({"machine": _machine(), **asdict(outcome)}))
    else:
        click.echo(f"{questions} questions, {outcome.pages} pages of {mib:g} MiB meanwhile, {_machine()}")
        click.echo(f"p50 {outcome.p50_ms:.2f} ms, p99 {outcome.p99_ms:.2f} ms, max {outcome.max_ms:.2f} ms")
    if check and outcome.p99_ms > bench_control.LIMIT_MS:
        click.echo(f"the 99th percentile is above {bench_control.LIMIT_MS:g} ms", err=True)
        sys.exit(1)


@cli.command()
@click.option("--seeds", type=click.IntRange(min=1), default=100_000, show_default=True, help="Schedules to play.")
@click.option("--first", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the first one.")
@click.option("--processes", type=click.IntRange(min=1), help="That play at once. [default: one for each core]")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output instead of text.")
def simulate(seeds: int, first: int, processes: int | None, as_json: bool) -> None:
    """Play seeded schedules of dying workers and lost, late and reordered messages through the coordinator.

    A promise that it breaks is a line with the seed, and exit code 1; the same seed plays the same schedule again.
    """
    shown_at = 0.0

    def tell(total: bench_simulation.SimulationOutcome) -> None:
        nonlocal shown_at
        if total.wall_s - shown_at >= PROGRESS_S:
            shown_at = total.wall_s
            done = f"{total.schedules} of {seeds}, {total.per_s:.0f} a second, {len(total.failing)} broken"
            click.echo(done, err=True)

    outcome = bench_simulation.simulate(seeds, first, processes, tell)
    if as_json:
        click.echo(json.dumps({"machine": _machine(), **asdict(outcome), "per_s": outcome.per_s}))
    else:
        click.echo(
            f"{outcome.schedules} schedules in {outcome.wall_s:.1f} s, {outcome.per_s:.0f} a second: "
            f"{outcome.answered} pages read, {outcome.deaths} deaths, {outcome.stale_messages} stale messages, "
            f"{len(outcome.failing)} broken promises. {_machine()}"
        )
    for line in sorted(outcome.failing):
        click.echo(line, err=True)
    sys.exit(bool(outcome.failing))


@cli.command()
@click.option("--model", metavar="NAME|PATH", help="The model; else the only installed one.")
@click.option(
    "--encoder",
    "encoders",
    metavar="NAME[:KEY=VALUE,...]",
    multiple=True,
    help="May be repeated. [default: mlx, and coreml where there are packages]",
)
@click.option("--patches", type=click.IntRange(min=4), help="Of the page. [default: as many as fit, up to 4032]")
@click.option("--seconds", type=click.FloatRange(min=5), default=30.0, show_default=True, help="For each encoder.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output instead of a table.")
def energy(model: str | None, encoders: tuple[str, ...], patches: int | None, seconds: float, as_json: bool) -> None:
    """Watt-hours for 1,000 pages of each encoder, and the mean power of CPU, GPU and Neural Engine above idle.

    On a Mac alone, with the system's own meter, powermetrics. That needs root: run 'sudo -v' first.
    """
    from dotsctl.protocol.blas import preload_blas

    preload_blas()
    from dotsctl.tools.bench import energy as bench_energy  # imports what the other benchmarks do not need

    measured = bench_energy.measure(model, encoders, patches, seconds, lambda line: click.echo(line, err=True))
    if as_json:
        click.echo(json.dumps({"machine": _machine(), "encoders": [asdict(each) for each in measured]}))
        return
    click.echo(bench_energy.HEAD)
    for each in measured:
        click.echo(each.row())


def _machine() -> str:
    import os

    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def main() -> None:
    """Run the command line."""
    try:
        cli(prog_name="dotsctl bench")
    except DotsctlError as error:
        click.echo(f"dotsctl: {error}", err=True)
        sys.exit(error.exit_code)
