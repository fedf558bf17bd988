"""The report of ``dotsctl compare`` as one HTML file: pictures, numbers, and texts with their differences marked.

Its frame is that of all reports (``tools/measuring/report_page.py``), its pictures are those of
``client/formats/html_view.py``. Everything that comes from a model or from the name of a file is escaped.
"""

from collections.abc import Iterator, Sequence
from html import escape

from dotsctl.client.files.part_file import PartFile
from dotsctl.client.formats import html_view
from dotsctl.client.inputs.pages import PageInput
from dotsctl.encoder_worker.opening import open_page
from dotsctl.protocol.errors import PageError
from dotsctl.tools.compare.comparison import COLUMNS, REFERENCE, EncoderComparison, PageRow, Version
from dotsctl.tools.compare.verdict import verdict, worst_first
from dotsctl.tools.measuring.encoding import page_image
from dotsctl.tools.measuring.made_by import MadeBy
from dotsctl.tools.measuring.report_page import END, ReportHead, table
from dotsctl.tools.measuring.report_text import LegendEntry
from PIL import Image

TITLE = "Comparison of encoders"
TEXTS = (0, len(COLUMNS) - 1)
"""The columns that hold text."""
LEGEND = (
    LegendEntry("(reference)", "the encoder that the others are compared with"),
    LegendEntry("ms", "milliseconds from the bytes of the page to its embeddings"),
    LegendEntry("grid", "patches from top to bottom and from left to right"),
    LegendEntry(
        "cosine, min cosine", "median and smallest cosine of the embeddings to those of the reference; 1: equal"
    ),
    LegendEntry("error", "length of the difference of the embeddings, relative to the reference"),
    LegendEntry("other text", "edits from the text of the reference, as a share of its characters"),
    LegendEntry("boxes", "the elements of the page in the answer of the reference"),
    LegendEntry("struck", "text of the reference alone", "del"),
    LegendEntry("shaded", "text of the other encoder alone", "ins"),
)


def write_html(comparison: EncoderComparison, pages: Sequence[PageInput], file: PartFile, made_by: MadeBy) -> None:
    """Write the report, a page at a time, the worst first, and give the file its name.

    Args:
        comparison: of all pages.
        pages: the same pages, for their pictures.
        file: where to.
        made_by: machine, versions and date of the comparison.

    Raises:
        OutputError: it cannot be written.
    """
    file.write(ReportHead(TITLE, verdict(comparison), _subject(comparison), made_by, LEGEND).html().encode())
    file.write(_summary(comparison).encode())
    for place in worst_first(comparison.rows):
        file.write("".join(_page(comparison.rows[place], _picture(pages[place]))).encode())
    file.write(END.encode())
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


def _subject(comparison: EncoderComparison) -> dict[str, str]:
    about = comparison.about
    found = {
        "model": about["model"]["name"],
        "encoders": ", ".join(about["encoders"]),
        "decoder": about["decoder"],
        "task": about["task"],
    }
    if about["max_pixels"] is not None:
        found["most pixels"] = str(about["max_pixels"])
    return found


def _summary(comparison: EncoderComparison) -> str:
    pages = len(comparison.rows)
    rows = [each.cells() for each in comparison.medians()]
    return f"<h2>Medians over {pages} page{'s' * (pages != 1)}</h2>\n" + table(COLUMNS, rows, "Medians", texts=TEXTS)


def _page(row: PageRow, image: Image.Image | None) -> Iterator[str]:
    page = row.reference.page
    yield f"<h2>{escape(page.source)}, page {page.page} of {page.num_pages}</h2>\n{_numbers(row)}<section>\n"
    yield html_view.picture(page, image)
    yield '<div class="texts">\n'
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


def _numbers(row: PageRow) -> str:
    page = row.reference.page
    return table(COLUMNS, [row.cells(each) for each in row.versions], f"{page.source}, page {page.page}", texts=TEXTS)
