"""Options that several commands share; nothing heavier than click is imported."""

from collections.abc import Callable
from typing import Any

import click
from dotsctl.client.selection import DEFAULT_DPI
from dotsctl.protocol.parts import Quality

VERBOSE = "dotsctl.verbose"
MAX_ENCODERS = 4
"""That stand side by side in one runtime."""
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _remember_verbose(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[VERBOSE] = True


verbose_option: Decorator = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_remember_verbose,
    help="Say more; show where an error comes from.",
)
name_option: Decorator = click.option(
    "--name", metavar="NAME", help="Which runtime, where you have several. [default: default]"
)


def _encoder_option(*, several: bool) -> Decorator:
    words = (
        "Turns pages into embeddings: mlx, coreml, or an installed plugin. [default: auto, which is mlx, and "
        "on a Mac also coreml for the pages that it reads sooner without a loss of resolution]"
    )
    if several:
        words += (
            " Give it several times to have encoders side by side: pages go to the first unless 'dotsctl ocr' asks "
        )
        words += "for another."
    return click.option("--encoder", metavar="NAME[:KEY=VALUE,...]", multiple=several, help=words)


quality_option: Decorator = click.option(
    "--quality",
    type=click.Choice([str(quality) for quality in Quality]),
    help="Resolution: the model's limit, 1.6 or 1.0 megapixels; the last two after white margins are trimmed. "
    "[default: full, or balanced where a page would take more than 30 s]",
)


def model_options(command: Callable[..., Any], *, several_encoders: bool = False) -> Callable[..., Any]:
    """The options that choose what reads the pages."""
    for option in (
        click.option(
            "--memory",
            metavar="SIZE",
            help="Most that the workers of a new runtime may take together, as 8G. [default: all]",
        ),
        click.option("--decoder", metavar="NAME[:KEY=VALUE,...]", help="Turns embeddings into text. [default: mlx]"),
        _encoder_option(several=several_encoders),
        click.option(
            "--model",
            metavar="NAME|PATH",
            help="Installed model, folder of a dots.ocr checkpoint, or 'demo'. [default: the only installed one]",
        ),
    ):
        command = option(command)
    return command


def runtime_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """As :func:`model_options`, for a runtime that may have several encoders."""
    return model_options(command, several_encoders=True)


def document_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that choose pages of documents, and how they are rendered."""
    for option in (
        click.option(
            "--password", metavar="TEXT", help="Of protected PDFs. [default: DOTSCTL_PASSWORD, the safer way]"
        ),
        click.option(
            "--dpi", type=int, metavar="N", default=DEFAULT_DPI, show_default=True, help="Of PDF pages, 36 to 1200."
        ),
        click.option("--pages", metavar="RANGES", help="Pages of each PDF or TIFF, as '1-3,7,10-'. [default: all]"),
    ):
        command = option(command)
    return command
