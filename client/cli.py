"""The command line: commands with their options; what they do is imported when they are called.

``dotsctl --help`` therefore needs click alone. Every error of ``protocol/errors.py`` becomes one message on standard
error and its exit code, here and nowhere else.
"""

import traceback
from collections.abc import Callable
from typing import Any

import click
from dotsctl import __version__
from dotsctl.client.cli_model_commands import MODEL_COMMANDS
from dotsctl.client.cli_print import ClosedPipeError, print_text
from dotsctl.client.cli_tools import COMMANDS
from dotsctl.client.selection import DEFAULT_DPI
from dotsctl.protocol.errors import CommandFailedError, DotsctlError, ExitCode

VERBOSE = "dotsctl.verbose"
LOAD_TIMEOUT_S = 900.0
STOP_TIMEOUT_S = 120.0
ROLES = ("runtime", "encoder", "decoder")


class Commands(click.Group):
    """The group of all commands; turns errors into messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which a newcomer needs them."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a user sees no traceback unless ``-v`` asks for it."""
        try:
            return super().invoke(ctx)
        except DotsctlError as error:
            if ctx.meta.get(VERBOSE):
                traceback.print_exc()
            click.echo(f"dotsctl: {error}", err=True)
            code = error.exit_code
        except ClosedPipeError:
            code = ExitCode.BROKEN_PIPE
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED
        ctx.exit(int(code))


