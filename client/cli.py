"""The command line: commands with their options; what they do is imported when they are called.

``dotsctl --help`` therefore needs click alone. Every error of ``protocol/errors.py`` becomes one message on standard
error and its exit code, here and nowhere else.
"""

import traceback
from typing import Any

import click
from dotsctl import __version__
from dotsctl.client.cli_model_commands import MODEL_COMMANDS
from dotsctl.client.cli_options import VERBOSE, verbose_option
from dotsctl.client.cli_print import ClosedPipeError, print_text
from dotsctl.client.cli_reading import READING_COMMANDS
from dotsctl.client.cli_runtime import RUNTIME_COMMANDS
from dotsctl.client.cli_tools import TOOL_COMMANDS
from dotsctl.protocol.errors import DotsctlError, ExitCode


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
      dotsctl pull rednote-hilab/dots.ocr      download the model, 6 GB
      dotsctl up -d                            keep the model loaded: later calls start at once
      dotsctl down                             end that again

    Where a choice is not made by an option it is taken from DOTSCTL_MODEL, DOTSCTL_ENCODER, DOTSCTL_DECODER,
    DOTSCTL_NAME, DOTSCTL_MEMORY, DOTSCTL_STALL_TIMEOUT, DOTSCTL_STOPPED_TIMEOUT or DOTSCTL_PAGE_TIMEOUT, then from
    dotsctl.toml in this folder, then from your configuration file.

    \b
    Exit codes:
      0  all pages read, now or before         5  the output cannot be written
      1  some pages failed                     6  no runtime, or it went away
      2  wrong usage                           7  a command failed, as up or down
      3  a model or a library is missing       8  a runtime of that name is running
      4  no input could be read              130  interrupted
    """


@click.command(
    add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("arguments", metavar="pipeline|transport|energy [OPTIONS]", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def bench(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Measure how fast pages are read, and what they cost.

    \b
      dotsctl bench pipeline        both workers together
      dotsctl bench transport       the way between the processes
      dotsctl bench control         answers to control messages while large pages flow
      dotsctl bench simulate        the coordinator through very many disordered schedules
      dotsctl bench energy          watt-hours of encoders, on a Mac
      dotsctl bench pipeline -h     the options
    """
    if not arguments or arguments[0] in ctx.help_option_names:
        click.echo(ctx.get_help())
        return
    from dotsctl.client.cli_status import run_tool

    ctx.exit(run_tool("bench", arguments))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def version(as_json: bool) -> None:
    """Show the versions that a bug report needs."""
    from dotsctl.client.cli_status import render_versions

    print_text(render_versions(as_json))


for command in (*READING_COMMANDS, *RUNTIME_COMMANDS, *MODEL_COMMANDS, *TOOL_COMMANDS, bench, version):
    cli.add_command(command)


def main() -> None:
    """Entry point of the command ``dotsctl``."""
    cli(prog_name="dotsctl")
