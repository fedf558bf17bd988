"""``dotsctl ask``: one question about all pages of all inputs, one answer."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click
from dotsctl.client.cli_print import print_text
from dotsctl.client.inputs import PageInput
from dotsctl.client.selection import Selection
from dotsctl.client.sources import STDIN, Document, expand
from dotsctl.protocol.errors import ExitCode, PageError, UsageError
from dotsctl.protocol.parts import MAX_IMAGES


def run(
    question: str,
    inputs: Sequence[str],
    *,
    as_json: bool,
    max_tokens: int | None,
    max_pixels: int | None,
    quality: str | None,
    pages: str | None,
    dpi: int,
    password: str | None,
    **connection: Any,
) -> ExitCode:
    """Ask and print; ``connection`` is what ``Client`` takes. The arguments are those of the command.

    Raises:
        DotsctlError: an image cannot be read, the model cannot be asked, or the runtime went away.
    """
    from dotsctl.client.api import Client

    if STDIN in inputs and sys.stdin.isatty():
        raise UsageError("- reads a picture from standard input, and that is the terminal: pipe one into the command")
    documents = expand(inputs, sys.stdin.buffer, Selection.of(pages, dpi, password))
    images = list(_readable(documents))
    with Client(**connection) as client:
        answer = client.ask(
            question, images, max_tokens=max_tokens, max_pixels=max_pixels, quality=quality, on_notice=_notice
        )
    if answer.error is not None:
        raise PageError(answer.error.message)
    print_text((json.dumps(answer.record(), ensure_ascii=False, indent=2) if as_json else answer.text) + "\n")
    if answer.finish_reason != "stop":
        click.echo(f"the answer is not whole, it ended by {answer.finish_reason}", err=True)
    return ExitCode.OK


def _notice(text: str) -> None:
    """Print a line about how the images are read."""
    click.echo(text, err=True)


def _readable(documents: Iterable[Document]) -> Iterator[PageInput]:
    """The pages of all inputs; the first that cannot be read is raised before a model is loaded."""
    for count, page in enumerate((page for document in documents for page in document.pages()), start=1):
        if page.error is not None:
            raise PageError(f"{page.source}: {page.error}")
        if count > MAX_IMAGES:
            raise UsageError(f"a question about more than {MAX_IMAGES} images: choose some, or pages with --pages")
        yield page
