"""Pages that models are measured on: printed ones with known text, or the user's own."""

from collections.abc import Sequence
from dataclasses import dataclass

from dotsctl.client.inputs.pages import PageInput, pages_of
from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.tools.pages.readable import readable_pages
from dotsctl.tools.pages.truths import printed_pages

SEED = 3_000_000
"""Pages of other seeds than training, the tests and the quality report of decoders use."""


@dataclass(frozen=True)
class MeasuredPage:
    """One page."""

    page: PageInput
    truth: str | None
    """The text on it, where that is known: of a printed page, and of ``a.png`` next to which ``a.txt`` lies."""


def measured_pages(words: Sequence[str], default: int) -> list[MeasuredPage]:
    """The pages that the option ``--pages`` names.

    Args:
        words: one number of pages to print, or files and folders; none: ``default`` printed pages.
        default: how many.

    Raises:
        UsageError: a number among files, or standard input.
        NoInputError: a file is no page.
        MissingError: matplotlib, which has the fonts, is not installed.
    """
    if not words:
        return _printed(default)
    if len(words) == 1 and words[0].isdecimal() and int(words[0]):
        return _printed(int(words[0]))
    if wrong := [word for word in words if word.isdecimal()]:
        raise UsageError(
            f"--pages {wrong[0]} is no choice of pages", "give one number of pages to print, or files and folders"
        )
    return [MeasuredPage(page, _truth(page)) for page in readable_pages(tuple(words))]


def _printed(count: int) -> list[MeasuredPage]:
    try:
        pages = list(printed_pages(count, SEED))
    except MissingError as error:
        raise MissingError(f"no pages can be printed: {error.problem}", f"{error.remedy}, or name files") from None
    return [MeasuredPage(each, page.text) for page in pages for each in pages_of(page.image)]


def _truth(page: PageInput) -> str | None:
    if page.path is None or page.num_pages > 1 or not (file := page.path.with_suffix(".txt")).is_file():
        return None
    return file.read_text(encoding="utf-8")
