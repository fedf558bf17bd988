"""The commands ``up``, ``down``, ``swap``, ``status`` and ``logs``; what they do is imported when they are called."""

import sys
from typing import Any

import click
from dotsctl.client.cli_options import MAX_ENCODERS, name_option, runtime_options, verbose_option
from dotsctl.client.cli_print import print_text
from dotsctl.protocol.errors import CommandFailedError, UsageError

LOAD_TIMEOUT_S = 900.0
STOP_TIMEOUT_S = 120.0
ROLES = ("runtime", "encoder", *(f"encoder{place}" for place in range(2, MAX_ENCODERS + 1)), "decoder")
WATCH_S = 2.0
CLEAR_SCREEN = "\x1b[H\x1b[2J\x1b[3J"
"""Cursor to the upper left corner, clear what is seen and what was scrolled away."""


@click.command(short_help="Load the model once and keep it for later calls.")
@runtime_options
@name_option
@click.option("-d", "--detach", is_flag=True, help="Return when it is ready, and leave it running.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=1), metavar="SECONDS", default=LOAD_TIMEOUT_S,
    show_default=True, help="Longest time to load the model."
)  # fmt: skip
@click.option(
    "--stall-timeout", "stall_timeout_s", type=click.FloatRange(min=1), metavar="SECONDS",
    help="Silence after which a working process is taken for hung. [default: 120]"
)  # fmt: skip
@click.option(
    "--page-timeout", "page_timeout_s", type=click.FloatRange(min=1), metavar="SECONDS",
    help="Longest time of one page. [default: 1800]"
)  # fmt: skip
@verbose_option
@click.pass_context
def up(ctx: click.Context, /, encoder: tuple[str, ...], detach: bool, timeout_s: float, **chosen: Any) -> None:
    """Start a runtime: load the model once and keep it for all later calls.

    Without -d it stays in the foreground; Ctrl-C lets it finish its pages, a second Ctrl-C ends it at once.

    \b
    Examples:
      dotsctl up -d                    in the background, with the installed model
      dotsctl up --model ~/dots.ocr    in the foreground, with a downloaded checkpoint
      dotsctl up -d --encoder coreml --encoder mlx
                                       both encoders; 'dotsctl ocr --encoder mlx' uses the second
    """
    from dotsctl.client.launch import start_detached, start_foreground
    from dotsctl.client.settings import choose, runtime_config

    if len(encoder) > MAX_ENCODERS:
        raise UsageError(f"{len(encoder)} encoders are too many for one runtime: give at most {MAX_ENCODERS}")
    choices = choose(**chosen, encoder=encoder[0] if encoder else None, further_encoders=encoder[1:])
    config = runtime_config(choices, choices.name)
    encoders = " and ".join(map(str, config.encoders))
    plugins = f"model {config.model_name}, encoder {encoders}, decoder {config.decoder}"
    if config.auto_line:
        click.echo(config.auto_line, err=True)
    click.echo(f"starting {config.instance!r}: {plugins}", err=True)
    if not detach:
        ctx.exit(start_foreground(config, timeout_s))
    facts = start_detached(config, timeout_s)
    click.echo(f"ready, pid {facts.pid}; 'dotsctl status' and 'dotsctl logs' show more", err=True)


@click.command(short_help="Stop the runtime.")
@name_option
@click.option("--now", is_flag=True, help="Do not wait for accepted pages.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=1), metavar="SECONDS", default=STOP_TIMEOUT_S,
    show_default=True, help="After this time it is killed."
)  # fmt: skip
@verbose_option
def down(name: str | None, now: bool, timeout_s: float) -> None:
    """Stop the runtime, after the pages that it has accepted."""
    from dotsctl.client.launch import stop
    from dotsctl.client.settings import choose

    instance = choose(name=name).name
    stop(instance, now=now, timeout_s=timeout_s)
    click.echo(f"{instance!r} is stopped", err=True)


