"""Markdown: formulas as LaTeX, tables as HTML, pictures as links."""

from dotsctl.client.formats.format import TextFormat
from dotsctl.client.formats.joined import JoinedText
from dotsctl.client.results.page import Page


class MarkdownText(JoinedText):
    """See :class:`JoinedText`."""

    def block(self, page: Page) -> str:
        """See :meth:`JoinedText.block`."""
        return page.to_markdown(header_footer=self.header_footer, pictures=self.sources.links(page))

    def note(self, text: str) -> str:
        """A comment, in which two hyphens would be its end."""
        return f"<!-- {text.replace('--', '- -')} -->"


class MarkdownFormat(TextFormat):
    """The format ``md``."""

    ending = "md"
    links_pictures = True
    body = MarkdownText


FORMAT = MarkdownFormat()
