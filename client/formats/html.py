"""HTML: each page's picture with its boxes, and the text next to it; drawn by ``html_view.py``."""

from dotsctl.client.formats import html_view
from dotsctl.client.formats.format import TextBody, TextFormat
from dotsctl.client.results.page import Page


class HTMLText(TextBody):
    """See :class:`TextBody`."""

    _is_begun = False

    def page(self, page: Page) -> str:
        """The page as a part of an HTML document, and the beginning of that in front of the first one."""
        image = None if page.error is not None else self.sources.pixels(page)
        start = "" if self._is_begun else html_view.start(list(self.names))
        self._is_begun = True
        return start + html_view.section(page, image, header_footer=self.header_footer)

    def end(self) -> str:
        """The end of the document, if it has begun."""
        return html_view.END if self._is_begun else ""


class HTMLFormat(TextFormat):
    """The format ``html``."""

    ending = "html"
    body = HTMLText


FORMAT = HTMLFormat()