@click.command(short_help="Take another encoder while pages are read.")
@click.argument("role", type=click.Choice(ROLES[1:-1]), metavar="ROLE")
@click.argument("plugin", metavar="NAME[:KEY=VALUE,...]")
@name_option
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=1), metavar="SECONDS", default=LOAD_TIMEOUT_S,
    show_default=True, help="Longest time for it to load."
)  # fmt: skip
@verbose_option
def swap(role: str, plugin: str, name: str | None, timeout_s: float) -> None:
    """Let pages go to another encoder from now on, without stopping the runtime.

    ROLE is encoder, or encoder2 and so on where several stand side by side ('dotsctl status' shows them).

    The new one is loaded and tried beside the old one, which finishes the page that it has. If the new one cannot be
    used the old one goes on. Every result says which encoder made it.

    \b
    Examples:
      dotsctl swap encoder mlx
      dotsctl swap encoder coreml:build=float16
    """
    from dotsctl.client.config import PluginChoice
    from dotsctl.client.settings import choose
    from dotsctl.client.swap import swap_encoder

    instance = choose(name=name).name
    encoder = swap_encoder(instance, PluginChoice.parse(plugin), timeout_s, ROLES.index(role) - 1)
    click.echo(f"{instance!r} reads with {role} {encoder} now", err=True)


@click.command()
@name_option
@click.option(
    "--watch", "watch_s", is_flag=False, flag_value=WATCH_S, type=click.FloatRange(min=0.1), metavar="[SECONDS]",
    help="Show it again and again, every 2 seconds unless told otherwise, until Ctrl-C or the runtime's end."
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="For machines; with --watch one line each time.")
@verbose_option
def status(name: str | None, watch_s: float | None, as_json: bool) -> None:
    """Show whether the runtime is up, what it does, and the memory that its workers take."""
    from dotsctl.client.cli_status import ask_status, render_json, render_line, render_text, watch_status
    from dotsctl.client.settings import choose

    instance = choose(name=name).name
    if watch_s is None:
        answer = ask_status(instance)
        print_text(render_json(answer) if as_json else render_text(instance, answer))
    elif as_json:
        watch_status(instance, watch_s, lambda answer: print_text(render_line(answer)))
    else:
        before, after = (CLEAR_SCREEN, "") if sys.stdout.isatty() else ("", "\n")
        watch_status(instance, watch_s, lambda answer: print_text(before + render_text(instance, answer) + after))


@click.command(short_help="Show what the runtime and its workers wrote.")
@click.argument("role", type=click.Choice(ROLES), required=False, metavar="[ROLE]")
@click.option("-n", "--lines", type=click.IntRange(min=1), default=50, show_default=True, help="Lines of each log.")
@click.option("-f", "--follow", "following", is_flag=True, help="Go on with new lines, until Ctrl-C or its end.")
@name_option
@verbose_option
def logs(role: str | None, lines: int, following: bool, name: str | None) -> None:
    """Show the last lines of what the runtime and its workers wrote.

    ROLE is runtime, decoder or encoder, encoder2 for the second of several; without it all are shown. With -f a line
    of several roles has its role in front; Ctrl-C ends with exit code 130, the end of the runtime with 0.
    """
    from dotsctl.client.cli_status import last_lines
    from dotsctl.client.launch import log_files
    from dotsctl.client.settings import choose

    instance = choose(name=name).name
    files = {each: path for each, path in log_files(instance).items() if role in (None, each)}
    if not files:
        kind = f"{role} log" if role else "log"
        raise CommandFailedError(f"there is no {kind} of {instance!r}: it was never started, see 'dotsctl up'")
    if following:
        _follow(instance, role, lines)
        return
    for number, (each, path) in enumerate(files.items()):
        head = "" if role else "\n" * (number > 0) + f"==> {each}: {path} <==\n"
        print_text(head + last_lines(path, lines))


def _follow(instance: str, role: str | None, lines: int) -> None:
    """Print lines until the runtime ends, and say so."""
    from dotsctl.client.log_follow import follow
    from dotsctl.protocol.endpoints import instance_directory

    def show(of: str, line: bytes) -> None:
        print_text(("" if role else f"{of:<7} | ") + line.decode("utf-8", "replace") + "\n")

    follow(instance_directory(instance), role, lines, show)
    click.echo(f"the runtime {instance!r} is not running any more", err=True)


RUNTIME_COMMANDS = (up, down, swap, status, logs)
