"""The formats: Markdown, plain text, JSON and JSON lines, for one document or for a stream of many. Pure."""

import json
from collections.abc import Sequence

from dotsctl.client.records import Page

FORMATS = ("md", "txt", "json", "jsonl")


def render_document(pages: Sequence[Page], format_: str) -> str:
    """The content of one file that holds all pages of a document, in their order; failed ones are noted."""
    if format_ == "jsonl":
        return "".join(map(_line, pages))
    if format_ == "json":
        return _json(pages, is_single=pages[0].num_pages == 1)
    text = "\n\n".join(filter(None, (_block(page, format_) for page in pages)))
    return f"{text}\n" if text else ""


def _block(page: Page, format_: str) -> str:
    """One page of a document; a page that failed is noted where its text would stand."""
    if page.error is None:
        return (page.markdown if format_ == "md" else page.plain_text).strip("\n")
    note = f"page {page.page} failed: {page.error.code}: {' '.join(page.error.message.split())}"
    return f"<!-- {note.replace('--', '- -')} -->" if format_ == "md" else f"[{note}]"


def _line(page: Page) -> str:
    return json.dumps(page.record(), ensure_ascii=False) + "\n"


def _json(pages: Sequence[Page], *, is_single: bool) -> str:
    """The record of a single page, or an array of records."""
    records = [page.record() for page in pages]
    return json.dumps(records[0] if is_single else records, ensure_ascii=False, indent=2) + "\n"


class Stream:
    """Puts pages that finish in any order back into the order of the inputs, and joins them to one text."""

    def __init__(self, names: Sequence[str], format_: str) -> None:
        self._numbers = {name: number for number, name in enumerate(names)}
        self._format = format_
        self._waiting: dict[tuple[int, int], Page] = {}
        self._next = (0, 0)  # number of the document, turn of its page
        self._held: list[Page] = []  # JSON is one value, so it is written at the end
        self._last_source: str | None = None

    def add(self, page: Page) -> str:
        """Take a page; returns the text of all pages whose turn has come."""
        self._waiting[self._numbers[page.source], page.turn] = page
        text = ""
        while (ready := self._waiting.pop(self._next, None)) is not None:
            document, turn = self._next
            self._next = (document, turn + 1) if turn + 1 < len(ready.wanted) else (document + 1, 0)
            text += self._render(ready)
        return text

    def rest(self) -> str:
        """The text of all pages that still wait, in order, although others are missing."""
        text = "".join(self._render(self._waiting.pop(place)) for place in sorted(self._waiting))
        if not self._held:
            return text
        is_single = len(self._numbers) == 1 and self._held[0].num_pages == 1
        return text + _json(self._held, is_single=is_single)

    def _render(self, page: Page) -> str:
        if self._format == "json":
            self._held.append(page)
            return ""
        if self._format == "jsonl":
            return _line(page)
        if page.error is not None and page.num_pages == 1:
            return ""
        return self._lead(page) + _block(page, self._format) + "\n"

    def _lead(self, page: Page) -> str:
        """What stands between this page and the one before: a blank line, and the name of a new document."""
        before, self._last_source = self._last_source, page.source
        head = f"==> {page.source} <==\n" if len(self._numbers) > 1 and page.source != before else ""
        return head if before is None else "\n" + head
