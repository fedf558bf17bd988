"""Pages of the files and folders that a user names for a measurement, all of which must be readable."""

import sys

from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.inputs.sources import STDIN, expand
from dotsctl.protocol.errors import NoInputError, UsageError


def readable_pages(names: tuple[str, ...]) -> list[PageInput]:
    """The pages of files and folders, found before anything is made. Raises NoInputError for one that is no page."""
    if STDIN in names:
        raise UsageError("--pages takes files and folders, no standard input")
    pages = [page for document in expand(names, sys.stdin.buffer) for page in document.pages()]
    for page in pages:
        if page.error is not None:
            raise NoInputError(f"{page.source}: {page.error}")
    return pages
