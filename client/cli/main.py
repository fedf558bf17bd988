"""The command line: commands with their options; what they do is imported when they are called.

``dotsctl --help`` therefore needs click alone. Every error of ``protocol/errors.py`` becomes one message on standard
error and its exit code, here and nowhere else.
"""

import errno
import os
import re
import sys
from typing import Any

import click
from dotsctl import __version__
from dotsctl.client.cli.added_commands import added_commands
from dotsctl.client.cli.completion import completion
from dotsctl.client.cli.config import config
from dotsctl.client.cli.model_commands import MODEL_COMMANDS
from dotsctl.client.cli.options import VERBOSE, verbose_option
from dotsctl.client.cli.printing import ClosedPipeError, print_error, print_text
from dotsctl.client.cli.reading import READING_COMMANDS
from dotsctl.client.cli.runtime import RUNTIME_COMMANDS
from dotsctl.client.cli.signals import SignalledError, raising
from dotsctl.protocol.errors import DotsctlError, ExitCode, MissingError


def _broken(name: str, problem: str) -> click.Command:
    """Return a command that replaces one that cannot be loaded: the others and ``--help`` still work."""

    def fail() -> None:
        raise MissingError(problem)

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(
        name, callback=fail, short_help="(cannot be loaded)", add_help_option=False, context_settings=anything
    )


class Commands(click.Group):
    """The group of all commands; turns errors into messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which a newcomer needs them, then those of the entry points."""
        return [*self.commands, *sorted(added_commands().keys() - self.commands.keys())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported where it belongs to an entry point."""
        if cmd_name in self.commands or (entry := added_commands().get(cmd_name)) is None:
            return super().get_command(ctx, cmd_name)
        try:
            loaded = entry.load()
        except ImportError as error:
            return _broken(cmd_name, f"the command {cmd_name!r} ({entry.value}) cannot be imported: {error}")
        if not isinstance(loaded, click.Command):
            return _broken(
                cmd_name, f"{entry.value} is not a click command: repair or uninstall the package that declares it"
            )
        return loaded

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a user sees no traceback unless ``-v`` is given."""
        try:
            with raising():
                return super().invoke(ctx)
        except DotsctlError as error:
            if ctx.meta.get(VERBOSE):
                import traceback

                traceback.print_exc()
            print_error(error)
            code: int = error.exit_code
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            from dotsctl.protocol.descriptors import shortage

            print_error(shortage())
            code = ExitCode.COMMAND
        except ClosedPipeError:
            code = ExitCode.BROKEN_PIPE
        except SignalledError as error:
            code = error.exit_code
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED
        ctx.exit(int(code))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@verbose_option
def cli() -> None:
    """Convert scans and PDFs to Markdown with dots.ocr, locally.

    \b
    Examples:
      dotsctl ocr scan.png                     print the page as Markdown
      dotsctl ocr report.pdf -o report.md      all pages of a PDF in one file
      dotsctl ocr scans/ -o texts/             one .md file for each picture in scans/
      dotsctl pull dots.mocr-4bit              download a model, 3.5 GB
      dotsctl up -d                            keep the model loaded, so later calls start at once
      dotsctl down                             stop the runtime

    A setting comes from the option, else from its environment variable, else from dotsctl.toml in the current folder,
    else from the user's configuration file. The variables are DOTSCTL_MODEL, DOTSCTL_ENCODER, DOTSCTL_DECODER,
    DOTSCTL_NAME, DOTSCTL_MEMORY, DOTSCTL_STALL_TIMEOUT, DOTSCTL_STOPPED_TIMEOUT, DOTSCTL_PAGE_TIMEOUT and
    DOTSCTL_RENDER_TIMEOUT.

    \b
    Exit codes:
      0  all pages read, now or before         5  the output cannot be written
      1  some pages failed                     6  no runtime, or it was lost
      2  wrong usage                           7  a command failed, as up or down
      3  a model or a library is missing       8  a runtime of that name is running
      4  no input could be read              130  interrupted (129 by SIGHUP, 143 by SIGTERM)
    """


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def version(as_json: bool) -> None:
    """Print versions for a bug report."""
    from dotsctl.client.cli.status import render_versions

    print_text(render_versions(as_json))


for command in (*READING_COMMANDS, *RUNTIME_COMMANDS, *MODEL_COMMANDS, config, completion, version):
    cli.add_command(command)


XDG_FOLDER = re.compile("XDG_[A-Z]+_(?:HOME|DIR)")
STREAMS = (("stdin", os.O_RDONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY))
"""The standard streams by their descriptors, and how the null device replaces a closed one: there is nothing to read,
errors go nowhere, and writing a result is an error."""


def open_closed_streams() -> None:
    """Open standard streams that are closed, as by ``<&-``: the next file or socket would have their descriptors."""
    for number, (name, flags) in enumerate(STREAMS):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, flags)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def ignore_relative_folders() -> None:
    """Forget folders of the user that are relative, as the XDG specification demands: workers stand in other ones."""
    for name in [name for name in os.environ if XDG_FOLDER.fullmatch(name)]:
        if not os.environ[name].startswith("/"):
            del os.environ[name]


def main() -> None:
    """Run the command line; ``dotsctl.__main__`` is the entry point."""
    open_closed_streams()
    ignore_relative_folders()
    cli(prog_name="dotsctl")


def run_command(command: click.Command) -> None:
    """Run a command that is no part of ``dotsctl`` with its errors and exit codes, and end the process."""
    program = Commands(commands={str(command.name): command})
    program([str(command.name), *sys.argv[1:]], prog_name="python -P -m dotsctl.tools.dev")
