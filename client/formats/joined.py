"""Pages joined by blank lines, several documents under ``==> name <==``: what Markdown and plain text share."""

from abc import abstractmethod

from dotsctl.client.formats.format import TextBody
from dotsctl.client.results.page import Failure, Page


class JoinedText(TextBody):
    """A text of blocks, one a page."""

    _last_source: str | None = None
    _has_text = False

    def page(self, page: Page) -> str:
        """See :meth:`TextBody.page`; a page of several that failed is noted where its text would stand."""
        if page.error is not None and page.num_pages == 1:
            return ""
        block = self.block(page).strip("\n") if page.error is None else self.note(_reason(page, page.error))
        return self._lead(page, block) + (f"{block}\n" if block else "")

    @abstractmethod
    def block(self, page: Page) -> str:
        """The text of a page that was read."""

    @abstractmethod
    def note(self, text: str) -> str:
        """A remark that is no text of a page."""

    def _lead(self, page: Page, block: str) -> str:
        """Return what separates this page from the text before: a blank line, and the name of a new document."""
        before, self._last_source = self._last_source, page.source
        head = f"==> {page.source} <==\n" if len(self.names) > 1 and page.source != before else ""
        if not (head or block):
            return ""
        gap = "\n" if self._has_text else ""
        self._has_text = True
        return gap + head


def _reason(page: Page, error: Failure) -> str:
    return f"page {page.page} failed: {error.code}: {' '.join(error.message.split())}"
