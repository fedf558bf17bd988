"""JSON lines: the record of a page on each."""

import json

from dotsctl.client.formats.format import TextBody, TextFormat
from dotsctl.client.results.page import Page


class JSONLines(TextBody):
    """See :class:`TextBody`."""

    def page(self, page: Page) -> str:
        """See :meth:`TextBody.page`."""
        return json.dumps(page.record(header_footer=self.header_footer), ensure_ascii=False) + "\n"


class JSONLinesFormat(TextFormat):
    """The format ``jsonl``."""

    ending = "jsonl"
    body = JSONLines


FORMAT = JSONLinesFormat()
