"""Options that several commands share; nothing heavier than click is imported."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_type_hints

import click
from dotsctl.client.cli.arguments import parse_box, read_prompt
from dotsctl.client.cli.completion import DECODER, ENCODER, HINT, MODEL, RUNTIME, TASK
from dotsctl.client.inputs.hints import NONE, hint_argument
from dotsctl.client.jobs.page_options import FLAG, DocumentOptions, Flag, ReadingOptions, ReadOptions

VERBOSE = "dotsctl.verbose"
MAX_ENCODERS = 4
"""The most encoders in one runtime."""
WORDS = {"TASK": TASK, "auto|none|FILE|DIR|NAME": HINT}
"""Options of a reading that a shell completes, by their metavar."""
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
    help="Verbose output, including tracebacks.",
)
name_option: Decorator = click.option(
    "--name", type=RUNTIME, metavar="NAME", help="Name of the runtime. [default: default]"
)


def _encoder_option(*, several: bool) -> Decorator:
    help_text = (
        "Encoder: auto, mlx, coreml, or an installed plugin. auto is mlx, and on a Mac also coreml for pages that it "
        "reads faster without losing resolution. [default: auto]"
    )
    if several:
        help_text += " May be repeated: pages go to the first encoder unless 'dotsctl ocr --encoder' names another."
    return click.option("--encoder", type=ENCODER, metavar="NAME[:KEY=VALUE,...]", multiple=several, help=help_text)


def model_options(command: Callable[..., Any], *, several_encoders: bool = False) -> Callable[..., Any]:
    """The options that choose what reads the pages."""
    for option in (
        click.option(
            "--no-readiness-page",
            "readiness_page",
            flag_value=False,
            default=None,
            help="Use a model that does not read the readiness page, as one with random weights.",
        ),
        click.option(
            "--memory",
            metavar="SIZE",
            help="Memory limit for all workers of a new runtime, as 8G. [default: none]",
        ),
        click.option("--decoder", type=DECODER, metavar="NAME[:KEY=VALUE,...]", help="Decoder plugin. [default: mlx]"),
        _encoder_option(several=several_encoders),
        click.option(
            "--model",
            type=MODEL,
            metavar="NAME|PATH",
            help="Installed model, folder of a dots.ocr checkpoint, or 'demo'. [default: the only installed one]",
        ),
    ):
        command = option(command)
    return command


def runtime_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of :func:`model_options`, for a runtime that may have several encoders."""
    return model_options(command, several_encoders=True)


def reading_options(kind: type = ReadOptions) -> Decorator:
    """Return a decorator that adds the options of a reading that have a flag.

    Args:
        kind: :class:`ReadOptions` or a part of it, whose options the command has.
    """
    chosen = [each for each in fields(ReadingOptions) if each.name in get_type_hints(kind) and each.metadata[FLAG]]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for each in reversed(chosen):
            command = _click_option(each.name, each.default, each.metadata[FLAG])(command)
        return command

    return decorate


def _click_option(name: str, default: Any, flag: Flag) -> Decorator:
    if isinstance(default, bool):
        return click.option(flag.switches_off or _written(name), name, is_flag=True, help=flag.help)
    kind: Any = click.Choice(flag.choices) if flag.choices else WORDS.get(flag.metavar or "", str)
    if flag.minimum is not None:
        kind = click.IntRange(min=flag.minimum)
    elif isinstance(default, int):
        kind = int
    return click.option(
        _written(name),
        type=kind,
        metavar=flag.metavar,
        default=default,
        show_default=default is not None,
        help=flag.help,
    )


def _written(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def take_reading_options(options: dict[str, Any]) -> ReadingOptions:
    """Take the options of a reading out of those of a command, and read a file behind ``@`` once. Raises UsageError."""
    found: dict[str, Any] = {}
    for each in (each for each in fields(ReadingOptions) if each.name in options):
        value, flag = options.pop(each.name), each.metadata[FLAG]
        found[each.name] = not value if flag.switches_off else value
    found |= {"prompt": read_prompt(found.get("prompt")), "box": parse_box(found.get("box"))}
    hint = hint_argument(found.pop("hint", NONE))
    return ReadingOptions(**found, hint=hint)


document_options = reading_options(DocumentOptions)
