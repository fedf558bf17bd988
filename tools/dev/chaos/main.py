"""The behaviour of the runtime when things die: ``python -P -m dotsctl.tools.dev.chaos``, on demand, with fake pages.

Four experiments: workers that are killed at random (``--kills``), the command and everything below it killed at random
moments and started again (``--all``), encoders that are swapped under load (``--swaps``), and a long calm run whose
memory, descriptors and latency must not grow (``--soak``). One JSON object a run on standard output; exit code 1 when
a promise is broken.
"""

import json
import sys
from dataclasses import asdict
from typing import Any

import click
from dotsctl.protocol.errors import ExitCode
from dotsctl.tools.commands import ToolCommand
from dotsctl.tools.dev.chaos.everything import EverythingChaos, kill_everything
from dotsctl.tools.dev.chaos.soak import SoakOutcome, soak
from dotsctl.tools.dev.chaos.swaps import SwapChaos, swap_under_load
from dotsctl.tools.dev.chaos.workers import WorkerChaos, kill_workers


@click.command("chaos", cls=ToolCommand)
@click.option("--pages", type=click.IntRange(min=1), help="[default: 3000; 200 with --all; 100000 with --soak]")
@click.option("--seed", "seeds", type=int, multiple=True, default=(1,), show_default=True, help="May be repeated.")
@click.option("--kills", type=click.IntRange(min=0), default=300, show_default=True, help="SIGKILLs of workers.")
@click.option("--all", "everything", is_flag=True, help="Kill the command, the runtime and both workers.")
@click.option(
    "--moments",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Moments at which --all kills everything.",
)
@click.option("--swaps", type=click.IntRange(min=1), help="Swap the encoder so often, and read meanwhile.")
@click.option("--soak", "soaking", is_flag=True, help="Kill nothing, and read for long.")
def command(**options: Any) -> ExitCode:
    """Kill things while fake pages are read, and count what is lost, doubled or changed."""
    return run(**options)


def run(
    pages: int | None,
    seeds: tuple[int, ...],
    kills: int,
    everything: bool,
    moments: int,
    swaps: int | None,
    soaking: bool,
) -> ExitCode:
    """Carry out one experiment a seed."""
    holds = True
    outcome: SoakOutcome | EverythingChaos | WorkerChaos | SwapChaos
    for seed in seeds:
        if soaking:
            outcome = soak(pages or 100_000, lambda text: click.echo(text, err=True))
        elif swaps:
            outcome = swap_under_load(swaps, lambda text: click.echo(text, err=True))
        elif everything:
            outcome = kill_everything(pages or 200, moments, seed, lambda text: click.echo(text, err=True))
        else:
            outcome = kill_workers(pages or 3000, kills, seed)
        click.echo(json.dumps({**asdict(outcome), "holds": outcome.holds}))
        sys.stdout.flush()
        holds = holds and outcome.holds
    return ExitCode.OK if holds else ExitCode.SOME_FAILED
