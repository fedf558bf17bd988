"""The command ``dotsctl plugins`` and its subcommands: options and help. What they do is imported when they run."""

import click
from dotsctl.client.cli.completion import FOLDER, MODEL, PLUGIN
from dotsctl.client.cli.printing import print_text
from dotsctl.tools.commands import ToolCommand

ROLES = click.Choice(["encoder", "decoder"])


@click.group(short_help="List plugins; create and check encoders and decoders.", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def plugins(ctx: click.Context, as_json: bool) -> None:
    """List encoders, decoders and hints with their options.

    \b
    Examples:
      dotsctl plugins                  all plugins that are installed
      dotsctl plugins new colours      write an encoder of your own to start from
      dotsctl plugins check colours    run the tests of the plugin contract on it
    """
    if ctx.invoked_subcommand is None:
        from dotsctl.tools.plugins.listing import render_plugins

        print_text(render_plugins(as_json))


@plugins.command(cls=ToolCommand)
@click.argument("name", metavar="NAME")
@click.option("--role", "role_name", type=ROLES, default="encoder", show_default=True, help="Half of the model.")
@click.option("-o", "--output", "folder", type=FOLDER, metavar="DIR", help="Folder to create. [default: dotsctl-NAME]")
def new(name: str, role_name: str, folder: str | None) -> int:
    """Create a plugin that works and can be changed.

    The folder gets a package with an entry point, the plugin with options, and a test that runs 'dotsctl plugins
    check'. The interface is described in encoder_worker/README.md.

    \b
    Example:
      dotsctl plugins new colours && pip install -e dotsctl-colours && dotsctl plugins check colours
    """
    from dotsctl.tools.plugins.scaffold import run

    return run(name, role_name, folder)


@plugins.command(cls=ToolCommand)
@click.argument("plugin", type=PLUGIN, metavar="NAME[:KEY=VALUE,...]")
@click.option("--role", "role_name", type=ROLES, help="Half of the model, where both have the name.")
@click.option(
    "--model", type=MODEL, metavar="NAME|PATH", default="demo", show_default=True, help="Model that the plugin loads."
)
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0.1), default=120.0, show_default=True, metavar="SECONDS",
    help="Longest time of each step."
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(plugin: str, role_name: str | None, model: str, timeout_s: float, as_json: bool) -> int:
    """Run the tests of the plugin contract on an installed plugin.

    It runs in a child process, so a crash or a hang is a line of the report. For an encoder the tests cover loading,
    pages of several sizes, shapes, types, finite values, the order of rows, page geometry, several images in a request,
    blank pages and damaged files. For a decoder they cover streaming, token limits, cancelling and several pages.

    \b
    Exit codes: 0 the plugin keeps the contract; 7 it does not.
    """
    from dotsctl.tools.plugins.check import run

    return run(plugin, role_name, model, timeout_s, as_json)
