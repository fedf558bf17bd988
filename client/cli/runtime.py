"""The commands around a runtime, as ``up`` and ``status``; what they do is imported when they are called."""

import sys
from typing import Any

import click
from dotsctl.client.cli.completion import ENCODER
from dotsctl.client.cli.options import MAX_ENCODERS, name_option, runtime_options, verbose_option
from dotsctl.client.cli.printing import for_terminal, print_text
from dotsctl.client.settings.defaults import MAX_TIMEOUT_S
from dotsctl.protocol.errors import CommandFailedError, UsageError

LOAD_TIMEOUT_S = 900.0
STOP_TIMEOUT_S = 120.0
ROLES = ("runtime", "encoder", *(f"encoder{place}" for place in range(2, MAX_ENCODERS + 1)), "decoder")
WATCH_S = 2.0
CLEAR_SCREEN = "\x1b[H\x1b[2J\x1b[3J"
"""Cursor to the upper left corner, clear what is seen and what was scrolled away."""


@click.command(short_help="Start a runtime that keeps the model loaded.")
@runtime_options
@name_option
@click.option("-d", "--detach", is_flag=True, help="Run in the background; return when it is ready.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(1, MAX_TIMEOUT_S), metavar="SECONDS", default=LOAD_TIMEOUT_S,
    show_default=True, help="Time limit for loading the model."
)  # fmt: skip
@click.option(
    "--stall-timeout", "stall_timeout_s", type=click.FloatRange(1, MAX_TIMEOUT_S), metavar="SECONDS",
    help="Time without progress after which a worker is considered hung. [default: 120]"
)  # fmt: skip
@click.option(
    "--page-timeout", "page_timeout_s", type=click.FloatRange(1, MAX_TIMEOUT_S), metavar="SECONDS",
    help="Time limit for one page. [default: 1800]"
)  # fmt: skip
@verbose_option
@click.pass_context
def up(ctx: click.Context, /, encoder: tuple[str, ...], detach: bool, timeout_s: float, **chosen: Any) -> None:
    """Start a runtime that keeps the model loaded.

    Without -d it runs in the foreground. Ctrl-C stops it after the accepted pages, a second Ctrl-C at once.

    \b
    Examples:
      dotsctl up -d                    in the background, with the installed model
      dotsctl up --model ~/dots.ocr    in the foreground, with a downloaded checkpoint
      dotsctl up -d --encoder coreml --encoder mlx
                                       two encoders; 'dotsctl ocr --encoder mlx' uses the second
    """
    from dotsctl.client.connection.launch import start_detached, start_foreground
    from dotsctl.client.settings.choices import choose, runtime_config

    if len(encoder) > MAX_ENCODERS:
        raise UsageError(f"{len(encoder)} encoders are too many for one runtime", f"give at most {MAX_ENCODERS}")
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
    click.echo(f"ready, pid {facts.pid}; see 'dotsctl status' and 'dotsctl logs'", err=True)


@click.command(short_help="Stop the runtime.")
@name_option
@click.option("--now", is_flag=True, help="Stop without finishing the accepted pages.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(1, MAX_TIMEOUT_S), metavar="SECONDS", default=STOP_TIMEOUT_S,
    show_default=True, help="Time after which the runtime is killed."
)  # fmt: skip
@verbose_option
def down(name: str | None, now: bool, timeout_s: float) -> None:
    """Stop the runtime after it has finished the accepted pages."""
    from dotsctl.client.connection.launch import stop
    from dotsctl.client.settings.choices import choose

    instance = choose(name=name).name
    stop(instance, now=now, timeout_s=timeout_s)
    click.echo(f"{instance!r} is stopped", err=True)


@click.command(short_help="Replace the encoder without restarting the runtime.")
@click.argument("role", type=click.Choice(ROLES[1:-1]), metavar="ROLE")
@click.argument("plugin", type=ENCODER, metavar="NAME[:KEY=VALUE,...]")
@name_option
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(1, MAX_TIMEOUT_S), metavar="SECONDS", default=LOAD_TIMEOUT_S,
    show_default=True, help="Time limit for loading the encoder."
)  # fmt: skip
@verbose_option
def swap(role: str, plugin: str, name: str | None, timeout_s: float) -> None:
    """Replace an encoder without restarting the runtime.

    ROLE is encoder, or encoder2 to encoder4 if the runtime has several ('dotsctl status' lists them).

    The new encoder is loaded and tested while the old one continues. If it cannot be used, the old one stays. Every
    result names the encoder that produced it.

    \b
    Examples:
      dotsctl swap encoder mlx
      dotsctl swap encoder coreml:build=float16
    """
    from dotsctl.client.connection.swap import swap_encoder
    from dotsctl.client.settings.choices import choose
    from dotsctl.client.settings.runtime_config import PluginChoice

    instance = choose(name=name).name
    encoder = swap_encoder(instance, PluginChoice.parse(plugin), timeout_s, ROLES.index(role) - 1)
    click.echo(f"{instance!r} now uses {role} {encoder}", err=True)


