"""The commands for models: ``pull``, ``ls``, ``show``, ``rm``; what they do is imported when they are called."""

from typing import Any

import click
from dotsctl.client.cli_options import verbose_option
from dotsctl.client.cli_print import print_text


@click.command(short_help="Download a model.")
@click.argument("repo", metavar="OWNER/NAME")
@click.option("--revision", metavar="R", help="Branch, tag or commit. [default: the main branch]")
@click.option("--name", metavar="NAME", help="Name of the model here. [default: NAME of the repository, in lower case]")
@click.option("--force", is_flag=True, help="Replace an installed model of that name.")
@click.option("-q", "--quiet", is_flag=True, help="Only errors on the terminal.")
@verbose_option
def pull(quiet: bool, **order: Any) -> None:
    """Download a dots.ocr model from the Hugging Face Hub.

    Nothing is fetched that dotsctl does not need, every file is verified, and a download that broke off goes on where
    it was. HF_TOKEN, HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE mean what they mean to other programs.

    \b
    Examples:
      dotsctl pull rednote-hilab/dots.ocr                   6 GB
      dotsctl pull rednote-hilab/dots.mocr --name mocr      its successor, beside it
    """
    from dotsctl.client.cli_pull import run_pull
    from dotsctl.client.pull import PullOrder

    run_pull(PullOrder(**order), quiet=quiet)


@click.command(short_help="List the models on this machine.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@verbose_option
def ls(as_json: bool) -> None:
    """List the models on this machine; the one that is used without --model has a star."""
    from dotsctl.client.cli_models import list_models

    print_text(list_models(as_json))


@click.command(short_help="Show what is known of a model.")
@click.argument("model", metavar="NAME|PATH")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@verbose_option
def show(model: str, as_json: bool) -> None:
    """Show what is known of a model: where it comes from, its sizes, its prompts, and what was made from it."""
    from dotsctl.client.cli_models import show_model

    print_text(show_model(model, as_json))


@click.command(short_help="Remove a model.")
@click.argument("model", metavar="[NAME]", required=False)
@click.option("--derived-only", is_flag=True, help="Only what was made from it; the model stays.")
@click.option("--unused", is_flag=True, help="What was made from models that are not installed any more.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@verbose_option
def rm(model: str | None, derived_only: bool, unused: bool, yes: bool) -> None:
    """Remove a model with everything that was made from it: converted encoders, quantised decoders.

    Of a model that is a link only the link is removed.
    """
    from dotsctl.client.cli_models import remove

    remove(model, derived_only=derived_only, unused=unused, yes=yes)


MODEL_COMMANDS = (pull, ls, show, rm)
"""In the order in which the help shows them."""
