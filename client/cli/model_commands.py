"""The commands for models: ``pull``, ``ls``, ``show``, ``rm``; what they do is imported when they are called."""

from typing import Any

import click
from dotsctl.client.cli.completion import MODEL
from dotsctl.client.cli.options import verbose_option
from dotsctl.client.cli.printing import print_text


@click.command(short_help="Download a model.")
@click.argument("repo", metavar="NAME|OWNER/NAME")
@click.option("--revision", metavar="R", help="Branch, tag or commit. [default: the main branch]")
@click.option("--name", metavar="NAME", help="Name for the installed model. [default: NAME in lower case]")
@click.option("--force", is_flag=True, help="Replace an installed model of that name.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@verbose_option
def pull(quiet: bool, **options: Any) -> None:
    """Download a dots.ocr model from the Hugging Face Hub.

    Short names are dots.ocr and its successor dots.mocr, and their converted builds: NAME-4bit, -5bit, -6bit, -8bit,
    -bf16, -mxfp4, -mxfp8, -nvfp4. On a Mac with 8 GB take a build of 4 bits, with 16 GB one of 8 bits, with 32 GB or
    more the original or bf16.

    Only the files that dotsctl needs are downloaded, and every file is verified. An interrupted download resumes. A
    repository that cannot be loaded is refused before its weights are downloaded. The variables HF_TOKEN, HF_HOME,
    HF_ENDPOINT and HF_HUB_OFFLINE are used.

    \b
    Examples:
      dotsctl pull dots.mocr-4bit                           3.5 GB, from mlx-community
      dotsctl pull dots.ocr                                 6.1 GB, the original
      dotsctl pull rednote-hilab/dots.mocr --name mocr      under another name
    """
    from dotsctl.client.cli.pull import run_pull
    from dotsctl.client.models.pull import PullRequest

    run_pull(PullRequest(**options), quiet=quiet)


@click.command(short_help="List the installed models.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@verbose_option
@click.option("--available", "is_remote", is_flag=True, help="List the builds to download and which fit this machine.")
def ls(as_json: bool, is_remote: bool) -> None:
    """List the installed models; a star marks the default.

    With --available it lists the builds of dots.mocr with download size and least memory. Both are computed from the
    shapes of the model. A star marks the build for this machine.
    """
    if is_remote:
        from dotsctl.client.cli.available import available

        print_text(available(as_json))
        return
    from dotsctl.client.cli.models import list_models

    print_text(list_models(as_json))


@click.command(short_help="Show sizes, tasks and prompts of a model.")
@click.argument("model", type=MODEL, metavar="NAME|PATH")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@verbose_option
def show(model: str, as_json: bool) -> None:
    """Show sizes, tasks and prompts of a model.

    The output includes its source, where each prompt comes from, and its converted encoders and decoders.
    """
    from dotsctl.client.cli.models import show_model

    print_text(show_model(model, as_json))


@click.command(short_help="Remove a model.")
@click.argument("model", type=MODEL, metavar="[NAME]", required=False)
@click.option("--derived-only", is_flag=True, help="Remove converted encoders and decoders only.")
@click.option("--unused", is_flag=True, help="Remove conversions of models that are not installed.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@verbose_option
def rm(model: str | None, derived_only: bool, unused: bool, yes: bool) -> None:
    """Remove a model and its converted encoders and decoders.

    If the model is a symbolic link, only the link is removed.
    """
    from dotsctl.client.cli.models import remove

    remove(model, derived_only=derived_only, unused=unused, yes=yes)


MODEL_COMMANDS = (pull, ls, show, rm)
"""The commands in the order in which the help shows them."""
