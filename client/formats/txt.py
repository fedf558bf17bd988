"""Plain text without any marks."""

from dotsctl.client.formats.format import TextFormat
from dotsctl.client.formats.joined import JoinedText
from dotsctl.client.results.page import Page


class PlainText(JoinedText):
    """See :class:`JoinedText`."""

    def block(self, page: Page) -> str:
        """See :meth:`JoinedText.block`."""
        return page.to_plain_text(header_footer=self.header_footer)

    def note(self, text: str) -> str:
        """A remark in brackets."""
        return f"[{text}]"


class PlainTextFormat(TextFormat):
    """The format ``txt``."""

    ending = "txt"
    body = PlainText


FORMAT = PlainTextFormat()
