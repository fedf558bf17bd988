"""JSON: the record of a single page, or an array of records. As one value it is held until its end."""

import json
from collections.abc import Sequence

from dotsctl.client.formats.format import PageSources, TextBody, TextFormat
from dotsctl.client.results.page import Page


class JSONText(TextBody):
    """See :class:`TextBody`."""

    def __init__(self, names: Sequence[str], sources: PageSources, *, header_footer: bool) -> None:
        super().__init__(names, sources, header_footer=header_footer)
        self._held: list[Page] = []

    def page(self, page: Page) -> str:
        """Keep the page until the output is complete."""
        self._held.append(page)
        return ""

    def end(self) -> str:
        """All records."""
        if not self._held:
            return ""
        records = [page.record(header_footer=self.header_footer) for page in self._held]
        is_single = len(self.names) == 1 and self._held[0].num_pages == 1
        return json.dumps(records[0] if is_single else records, ensure_ascii=False, indent=2) + "\n"


class JSONFormat(TextFormat):
    """The format ``json``."""

    ending = "json"
    body = JSONText


FORMAT = JSONFormat()
