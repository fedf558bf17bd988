"""Pages from files, and from the bytes of files: a render process opens them, nothing is decoded in this one.

Nothing here holds more than one page. A header is read when a page is listed, its pixels when it is sent, so a folder
or a PDF of any size costs the memory of the pages in flight; within :func:`read_at_once` the pixels of an only page
come with its header. Input that cannot be read is a page with ``error``.
"""

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dotsctl.client.inputs.pages import ALL, LoadedPage, PageInput, is_read_at_once, one_page_alone, render_timeout_s
from dotsctl.client.inputs.selection import Selection
from dotsctl.protocol.errors import PageError
from dotsctl.protocol.parts import ImageHeader, ImageKind
from dotsctl.protocol.render.document import RenderDocument
from dotsctl.protocol.render.exchange import HintAnswer
from dotsctl.protocol.render.process import RenderProcess

RENDERER = RenderProcess(render_timeout_s)
"""Opens the documents of all clients of this process."""


def pages_in(origin: Path | bytes, page: PageInput, selection: Selection) -> Iterator[PageInput]:
    """The chosen pages, each made of ``page``; what was chosen outside of a document is one page with ``error``."""
    document = RenderDocument(RENDERER, origin, selection.password, selection.hint)
    try:
        with one_page_alone():
            contents = document.contents(selection.dpi if is_read_at_once() else 0)
    except PageError as error:
        yield replace(page, error=error)
        return
    chosen, outside = (selection if contents.is_document else ALL).choose(contents.num_pages)
    page = replace(page, num_pages=contents.num_pages, chosen=chosen)
    if outside.ranges:
        beyond = outside.ranges[0][0]
        page = replace(page, chosen=[*chosen, beyond])
    hints: dict[int, HintAnswer] = {}
    for index, number in enumerate(chosen, start=1):
        following = chosen[index] if index < len(chosen) else None
        finder = functools.partial(document.has_text, number) if contents.is_pdf else None
        reader = functools.partial(_load, document, number, selection.dpi, following, hints)
        hint_finder = functools.partial(hints.pop, number, None) if contents.is_pdf and selection.hint else None
        yield replace(page, page=number, reader=reader, text_finder=finder, hint_finder=hint_finder)
    if outside.ranges:
        has = f"has {contents.num_pages} page{'s' * (contents.num_pages > 1)}"
        is_one = f"{outside}".isdecimal()
        subject = f"page {outside} does not exist" if is_one else f"pages {outside} do not exist"
        reason = PageError(f"{subject} (the document {has})", "choose among these")
        yield replace(page, page=beyond, error=reason)


def _load(
    document: RenderDocument, page: int, dpi: int, following: int | None, hints: dict[int, HintAnswer]
) -> LoadedPage:
    """A page as pixels, as a viewer shows it, its hint noted; the one that follows is rendered meanwhile."""
    rendered = document.page(page, dpi, following)
    if rendered.hint.hint or rendered.hint.problem:
        hints[page] = rendered.hint
    header = ImageHeader(ImageKind.RGB, len(rendered.pixels), *rendered.size)
    # The pixels themselves take as long to hash as half a page takes to decode, and they are never compared.
    return header, rendered.pixels, hashlib.sha256(f"{document.token} {page} {dpi}".encode()).hexdigest()
