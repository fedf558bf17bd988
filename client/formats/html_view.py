"""HTML for viewing results: each page's picture with its boxes and, next to it, the text; all in one file. Pure.

Nothing is fetched from anywhere. All that comes from the model, and names of files, is escaped; tables are written anew
(``tables.py``); and the document forbids its reader every script but the one below, by its digest.
"""

import base64
import hashlib
import io
from collections.abc import Sequence
from html import escape

from dotsctl.client.formats.pictures import inline
from dotsctl.client.results.categories import COLOURS, OTHER
from dotsctl.client.results.cell import Cell
from dotsctl.client.results.markdown import FORMULA, HEADER_FOOTER, TABLE, without_marks
from dotsctl.client.results.page import Page
from dotsctl.client.results.tables import is_table, safe_table
from PIL import Image

LONGEST_SIDE_PX = 1600
JPEG_QUALITY = 80

_STYLE = """
body { margin: 0; font: 15px/1.45 system-ui, sans-serif; color: #222; background: #f4f4f4 }
h1, h2 { font-size: 1rem; margin: .8rem 1rem }
section { display: flex; gap: 1rem; align-items: flex-start; padding: 0 1rem 1.5rem }
.page { position: sticky; top: 0; flex: 1 1 55% }
.page img, .page svg { width: 100%; height: auto; display: block }
.page svg { position: absolute; inset: 0; height: 100% }
.texts { flex: 1 1 45%; min-width: 0 }
.box { fill-opacity: .06; stroke-width: 2; vector-effect: non-scaling-stroke }
.box.on { fill-opacity: .3 }
.cell { border-left: 4px solid; margin: 0 0 .5rem; padding: .2rem .6rem; background: #fff; color: #222;
  overflow-wrap: anywhere }
.cell.on { background: #fff3c4 }
.cell small, .note { color: #666 }
.words { white-space: pre-wrap }
.formula { font-family: ui-monospace, monospace }
table { border-collapse: collapse }
td, th { border: 1px solid #bbb; padding: .1rem .4rem }
@media (max-width: 700px) { section { display: block } .page { position: relative } }
""" + "".join(
    f".k{number} {{ fill: {colour}; stroke: {colour}; border-color: {colour} }}\n"
    for number, colour in enumerate([*COLOURS.values(), OTHER])
)
_SCRIPT = """
for (const kind of ["mouseover", "mouseout"])
  document.addEventListener(kind, event => {
    const from = event.target.closest("[data-cell]");
    if (!from) return;
    for (const each of document.querySelectorAll(`[data-cell="${from.dataset.cell}"]`))
      each.classList.toggle("on", kind === "mouseover");
  });
"""
_CLASSES = {category: f"k{number}" for number, category in enumerate(COLOURS)}

END = f"<script>{_SCRIPT}</script>\n</body>\n</html>\n"


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def start(names: Sequence[str], more_style: str = "") -> str:
    """The beginning of a document about inputs of these names, with ``more_style`` behind the style sheet."""
    style = _STYLE + more_style
    title = escape(", ".join(names) if len(names) < 4 else f"{names[0]} and {len(names) - 1} more")
    policy = f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(_SCRIPT)}'"
    return (
        '<!DOCTYPE html>\n<html>\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    )


def section(page: Page, image: Image.Image | None, *, header_footer: bool = True) -> str:
    """One page.

    Args:
        page: what was read, or why it was not.
        image: the page as viewers show it, RGB; none: only the text is shown.
        header_footer: whether the text has the page's header and footer; their boxes are drawn in any case.
    """
    head = f"<h2>{escape(page.source)}, page {page.page} of {page.num_pages}: {escape(page.status)}</h2>\n"
    if page.error is not None:
        message = escape(f"{page.error.code}: {page.error.message}")
        return f'{head}<section><p class="note">{message}</p></section>\n'
    notes = "".join(f'<p class="note">{escape(note)}</p>\n' for note in page.repaired)
    texts = f'<div class="texts">\n{notes}{_texts(page, header_footer=header_footer)}</div>\n'
    return f"{head}<section>\n{picture(page, image)}{texts}</section>\n"


def picture(page: Page, image: Image.Image | None) -> str:
    """The page with its boxes above it; the boxes are in pixels of the page, whatever size is shown."""
    if image is None:
        return ""
    shown = image.copy()
    shown.thumbnail((LONGEST_SIDE_PX, LONGEST_SIDE_PX))
    stream = io.BytesIO()
    shown.save(stream, "JPEG", quality=JPEG_QUALITY)
    boxes = "".join(_box(page, place, cell) for place, cell in enumerate(page.cells))
    return (
        f'<div class="page"><img alt="" src="{inline(stream.getvalue(), "jpeg")}">\n'
        f'<svg viewBox="0 0 {image.width} {image.height}">{boxes}</svg></div>\n'
    )


def _name(page: Page, place: int) -> str:
    """Return the name that links a box with its text, in a document with any number of pages."""
    return f"{hashlib.sha256(page.source.encode()).hexdigest()[:8]}-{page.page}-{place}"


def _kind(cell: Cell) -> str:
    return _CLASSES.get(cell.category, f"k{len(COLOURS)}")


def _box(page: Page, place: int, cell: Cell) -> str:
    """A box, or the four corners of slanted text; a click goes to the text."""
    if cell.bbox is None:
        return ""
    x0, y0, x1, y1 = cell.bbox
    corners = cell.polygon or ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    points = " ".join(f"{x},{y}" for x, y in corners)
    name = _name(page, place)
    return (
        f'<a href="#{name}"><polygon class="box {_kind(cell)}" data-cell="{name}" points="{points}">'
        f"<title>{escape(cell.category)}</title></polygon></a>\n"
    )


def _texts(page: Page, *, header_footer: bool) -> str:
    """The text of each cell in reading order, or the text of the page."""
    if not page.cells:
        return f'<div class="words">{escape(page.to_markdown())}</div>\n'
    return "".join(
        f'<div class="cell {_kind(cell)}" id="{_name(page, place)}" data-cell="{_name(page, place)}">'
        f"<small>{place + 1} {escape(cell.category)}</small>{_text(cell)}</div>\n"
        for place, cell in enumerate(page.cells)
        if header_footer or cell.category not in HEADER_FOOTER
    )


def _text(cell: Cell) -> str:
    """Return the text of a cell: a table as one, everything else as it is written."""
    if cell.category == TABLE and is_table(cell.text):
        return f"<div>{safe_table(cell.text)}</div>"
    if cell.category == FORMULA:
        return f'<div class="words formula">{escape(cell.markdown)}</div>'
    return f'<div class="words">{escape(without_marks(cell.text).strip())}</div>'
