"""ALTO 4.4: pages, cells, lines and words with boxes, as archives and libraries keep them; its schema is that of the
Library of Congress. Boxes are in pixels of the page as viewers show it.
"""

from dotsctl import __version__
from dotsctl.client.formats.format import TextBody, TextFormat
from dotsctl.client.formats.page_lines import page_lines
from dotsctl.client.formats.xml_text import attribute, content
from dotsctl.client.results.categories import COLOURS
from dotsctl.client.results.cell import PixelBox
from dotsctl.client.results.lines import CellLines, Line
from dotsctl.client.results.markdown import PICTURE
from dotsctl.client.results.page import Page

NAMESPACE = "http://www.loc.gov/standards/alto/ns-v4#"
OTHER_TAG, ESTIMATED_TAG = "tag_other", "tag_estimated"


class ALTOText(TextBody):
    """See :class:`TextBody`."""

    _number = 0
    """Pages so far."""

    def page(self, page: Page) -> str:
        """The page as a ``Page``; one that failed has no space for print, and its class says that it failed."""
        start = self._start() if self._number == 0 else ""
        self._number += 1
        head = f'<Page ID="page_{self._number}" PHYSICAL_IMG_NR="{self._number}"'
        if page.error is not None:
            reason = attribute(f"page {page.page} of {page.source} failed: {page.error.code}")
            return f'{start}{head} QUALITY="Missing" QUALITY_DETAIL={reason}/>\n'
        size = f'WIDTH="{page.width or 0}" HEIGHT="{page.height or 0}"'
        cells = page_lines(page, self.sources, header_footer=self.header_footer)
        body = "".join(self._block(cell) for cell in cells)
        return f'{start}{head} {size}>\n<PrintSpace HPOS="0" VPOS="0" {size}>\n{body}</PrintSpace>\n</Page>\n'

    def _start(self) -> str:
        """The description, and the tags: the categories of cells, and the mark of lines that are estimated."""
        tags = "".join(f"<LayoutTag ID={_tag(name)} LABEL={attribute(name)}/>\n" for name in COLOURS)
        names = "".join(f"<fileIdentifier>{content(name)}</fileIdentifier>\n" for name in self.names)
        return (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<alto xmlns="{NAMESPACE}" SCHEMAVERSION="4.4">\n'
            "<Description>\n<MeasurementUnit>pixel</MeasurementUnit>\n<sourceImageInformation>\n"
            f"<fileName>{content(self.names[0])}</fileName>\n{names}</sourceImageInformation>\n"
            '<Processing ID="processing_1">\n<processingCategory>contentGeneration</processingCategory>\n'
            "<processingSoftware>\n<softwareName>dotsctl</softwareName>\n"
            f"<softwareVersion>{__version__}</softwareVersion>\n</processingSoftware>\n</Processing>\n</Description>\n"
            f'<Tags>\n{tags}<LayoutTag ID="{OTHER_TAG}" LABEL="other"/>\n'
            f'<OtherTag ID="{ESTIMATED_TAG}" LABEL="estimated" '
            'DESCRIPTION="The place is derived from the text and its block, not found on the page"/>\n'
            "</Tags>\n<Layout>\n"
        )

    def _block(self, found: CellLines) -> str:
        """A cell; one without a box is left out, as nothing here is without one."""
        if found.cell.bbox is None:
            return ""
        name = f"{self._number}_{found.place + 1}"
        category = found.cell.category
        tag = _tag(category) if category in COLOURS else f'"{OTHER_TAG}"'
        head = f'ID="block_{name}" TAGREFS={tag} {_box(found.cell.bbox)}'
        if category == PICTURE:
            return f"<Illustration {head}/>\n"
        direction = ' BASEDIRECTION="rtl"' if found.is_rtl else ""
        lines = "".join(_line(line, f"{name}_{number}") for number, line in enumerate(found.lines, start=1))
        return f"<TextBlock {head}{direction}>\n{lines}</TextBlock>\n"

    def end(self) -> str:
        """The end of the document, if it has begun."""
        return "</Layout>\n</alto>\n" if self._number else ""


def _line(line: Line, name: str) -> str:
    words = "<SP/>".join(
        f'<String ID="word_{name}_{number}" {_box(word.bbox)} CONTENT={attribute(word.text)}/>'
        for number, word in enumerate(line.words, start=1)
    )
    tag = f' TAGREFS="{ESTIMATED_TAG}"' if line.estimated else ""
    return f'<TextLine ID="line_{name}" {_box(line.bbox)}{tag}>{words}</TextLine>\n'


def _tag(category: str) -> str:
    return f'"tag_{category}"'


def _box(bbox: PixelBox) -> str:
    x0, y0, x1, y1 = bbox
    return f'HPOS="{x0}" VPOS="{y0}" WIDTH="{x1 - x0}" HEIGHT="{y1 - y0}"'


class ALTOFormat(TextFormat):
    """The format ``alto``."""

    ending = "alto.xml"
    needs_cells = True
    body = ALTOText


FORMAT = ALTOFormat()
