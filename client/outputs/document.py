"""A document that was read, as :meth:`Client.read` returns it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from dotsctl.client.inputs.pages import PageInput
from dotsctl.client.results.page import Page
from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.model.file_names import path_shown

if TYPE_CHECKING:
    from dotsctl.client.formats.pictures import PagePixels


@dataclass(frozen=True)
class Document:
    """The pages of one input, or of several, in their order; failed ones are among them, with ``error``."""

    pages: tuple[Page, ...]
    _inputs: tuple[PageInput, ...] = field(default=(), repr=False, compare=False)
    """The source of each page, by :attr:`Page.index`; for formats that show the page itself."""

    def __iter__(self) -> Iterator[Page]:
        return iter(self.pages)

    def __len__(self) -> int:
        return len(self.pages)

    @property
    def markdown(self) -> str:
        """All pages as Markdown, as ``dotsctl ocr`` prints them."""
        return self._text("md")

    @property
    def plain_text(self) -> str:
        """Return the text of all pages."""
        return self._text("txt")

    def save(
        self,
        path: str | PathLike[str],
        *,
        header_footer: bool = True,
        images: str | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write the document; the ending of ``path`` chooses the format.

        Args:
            path: as ``report.md``, ``.txt``, ``.json``, ``.jsonl``, ``.html``, ``.hocr``, ``.alto.xml``,
                ``.pdf`` or ``.overlay.png``.
            header_footer: whether text has the headers and footers of pages.
            images: pictures on pages in Markdown: ``files``, ``embed`` or ``none``; none: ``files``.
            overwrite: whether files that exist are replaced; inputs never are.

        Raises:
            UsageError: the ending is that of no format, or a file exists or is an input.
            OutputError: the file cannot be written.
            PageError: an input cannot be read again for its pixels.
        """
        from dotsctl.client.files.part_file import require_replaceable, require_writable
        from dotsctl.client.formats.format import FileFormat
        from dotsctl.client.formats.registry import FORMATS, format_named, format_of
        from dotsctl.client.formats.style import Style
        from dotsctl.client.outputs.writers import make_writer

        target = Path(path)
        if (name := format_of(target)) is None:
            endings = ", ".join(f".{format_named(each).ending}" for each in FORMATS)
            raise UsageError(f"{target} has no known file extension", f"use one of {endings}")
        inputs = [page.path for page in self]
        require_replaceable(target, inputs, overwrite=overwrite)
        if len(self._names()) > 1 and isinstance(format_named(name), FileFormat):
            raise UsageError(f"{target} takes one input, not {len(self._names())}", "read them one by one")
        style = Style.of(name, to_stdout=False, header_footer=header_footer, images=images)
        require_writable(target)
        writer = make_writer(target, self._pixels(), style)
        try:
            for page in self.pages:
                writer.add(page)
            for file in writer.seal():
                require_replaceable(path_shown(file.path), inputs, overwrite=overwrite)
            writer.commit()
        finally:
            writer.discard()

    def _pixels(self) -> "PagePixels":
        from dotsctl.client.formats.pictures import PagePixels

        def find(page: Page) -> PageInput | None:
            return self._inputs[page.index] if page.index < len(self._inputs) else None

        return PagePixels(self._names(), find)

    def _names(self) -> list[str]:
        return list(dict.fromkeys(page.source for page in self.pages))

    def _text(self, name: str) -> str:
        from dotsctl.client.formats.stream import Stream
        from dotsctl.client.formats.style import Style

        stream = Stream(self._names(), Style(name))
        return "".join([*map(stream.add, self.pages), stream.rest()])

    def _repr_markdown_(self) -> str:
        """Return what a notebook shows."""
        return self.markdown
