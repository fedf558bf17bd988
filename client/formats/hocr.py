"""hOCR 1.2: pages, cells, lines and words with boxes, as XHTML; what Tesseract and tools for scans exchange."""

from dotsctl import __version__
from dotsctl.client.formats.format import TextBody, TextFormat
from dotsctl.client.formats.page_lines import page_lines
from dotsctl.client.formats.xml_text import attribute, content
from dotsctl.client.results.cell import PixelBox
from dotsctl.client.results.lines import CellLines, Line
from dotsctl.client.results.markdown import FORMULA, PICTURE, TABLE
from dotsctl.client.results.page import Page

CAPABILITIES = "ocr_page ocr_carea ocr_par ocr_line ocrx_word ocr_table ocr_photo ocr_math"
AREAS = {TABLE: "ocr_table", PICTURE: "ocr_photo", FORMULA: "ocr_math"}
"""The class of a cell of these categories; every other one is an ``ocr_carea``."""


class HOCRText(TextBody):
    """See :class:`TextBody`."""

    _number = 0
    """Pages so far."""

    def page(self, page: Page) -> str:
        """The page as an ``ocr_page``; one that failed is empty and says why in a comment."""
        start = self._start() if self._number == 0 else ""
        self._number += 1
        size = f"bbox 0 0 {page.width or 0} {page.height or 0}; ppageno {self._number - 1}"
        title = attribute(f"image {_quoted(page.source)}; {size}")
        if page.error is not None:
            reason = content(f"page {page.page} failed: {page.error.code}").replace("--", "- -")
            return f'{start}<div class="ocr_page" id="page_{self._number}" title={title}><!-- {reason} --></div>\n'
        cells = page_lines(page, self.sources, header_footer=self.header_footer)
        body = "".join(self._area(cell) for cell in cells)
        return f'{start}<div class="ocr_page" id="page_{self._number}" title={title}>\n{body}</div>\n'

    def _start(self) -> str:
        title = content(", ".join(self.names))
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" '
            '"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">\n'
            '<html xmlns="http://www.w3.org/1999/xhtml">\n<head>\n'
            f"<title>{title}</title>\n"
            '<meta http-equiv="Content-Type" content="text/html; charset=utf-8"/>\n'
            f'<meta name="ocr-system" content="dotsctl {__version__}"/>\n'
            f'<meta name="ocr-capabilities" content="{CAPABILITIES}"/>\n'
            "</head>\n<body>\n"
        )

    def _area(self, found: CellLines) -> str:
        """A cell: a picture is its box alone, and a cell without a box is left out, as nothing here is without one."""
        if found.cell.bbox is None:
            return ""
        name = f"{self._number}_{found.place + 1}"
        kind = AREAS.get(found.cell.category, "ocr_carea")
        category = attribute(found.cell.category)
        head = f'<div class="{kind}" id="block_{name}" title="{_box(found.cell.bbox)}" data-category={category}>'
        if not found.lines:
            return f"{head}</div>\n"
        direction = ' dir="rtl"' if found.is_rtl else ""
        box = _box(found.cell.bbox)
        lines = "".join(_line(line, f"{name}_{number}") for number, line in enumerate(found.lines, start=1))
        return f'{head}\n<p class="ocr_par" id="par_{name}" title="{box}"{direction}>\n{lines}</p>\n</div>\n'

    def end(self) -> str:
        """The end of the document, if it has begun."""
        return "</body>\n</html>\n" if self._number else ""


def _line(line: Line, name: str) -> str:
    words = " ".join(
        f'<span class="ocrx_word" id="word_{name}_{number}" title="{_box(word.bbox)}">{content(word.text)}</span>'
        for number, word in enumerate(line.words, start=1)
    )
    mark = ' data-estimated="true"' if line.estimated else ""
    end = "" if line.is_continued else "\n"
    return f'<span class="ocr_line" id="line_{name}" title="{_box(line.bbox)}"{mark}>{words}</span>{end}'


def _box(bbox: PixelBox) -> str:
    return "bbox " + " ".join(str(max(0, side)) for side in bbox)


def _quoted(name: str) -> str:
    """Return a name as a string of hOCR properties, which have no escape for quotes."""
    return '"' + name.replace('"', "'") + '"'


class HOCRFormat(TextFormat):
    """The format ``hocr``."""

    ending = "hocr"
    needs_cells = True
    body = HOCRText


FORMAT = HOCRFormat()
