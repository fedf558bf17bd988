"""``python -P -m dotsctl.tools.dev.bench control | coordinator | devices | rendering | simulate``: for developers."""

import json
import sys
from dataclasses import asdict

import click
from dotsctl.client.cli.printing import exiting_on_error
from dotsctl.tools.bench.main import machine_text
from dotsctl.tools.dev.bench import control as bench_control
from dotsctl.tools.dev.bench import coordinator as bench_coordinator
from dotsctl.tools.dev.bench import devices as bench_devices
from dotsctl.tools.dev.bench import rendering as bench_rendering
from dotsctl.tools.dev.bench import simulation as bench_simulation

PROGRESS_S = 5.0
"""The seconds between two lines of a long run."""


@click.group()
def cli() -> None:
    """Measure the coordinator and the rendering of pages, and play the simulations."""


@cli.command()
@click.option("--questions", type=click.IntRange(min=100), default=1000, show_default=True)
@click.option("--mib", type=float, default=15.0, show_default=True, help="Size of the embeddings of a page.")
@click.option("--check", is_flag=True, help="Exit 1 when the 99th percentile is above 10 ms.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def control(questions: int, mib: float, check: bool, as_json: bool) -> None:
    """Measure the time to an answer while large pages flow.

    The message is a status request, from a client of its own. Another client reads pages meanwhile: their embeddings
    flow from the encoder to the decoder.
    """
    outcome = bench_control.measure(questions, mib)
    if as_json:
        click.echo(json.dumps({"machine": machine_text(), **asdict(outcome)}))
    else:
        click.echo(f"{questions} questions, {outcome.pages} pages of {mib:g} MiB meanwhile, {machine_text()}")
        click.echo(f"p50 {outcome.p50_ms:.2f} ms, p99 {outcome.p99_ms:.2f} ms, max {outcome.max_ms:.2f} ms")
    if check and outcome.p99_ms > bench_control.LIMIT_MS:
        click.echo(f"the 99th percentile is above {bench_control.LIMIT_MS:g} ms", err=True)
        sys.exit(1)


@cli.command()
@click.option(
    "--messages",
    type=click.IntRange(min=100),
    default=4000,
    show_default=True,
    help="Messages at each number of requests.",
)
@click.option("--auto", is_flag=True, help="Let the coordinator choose between two encoders for each page.")
@click.option(
    "--check", is_flag=True, help="Exit 1 when a message costs more than 3 times as much at the largest size."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def coordinator(messages: int, auto: bool, check: bool, as_json: bool) -> None:
    """Measure the CPU time of the coordinator for a message.

    The message is that of a worker; the time depends on the number of requests that the coordinator holds.
    """
    costs = bench_coordinator.measure(messages, auto=auto)
    ratio = costs[-1].us_a_message / costs[0].us_a_message
    if as_json:
        click.echo(json.dumps({"machine": machine_text(), "ratio": ratio, "costs": [asdict(cost) for cost in costs]}))
    else:
        for cost in costs:
            click.echo(f"{cost.requests} requests of {cost.clients} clients: {cost.us_a_message:.1f} us a message")
        click.echo(f"{ratio:.1f} times as much at the largest size. {machine_text()}")
    sys.exit(check and ratio > bench_coordinator.LIMIT_RATIO)


@cli.command()
@click.option("--seeds", type=click.IntRange(min=1), default=100_000, show_default=True, help="Schedules to play.")
@click.option("--first", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the first one.")
@click.option("--processes", type=click.IntRange(min=1), help="Processes at once. [default: one for each core]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def simulate(seeds: int, first: int, processes: int | None, as_json: bool) -> None:
    """Play seeded schedules of dying workers and lost, late and reordered messages through the coordinator.

    A promise that it breaks is a line with the seed, and exit code 1; the same seed plays the same schedule again.
    """
    shown_at = 0.0

    def report(total: bench_simulation.SimulationOutcome) -> None:
        nonlocal shown_at
        if total.wall_s - shown_at >= PROGRESS_S:
            shown_at = total.wall_s
            done = f"{total.schedules} of {seeds}, {total.per_s:.0f} a second, {len(total.failing)} broken"
            click.echo(done, err=True)

    outcome = bench_simulation.simulate(seeds, first, processes, report)
    if as_json:
        click.echo(json.dumps({"machine": machine_text(), **asdict(outcome), "per_s": outcome.per_s}))
    else:
        click.echo(
            f"{outcome.schedules} schedules in {outcome.wall_s:.1f} s, {outcome.per_s:.0f} a second: "
            f"{outcome.answered} pages read, {outcome.deaths} deaths, {outcome.stale_messages} stale messages, "
            f"{len(outcome.failing)} broken promises. {machine_text()}"
        )
    for line in sorted(outcome.failing):
        click.echo(line, err=True)
    sys.exit(bool(outcome.failing))


@cli.command()
@click.option("--pages", type=click.IntRange(min=16), default=64, show_default=True, help="Pages to read.")
@click.option(
    "--check", is_flag=True, help="Exit 1 below a machine's least gain on one device, or 0.95 of the ideal on two."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def devices(pages: int, check: bool, as_json: bool) -> None:
    """Simulate both halves on one GPU and on two devices.

    On one GPU, halves that take turns are compared with halves that compute at any time, each submission waiting for
    one of the other process. On two devices the halves are compared with the ideal pipeline. Times are estimates.
    """
    outcomes = [bench_devices.measure(machine, pages) for machine in bench_devices.MACHINES]
    if as_json:
        found = [asdict(outcome) | {"gain": outcome.gain, "overlap": outcome.overlap} for outcome in outcomes]
        click.echo(json.dumps({"machines": found}))
    for outcome in [] if as_json else outcomes:
        click.echo(
            f"{outcome.machine.name}: one GPU {outcome.free_s:,.0f} s at any time, {outcome.phases_s:,.0f} s in turns, "
            f"{outcome.gain:.2f} times the pages; two devices {outcome.two_devices_s:,.0f} s, {outcome.overlap:.3f} of "
            "the ideal"
        )
    sys.exit(check and not all(outcome.is_as_promised for outcome in outcomes))


@cli.command()
@click.option("--pages", type=click.IntRange(min=1), default=200, show_default=True)
@click.option("--documents", type=click.IntRange(min=1), default=1, show_default=True, help="PDFs that hold the pages.")
def rendering(pages: int, documents: int) -> None:
    """Measure the CPU time for each scan in a PDF.

    It is that of a client and of its render process; a scan has one megapixel.
    """
    outcome = bench_rendering.measure(pages, documents)
    total_ms = outcome.client_ms + outcome.render_ms
    click.echo(
        f"{outcome.pages} pages: client {outcome.client_ms:.1f} ms, render process {outcome.render_ms:.1f} ms, "
        f"together {total_ms:.1f} ms a page; {outcome.wall_s:.1f} s. {machine_text()}"
    )


def main() -> None:
    """Run the command line."""
    with exiting_on_error():
        cli(prog_name="python -P -m dotsctl.tools.dev.bench")
