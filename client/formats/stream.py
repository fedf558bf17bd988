"""Puts pages that finish in any order back into the order of the inputs, as one text."""

from collections.abc import Callable, Sequence

from dotsctl.client.formats.format import PageSources, TextFormat
from dotsctl.client.formats.style import Style
from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.results.page import Failure, Page
from dotsctl.protocol.errors import PageError

Lost = Callable[[str, PageError], None]
"""Takes the name of an input, and why its page cannot be shown."""


class Stream:
    """The text of one or more documents, in a format that is a text."""

    def __init__(
        self, names: Sequence[str], style: Style, sources: PageSources | None = None, lost: Lost | None = None
    ) -> None:
        """Begin a text.

        Args:
            names: of the inputs, in their order.
            style: how pages are written.
            sources: of pictures.
            lost: called with a page that cannot be read again for its pixels, and stands in the text as a failed one;
                none: that is an error.
        """
        if not isinstance(style.format, TextFormat):
            raise ValueError(f"{style.format_} is not a text format")
        self._numbers = {name: number for number, name in enumerate(names)}
        self._body = style.format.body(names, sources or PageSources(), header_footer=style.header_footer)
        self._lost = lost
        self._waiting: dict[tuple[int, int], Page] = {}
        self._next = (0, 0)  # number of the document, turn of its page

    def add(self, page: Page) -> str:
        """Take a page; returns the text of all pages whose turn has come."""
        self._waiting[self._numbers[page.source], page.turn] = page
        text = ""
        while (ready := self._waiting.pop(self._next, None)) is not None:
            document, turn = self._next
            self._next = (document, turn + 1) if turn + 1 < len(ready.requested) else (document + 1, 0)
            text += self._text(ready)
        return text

    def _text(self, page: Page) -> str:
        try:
            return self._body.page(page)
        except PageError as error:
            if self._lost is None:
                raise
            self._lost(page.source, error)
            failed = Page.from_failure(
                PageInput(page.source, page.path, page.page, page.num_pages, page.chosen),
                Failure.of(error),
                model=page.model,
                fingerprint=page.fingerprint,
                task=page.task,
            )
            return self._body.page(failed)

    def rest(self) -> str:
        """The text of all pages that still wait, in order, although others are missing, and the end of it all."""
        return "".join(self._text(self._waiting.pop(place)) for place in sorted(self._waiting)) + self._body.end()