@click.command()
@name_option
@click.option(
    "--watch", "watch_s", is_flag=False, flag_value=WATCH_S, type=click.FloatRange(0.1, MAX_TIMEOUT_S),
    metavar="[SECONDS]",
    help="Repeat every 2 seconds, or as given, until Ctrl-C or the end of the runtime."
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch, one line each time.")
@verbose_option
def status(name: str | None, watch_s: float | None, as_json: bool) -> None:
    """Show the state of the runtime: workers, queue, memory."""
    from dotsctl.client.cli.status import render_json, render_line, render_text
    from dotsctl.client.connection.status import query_status, watch_status
    from dotsctl.client.settings.choices import choose

    instance = choose(name=name).name
    if watch_s is None:
        answer = query_status(instance)
        print_text(render_json(answer) if as_json else render_text(instance, answer))
    elif as_json:
        watch_status(instance, watch_s, lambda answer: print_text(render_line(answer)))
    else:
        before, after = (CLEAR_SCREEN, "") if sys.stdout.isatty() else ("", "\n")
        watch_status(
            instance,
            watch_s,
            lambda answer: print_text(before + for_terminal(render_text(instance, answer)) + after, has_sequences=True),
        )


@click.command(short_help="List all running runtimes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@verbose_option
def ps(as_json: bool) -> None:
    """List all running runtimes.

    Columns: name, process, model, encoder, decoder, state, pages read.
    """
    from dotsctl.client.cli.status import render_runtimes
    from dotsctl.client.connection.status import running_runtimes

    runtimes = running_runtimes()
    if not runtimes and not as_json:
        click.echo("no runtime is running; 'dotsctl up -d' starts one", err=True)
        return
    print_text(render_runtimes(runtimes, as_json))


@click.command(short_help="Print the logs of the runtime and its workers.")
@click.argument("role", type=click.Choice(ROLES), required=False, metavar="[ROLE]")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(1, 1_000_000),
    default=50,
    show_default=True,
    help="Lines of each log to print.",
)
@click.option(
    "-f", "--follow", "following", is_flag=True, help="Print new lines until Ctrl-C or the end of the runtime."
)
@name_option
@verbose_option
def logs(role: str | None, lines: int, following: bool, name: str | None) -> None:
    """Print the logs of the runtime and its workers.

    ROLE is runtime, decoder, encoder, or encoder2 to encoder4; without it all logs are printed. With -f each line
    begins with its role; Ctrl-C exits with 130, the end of the runtime with 0.
    """
    from dotsctl.client.cli.status import last_lines
    from dotsctl.client.connection.launch import log_files
    from dotsctl.client.settings.choices import choose

    instance = choose(name=name).name
    files = {each: path for each, path in log_files(instance).items() if role in (None, each)}
    if not files:
        kind = f"{role} log" if role else "log"
        raise CommandFailedError(
            f"there is no {kind} of {instance!r}: it was never started", "start it with 'dotsctl up'"
        )
    if following:
        _follow(instance, role, lines)
        return
    for number, (each, path) in enumerate(files.items()):
        head = "" if role else "\n" * (number > 0) + f"==> {each}: {path} <==\n"
        print_text(head + last_lines(path, lines))


def _follow(instance: str, role: str | None, lines: int) -> None:
    """Print lines until the runtime ends, and report its end."""
    from dotsctl.client.cli.log_follow import follow
    from dotsctl.protocol.endpoints import instance_directory

    def show(of: str, line: bytes) -> None:
        print_text(("" if role else f"{of:<7} | ") + line.decode("utf-8", "replace") + "\n")

    follow(instance_directory(instance), role, lines, show)
    click.echo(f"the runtime {instance!r} is no longer running", err=True)


RUNTIME_COMMANDS = (up, down, swap, ps, status, logs)
