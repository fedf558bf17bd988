"""``dotsctl ask``: one question about all pages of all inputs, one answer."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click
from dotsctl.client.cli.printing import print_text
from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.inputs.sources import STDIN, InputFile, expand
from dotsctl.client.jobs.page_options import AskOptions, ReadingOptions
from dotsctl.protocol.errors import ErrorCode, ExitCode, PageError, UsageError
from dotsctl.protocol.parts import MAX_IMAGES


def run(
    question: str,
    inputs: Sequence[str],
    *,
    as_json: bool,
    reading: ReadingOptions,
    **connection: Any,
) -> ExitCode:
    """Ask the question and print the answer; ``connection`` holds arguments of ``Client``.

    Raises:
        DotsctlError: an image cannot be read, the model does not support questions, or the runtime went away.
    """
    from dotsctl.client.api import Client

    if STDIN in inputs and sys.stdin.isatty():
        raise UsageError("cannot read a page from the terminal", "pipe a file into the command")
    documents = expand(inputs, sys.stdin.buffer, reading.selection())
    images = list(_readable(documents))
    with Client(**connection) as client:
        answer = client.ask(question, images, on_notice=_notice, **reading.given(AskOptions))
    if answer.error is not None:
        raise PageError(answer.error.problem, answer.error.remedy, code=ErrorCode(answer.error.code))
    print_text((json.dumps(answer.record(), ensure_ascii=False, indent=2) if as_json else answer.text) + "\n")
    if answer.finish_reason != "stop":
        click.echo(f"answer truncated (finish reason: {answer.finish_reason})", err=True)
    return ExitCode.OK


def _notice(text: str) -> None:
    """Print a line about how the images are read."""
    click.echo(text, err=True)


def _readable(documents: Iterable[InputFile]) -> Iterator[PageInput]:
    """The pages of all inputs; the first that cannot be read is raised before a model is loaded."""
    for count, page in enumerate((page for document in documents for page in document.pages()), start=1):
        if page.error is not None:
            raise PageError(f"{page.source}: {page.error.problem}", page.error.remedy, code=page.error.code)
        if count > MAX_IMAGES:
            raise UsageError(f"more than {MAX_IMAGES} images were given", "choose some, or pages with --pages")
        yield page