def _remember_verbose(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[VERBOSE] = True


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

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


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that choose what reads the pages."""
    for option in (
        click.option("--decoder", metavar="NAME[:KEY=VALUE,...]", help="Turns embeddings into text. [default: mlx]"),
        click.option(
            "--encoder",
            metavar="NAME[:KEY=VALUE,...]",
            help="Turns pages into embeddings: mlx, or an installed plugin. [default: auto, which is mlx for now]",
        ),
        click.option(
            "--model",
            metavar="NAME|PATH",
            help="Installed model, folder of a dots.ocr checkpoint, or 'demo'. [default: the only installed one]",
        ),
    ):
        command = option(command)
    return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@verbose_option
def cli() -> None:
    """Read scanned pages with dots.ocr, on your own machine.

    \b
    Examples:
      dotsctl ocr scan.png                     print the page as Markdown
      dotsctl ocr report.pdf -o report.md      all pages of a PDF in one file
      dotsctl ocr scans/ -o texts/             one .md file for each picture in scans/
      dotsctl up -d                            keep the model loaded: later calls start at once
      dotsctl down                             end that again

    Where a choice is not made by an option it is taken from DOTSCTL_MODEL, DOTSCTL_ENCODER, DOTSCTL_DECODER,
    DOTSCTL_NAME, DOTSCTL_STALL_TIMEOUT or DOTSCTL_PAGE_TIMEOUT, then from dotsctl.toml in this folder, then from
    your configuration file.

    \b
    Exit codes:
      0  all pages read, now or before         5  the output cannot be written
      1  some pages failed                     6  no runtime, or it went away
      2  wrong usage                           7  a command failed, as up or down
      3  a model or a library is missing       8  a runtime of that name is running
      4  no input could be read              130  interrupted
    """


@cli.command(short_help="Read pages.")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="DIR|FILE|-",
    help="Where the text goes: a folder for several inputs (or with a slash at its end), a file for one. "
    "[default: -, the terminal]",
)
@click.option(
    "-f",
    "--format",
    "format_",
    type=click.Choice(["md", "txt", "json", "jsonl", "html", "overlay"]),
    help="html and overlay show boxes on the pages. [default: the ending of -o, else md]",
)
@click.option(
    "--images",
    type=click.Choice(["files", "embed", "none"]),
    help="Pictures of a page, in Markdown: beside it, within it, or left out. [default: files with -o, else none]",
)
@click.option("--no-header-footer", is_flag=True, help="Leave headers and footers of pages out of the text.")
@click.option("--task", metavar="TASK", help="What to read, as 'layout' or 'text'. [default: the model's first]")
@click.option("--prompt", metavar="TEXT|@FILE", help="Replace the prompt of the task; {box} in it stands for the box.")
@click.option(
    "--box", metavar="X0,Y0,X1,Y1", help="Read this part of every page, in pixels of the page (task 'ground')."
)
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Cut the text of a page at N tokens.")
@click.option(
    "--max-pixels",
    type=click.IntRange(min=784),
    metavar="N",
    help="Shrink larger pages to N pixels: faster, less exact.",
)
@click.option("--pages", metavar="RANGES", help="Pages of each PDF or TIFF, as '1-3,7,10-'. [default: all]")
@click.option("--dpi", type=int, metavar="N", default=DEFAULT_DPI, show_default=True, help="Of PDF pages, 36 to 1200.")
@click.option("--password", metavar="TEXT", help="Of protected PDFs. [default: DOTSCTL_PASSWORD, the safer way]")
@model_options
@click.option(
    "-j", "--jobs", type=click.IntRange(min=1), metavar="N", help="Pages in work at once. [default: what fits]"
)
@name_option
@click.option("--no-blank-check", is_flag=True, help="Ask the model about pages with nothing on them, too.")
@click.option("--no-reread", is_flag=True, help="Do not try a page again whose text repeats itself or is cut.")
@click.option("--force", is_flag=True, help="Read again what an earlier run has finished.")
@click.option("-q", "--quiet", is_flag=True, help="Only errors on the terminal: no bar, no summary.")
@verbose_option
@click.pass_context
def ocr(ctx: click.Context, /, **options: Any) -> None:
    """Read pages: pictures, PDFs, folders of them, quoted globs, or - for standard input.

    Without a running runtime ('dotsctl up') one is started for this call and ended after it. Several inputs are
    printed in their order under '==> name <=='. With -o DIR the tree of folders is kept, and a second call reads only
    what is new or has changed. Pages that fail are named, the others go on.

    \b
    Examples:
      dotsctl ocr scan.png --model demo                try it with the model that comes with dotsctl
      dotsctl ocr scans/ -o texts/                     every picture in scans/ and its folders
      dotsctl ocr 'scans/**/*.tif' -o texts/ -f json   text, boxes and timings of each page
      dotsctl ocr *.jpg -o all.jsonl                   a line of JSON for each page, in one file
      dotsctl ocr report.pdf --pages 1-3 -o report.md  the first three pages of a PDF
      curl -s URL | dotsctl ocr - -f txt | less        a picture from another program
    """
    from dotsctl.client.cli_ocr import Order, run

    ctx.exit(run(Order(**options, verbose=bool(ctx.meta.get(VERBOSE)))))


@cli.command(short_help="Ask a question about pictures.")
@click.argument("question")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="The answer with model, tokens and timings.")
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Cut the answer at N tokens.")
@click.option("--max-pixels", type=click.IntRange(min=784), metavar="N", help="Shrink larger images to N pixels each.")
@click.option("--pages", metavar="RANGES", help="Pages of each PDF or TIFF, as '1-3,7,10-'. [default: all]")
@click.option("--dpi", type=int, metavar="N", default=DEFAULT_DPI, show_default=True, help="Of PDF pages, 36 to 1200.")
@click.option("--password", metavar="TEXT", help="Of protected PDFs. [default: DOTSCTL_PASSWORD, the safer way]")
@model_options
@name_option
@verbose_option
@click.pass_context
def ask(ctx: click.Context, /, question: str, inputs: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Ask one question about one or more pictures or pages, together.

    All of them stand in one prompt, in their order. It takes a model that has learnt to answer: dots.mocr.

    \b
    Examples:
      dotsctl ask 'What is the total?' receipt.jpg
      dotsctl ask 'Which of the two pages is newer?' old.png new.png
    """
    from dotsctl.client.cli_ask import run

    ctx.exit(run(question, inputs, as_json=as_json, **options))


@cli.command(short_help="Load the model once and keep it for later calls.")
@model_options
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
def up(ctx: click.Context, /, detach: bool, timeout_s: float, **chosen: Any) -> None:
    """Start a runtime: load the model once and keep it for all later calls.

    Without -d it stays in the foreground; Ctrl-C lets it finish its pages, a second Ctrl-C ends it at once.

    \b
    Examples:
      dotsctl up -d                    in the background, with the installed model
      dotsctl up --model ~/dots.ocr    in the foreground, with a downloaded checkpoint
    """
    from dotsctl.client.launch import start_detached, start_foreground
    from dotsctl.client.settings import choose, runtime_config

    choices = choose(**chosen)
    config = runtime_config(choices, choices.name)
    plugins = f"model {config.model_name}, encoder {config.encoder}, decoder {config.decoder}"
    click.echo(f"starting {config.instance!r}: {plugins}", err=True)
    if not detach:
        ctx.exit(start_foreground(config, timeout_s))
    facts = start_detached(config, timeout_s)
    click.echo(f"ready, pid {facts.pid}; 'dotsctl status' and 'dotsctl logs' show more", err=True)


@cli.command(short_help="Stop the runtime.")
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


@cli.command()
@name_option
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@verbose_option
def status(name: str | None, as_json: bool) -> None:
    """Show whether the runtime is up, and what it does."""
    from dotsctl.client.cli_status import ask_status, render_json, render_text
    from dotsctl.client.settings import choose

    instance = choose(name=name).name
    answer = ask_status(instance)
    print_text(render_json(answer) if as_json else render_text(instance, answer))


@cli.command(short_help="Show what the runtime and its workers wrote.")
@click.argument("role", type=click.Choice(ROLES), required=False)
@click.option("-n", "--lines", type=click.IntRange(min=1), default=50, show_default=True, help="Lines of each log.")
@name_option
@verbose_option
def logs(role: str | None, lines: int, name: str | None) -> None:
    """Show the last lines of what the runtime and its workers wrote.

    ROLE is runtime, encoder or decoder; without it all three are shown.
    """
    from dotsctl.client.cli_status import last_lines
    from dotsctl.client.launch import log_files
    from dotsctl.client.settings import choose

    instance = choose(name=name).name
    files = {each: path for each, path in log_files(instance).items() if role in (None, each)}
    if not files:
        kind = f"{role} log" if role else "log"
        raise CommandFailedError(f"there is no {kind} of {instance!r}: it was never started, see 'dotsctl up'")
    for number, (each, path) in enumerate(files.items()):
        head = "" if role else "\n" * (number > 0) + f"==> {each}: {path} <==\n"
        print_text(head + last_lines(path, lines))


for model_command in MODEL_COMMANDS:
    verbose_option(model_command)
    cli.add_command(model_command)


@cli.command(add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("arguments", metavar="pipeline|transport [OPTIONS]", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def bench(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Measure how fast pages are read.

    \b
      dotsctl bench pipeline        both workers together
      dotsctl bench transport       the way between the processes
      dotsctl bench pipeline -h     the options
    """
    if not arguments or arguments[0] in ctx.help_option_names:
        click.echo(ctx.get_help())
        return
    from dotsctl.client.cli_status import run_tool

    ctx.exit(run_tool("bench", arguments))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def version(as_json: bool) -> None:
    """Show the versions that a bug report needs."""
    from dotsctl.client.cli_status import render_versions

    print_text(render_versions(as_json))


for tool_command in COMMANDS:
    cli.add_command(tool_command)


def main() -> None:
    """Entry point of the command ``dotsctl``."""
    cli(prog_name="dotsctl")
