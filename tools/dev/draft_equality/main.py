"""The command: pages read with and without drafts, with each kind of weights.

Drafts are the answer itself, cut at random places and with random wrong tokens, so passes have all numbers of rows.
Quantised weights are made in memory, and computed with in float32. Exit codes: 0 all answers are equal, 1 one differs.
"""

import sys

import click
from dotsctl.client.cli.printing import exiting_on_error
from dotsctl.protocol.errors import REINSTALL, ExitCode, MissingError
from dotsctl.protocol.model.directory import find_model
from dotsctl.protocol.model.quantisation import KINDS
from dotsctl.protocol.worker.blas import preload_blas
from dotsctl.protocol.worker.mlx import DTYPES

KIND_NAMES = (*DTYPES, *KINDS)


@click.command()
@click.option("--pages", default=200, show_default=True, type=click.IntRange(1), help="Pages to draw and read.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KIND_NAMES), help="Kind of weights. [default: all]")
@click.option("--model", default="demo", show_default=True, help="Name or path of a model.")
def cli(pages: int, kinds: tuple[str, ...], model: str) -> None:
    """Compare the tokens of answers with drafts and without, for each kind of weights."""
    preload_blas()
    try:
        from dotsctl.tools.dev.draft_equality.comparing import compare
    except ImportError as error:
        raise MissingError(f"MLX cannot be imported ({error})", REINSTALL) from None
    _, folder = find_model(model)
    are_equal = True
    for outcome in compare(folder, pages, kinds or KIND_NAMES):
        click.echo(outcome.line())
        are_equal &= outcome.equal == outcome.pages
    sys.exit(ExitCode.OK if are_equal else ExitCode.SOME_FAILED)


def main() -> None:
    """Run the command line."""
    with exiting_on_error():
        cli(prog_name="python -P -m dotsctl.tools.dev.draft_equality")
