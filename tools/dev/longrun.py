"""Runs that take too long for every change: ``python -P -m dotsctl.tools.dev.longrun NAME``.

CI runs a small sample of each. ``tools/README.md`` has the last figure and date of every run.
"""

import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import click
from dotsctl.client.cli.main import run_command
from dotsctl.protocol.errors import ExitCode, MissingError
from dotsctl.tools.commands import ToolCommand

PYTHON = (sys.executable, "-P", "-m")
PYTEST = (*PYTHON, "pytest", "-q", "-n", "auto")
DEV = "dotsctl.tools.dev"
CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class LongRun:
    """One run: a command, and what it shows."""

    shows: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


RUNS = {
    "kills": LongRun(
        "300 workers killed while 3,000 pages are read", (*PYTHON, f"{DEV}.chaos", "--kills", "300", "--pages", "3000")
    ),
    "power-cuts": LongRun(
        "50 kills of everything, each followed by the same command",
        (*PYTHON, f"{DEV}.chaos", "--all", "--moments", "50"),
    ),
    "swaps": LongRun("100 swaps of the encoder under load", (*PYTHON, f"{DEV}.chaos", "--swaps", "100")),
    "soak": LongRun("100,000 pages without growth", (*PYTHON, f"{DEV}.chaos", "--soak", "--pages", "100000")),
    "simulation": LongRun(
        "10,000 schedules of the complete runtime", (*PYTHON, f"{DEV}.bench", "simulate", "--seeds", "10000")
    ),
    "simulation-long": LongRun(
        "1,000,000 schedules of the complete runtime", (*PYTHON, f"{DEV}.bench", "simulate", "--seeds", "1000000")
    ),
    "properties": LongRun(
        "property tests with ten times the examples", (*PYTEST, "tests/unit"), {"DOTSCTL_TEST_EXAMPLES": "10"}
    ),
    "sampled": LongRun(
        "tests of which CI does a part", (*PYTEST, "-m", "sampled", "tests"), {"DOTSCTL_TEST_WHOLE": "1"}
    ),
    "shared-folder": LongRun(
        "300 pages by five runs into one folder, one killed, one stopped",
        (*PYTEST, "tests/unit/test_shared_folder.py"),
        {"DOTSCTL_TEST_EXAMPLES": "10"},
    ),
    "power-model": LongRun(
        "power cuts after every file operation of a run, in a model of the disk",
        (*PYTEST, "tests/unit/test_power_cuts.py"),
        {"DOTSCTL_TEST_EXAMPLES": "10"},
    ),
    "damaged": LongRun(
        "10,200 damaged files, each with a good page behind it",
        (*PYTHON, "pytest", "-q", "--timeout", "3600", "tests/unit/test_render_process.py", "-k", "damaged"),
        {"DOTSCTL_TEST_EXAMPLES": "34"},
    ),
    "training": LongRun("the training of the demo model, with PyTorch", (*PYTEST, "tests/unit/test_training.py")),
    "manuals": LongRun("every command of the manuals", (*PYTHON, f"{DEV}.manual_commands")),
    "macos": LongRun(
        "the process tests with every process believing that it runs on macOS",
        (*PYTHON, "tests.macos", *PYTEST, "tests/process"),
    ),
    "mlx-vlm": LongRun(
        "answers of all builds that mlx-vlm converts a random checkpoint to, compared with its own",
        (*PYTHON, f"{DEV}.mlx_vlm_builds"),
    ),
    "drafts": LongRun(
        "every token of 200 pages with drafts and without, with each kind of weights",
        (*PYTHON, f"{DEV}.draft_equality", "--pages", "200"),
    ),
    "first-mac": LongRun("all that a Mac would run, as far as Linux can", ("tools/first_mac.sh", "--dry-run")),
}


@click.command("longrun", cls=ToolCommand)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, type=click.Choice([*RUNS, "all"]))
def command(names: tuple[str, ...]) -> ExitCode:
    """Run checks that take longer than CI has time for; the summary has the time of each."""
    return run(list(RUNS) if "all" in names else list(names))


command.epilog = "\n\n".join(["Names:", *(f"{name}: {each.shows}." for name, each in RUNS.items())])


def run(names: list[str]) -> ExitCode:
    """Run each to its end and print one line about it.

    Raises:
        MissingError: this is no checkout of the repository.
    """
    if not (CHECKOUT / "tests").is_dir():
        raise MissingError(f"{CHECKOUT} has no tests: run this in a checkout of dotsctl")
    failed = 0
    for name in names:
        each, before, started = RUNS[name], os.times(), time.monotonic()
        click.echo(f"{name}: {shlex.join(each.command)}", err=True)
        code = subprocess.run(each.command, cwd=CHECKOUT, env={**os.environ, **each.environment}).returncode
        after = os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        outcome = "ok" if code == 0 else f"FAILED with exit code {code}"
        click.echo(f"{name}: {outcome}, {time.monotonic() - started:.0f} s, {used:.0f} CPU-s ({each.shows})")
        failed += code != 0
    return ExitCode.SOME_FAILED if failed else ExitCode.OK


if __name__ == "__main__":
    run_command(command)
