"""The report of ``dotsctl compare`` as one HTML file: pictures, numbers, and texts with their differences marked.

It is made of the pieces of ``client/formats/html_view.py``: everything that comes from a model or from the name of a
file is escaped, and nothing is fetched from anywhere.
"""

from collections.abc import Iterator, Sequence
from html import escape

from dotsctl.client.files.part_file import PartFile
from dotsctl.client.formats import html_view
from dotsctl.client.inputs.pages import PageInput
from dotsctl.encoder_worker.opening import open_page
from dotsctl.protocol.errors import PageError
from dotsctl.tools.compare.comparison import COLUMNS, REFERENCE, EncoderComparison, PageRow, Version
from dotsctl.tools.measuring.encoding import page_image
from PIL import Image

STYLE = """
h3 { font-size: .9rem; margin: 1rem 0 .3rem }
table { margin: 0 1rem 1rem; background: #fff }
.texts table { margin: 0 }
td.number { text-align: right; font-variant-numeric: tabular-nums }
ins { background: #cdf5cd; text-decoration: none }
del { background: #fbd0d0 }
.words { background: #fff; padding: .2rem .6rem; overflow-wrap: anywhere }
"""


def write_html(comparison: EncoderComparison, pages: Sequence[PageInput], file: PartFile) -> None:
    """Write the report, a page at a time, and give the file its name.

    Args:
        comparison: of all pages.
        pages: the same pages, for their pictures.
        file: where to.

    Raises:
        OutputError: it cannot be written.
    """
    names = dict.fromkeys(page.source for page in pages)
    file.write(html_view.start(list(names), STYLE).encode())
    file.write("".join(_summary(comparison)).encode())
    for row, page in zip(comparison.rows, pages, strict=True):
        file.write("".join(_page(row, _picture(page))).encode())
    file.write(html_view.END.encode())
    file.commit()


def marked(expected: str, found: str) -> str:
    """``found`` as HTML: what is only in it as ``ins``, what is only in ``expected`` as ``del``."""
    from rapidfuzz.distance import Levenshtein

    parts: list[str] = []
    for step in Levenshtein.opcodes(expected, found):
        lost, new = escape(expected[step.src_start : step.src_end]), escape(found[step.dest_start : step.dest_end])
        if step.tag == "equal":
            parts.append(new)
        else:
            parts += [f"<del>{lost}</del>" * bool(lost), f"<ins>{new}</ins>" * bool(new)]
    return "".join(parts)


def _picture(page: PageInput) -> Image.Image | None:
    """The page as viewers show it; none where it cannot be read, which its row reports."""
    try:
        return open_page(page_image(page, None))[0]
    except PageError:
        return None


def _summary(comparison: EncoderComparison) -> Iterator[str]:
    about = comparison.about
    shown = f"model {about['model']['name']}, decoder {about['decoder']}, task {about['task']}"
    yield f"<h2>Medians over {len(comparison.rows)} pages ({escape(shown)})</h2>\n"
    yield _table([each.cells() for each in comparison.medians()])


def _page(row: PageRow, image: Image.Image | None) -> Iterator[str]:
    page = row.reference.page
    yield f"<h2>{escape(page.source)}, page {page.page} of {page.num_pages}</h2>\n<section>\n"
    yield html_view.picture(page, image)
    yield '<div class="texts">\n' + _table([row.cells(version) for version in row.versions])
    for version in (row.reference, *row.versions[:-1]):
        yield _text(row, version)
    yield "</div>\n</section>\n"


def _text(row: PageRow, version: Version) -> str:
    """Return the text that was read, with the differences from the reference marked, or why nothing was read."""
    page, reference = version.page, row.reference
    name = f"{version.encoder} {REFERENCE}" if version is reference else version.encoder
    note = f'<p class="note">{escape(version.note)}</p>\n' if version.note else ""
    if page.error is not None:
        body = f'<p class="note">failed: {escape(f"{page.error.code}: {page.error.message}")}</p>\n'
    elif version is reference or reference.page.error is not None:
        body = f'<div class="words">{escape(page.markdown)}</div>\n'
    else:
        body = f'<div class="words">{marked(reference.page.markdown, page.markdown)}</div>\n'
    return f"<h3>{escape(name)}: {escape(page.status)}</h3>\n{note}{body}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in COLUMNS)
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=number' * bool(place)}>{escape(cell)}</td>" for place, cell in enumerate(row))
        + "</tr>\n"
        for row in rows
    )
    return f"<table>\n<tr>{head}</tr>\n{body}</table>\n"
