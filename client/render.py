"""The formats of text: Markdown, plain text, JSON, JSON lines and HTML, for one document or for a stream of many."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dotsctl.client import html_view
from dotsctl.client.pictures import Images
from dotsctl.client.records import Page
from dotsctl.protocol.errors import UsageError
from PIL import Image

OVERLAY = "overlay"
FORMATS = ("md", "txt", "json", "jsonl", "html", OVERLAY)


@dataclass(frozen=True, slots=True)
class Style:
    """How pages are written."""

    format_: str
    """One of ``FORMATS``."""
    header_footer: bool = True
    """Whether text has the headers and footers of pages."""
    images: Images = Images.NONE
    """What becomes of pictures in Markdown."""

    @classmethod
    def of(cls, format_: str, *, to_stdout: bool, header_footer: bool = True, images: str | None = None) -> "Style":
        """Complete what the user chose. Raises UsageError for what does not go together."""
        if format_ == OVERLAY and to_stdout:
            raise UsageError("-f overlay makes pictures, which are nothing for a terminal: say where with -o")
        if format_ == OVERLAY and not header_footer:
            raise UsageError("--no-header-footer is about text, and -f overlay has none: leave one of them out")
        if format_ != "md" and images is not None:
            raise UsageError(f"--images is about -f md, the format is {format_}: leave one of them out")
        if to_stdout and images == Images.FILES:
            raise UsageError("--images files needs a place for them: say where with -o, or use --images embed")
        if format_ != "md":
            return cls(format_, header_footer)
        return cls(format_, header_footer, Images(images or (Images.NONE if to_stdout else Images.FILES)))

    @property
    def variant(self) -> str:
        """What a result depends on of this, besides the format; empty when nothing was chosen."""
        return " ".join(
            [
                *([] if self.header_footer else ["no header and footer"]),
                *([f"images {self.images}"] if self.format_ == "md" else []),
            ]
        )


@dataclass(frozen=True)
class Sources:
    """Where the pictures of a page come from, when its turn has come."""

    links: Callable[[Page], Mapping[int, str]] = field(default=lambda _: {})
    """Where the pictures of a page are, by their place among the cells."""
    pixels: Callable[[Page], Image.Image | None] = field(default=lambda _: None)
    """The page itself."""


class Stream:
    """Puts pages that finish in any order back into the order of the inputs, and joins them to one text."""

    def __init__(self, names: Sequence[str], style: Style, sources: Sources | None = None) -> None:
        self._numbers = {name: number for number, name in enumerate(names)}
        self._style = style
        self._sources = sources or Sources()
        self._waiting: dict[tuple[int, int], Page] = {}
        self._next = (0, 0)  # number of the document, turn of its page
        self._held: list[Page] = []  # JSON is one value, so it is written at the end
        self._last_source: str | None = None
        self._has_text = False

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
        """The text of all pages that still wait, in order, although others are missing, and the end of it all."""
        text = "".join(self._render(self._waiting.pop(place)) for place in sorted(self._waiting))
        if self._style.format_ == "html" and self._has_text:
            return text + html_view.END
        if not self._held:
            return text
        is_single = len(self._numbers) == 1 and self._held[0].num_pages == 1
        return text + self._json(self._held, is_single=is_single)

    def _render(self, page: Page) -> str:
        format_ = self._style.format_
        if format_ == "json":
            self._held.append(page)
            return ""
        if format_ == "jsonl":
            return json.dumps(page.record(header_footer=self._style.header_footer), ensure_ascii=False) + "\n"
        if format_ == "html":
            return self._html(page)
        if page.error is not None and page.num_pages == 1:
            return ""
        block = self._block(page)
        return self._lead(page, block) + (f"{block}\n" if block else "")

    def _json(self, pages: Sequence[Page], *, is_single: bool) -> str:
        """The record of a single page, or an array of records."""
        records = [page.record(header_footer=self._style.header_footer) for page in pages]
        return json.dumps(records[0] if is_single else records, ensure_ascii=False, indent=2) + "\n"

    def _html(self, page: Page) -> str:
        """The page as a part of an HTML document, and the beginning of that in front of the first one."""
        image = None if page.error is not None else self._sources.pixels(page)
        start = "" if self._has_text else html_view.start(list(self._numbers))
        self._has_text = True
        return start + html_view.section(page, image, header_footer=self._style.header_footer)

    def _block(self, page: Page) -> str:
        """One page as text; a page of several that failed is noted where its text would stand."""
        is_markdown = self._style.format_ == "md"
        if page.error is not None:
            note = f"page {page.page} failed: {page.error.code}: {' '.join(page.error.message.split())}"
            return f"<!-- {note.replace('--', '- -')} -->" if is_markdown else f"[{note}]"
        chosen = {"header_footer": self._style.header_footer}
        if is_markdown:
            return page.to_markdown(**chosen, pictures=self._sources.links(page)).strip("\n")
        return page.to_plain_text(**chosen).strip("\n")

    def _lead(self, page: Page, block: str) -> str:
        """What stands between this page and the text before: a blank line, and the name of a new document."""
        before, self._last_source = self._last_source, page.source
        head = f"==> {page.source} <==\n" if len(self._numbers) > 1 and page.source != before else ""
        if not (head or block):
            return ""
        gap = "\n" if self._has_text else ""
        self._has_text = True
        return gap + head
