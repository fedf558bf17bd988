"""Searchable PDF with pikepdf: invisible text on the pages of a document, and pages made of pictures.

Everything here reads documents of others; it runs in a process of its own (``pdf_process.py``).
"""

import zlib
from collections.abc import Mapping
from pathlib import Path

from dotsctl.client.formats.pdf_pictures import picture_of
from dotsctl.client.formats.pdf_text import WIDTH, Characters, PicturePage, PlacedText, empty_font, text_stream
from dotsctl.protocol.model.files import open_regular
from pikepdf import Array, Dictionary, Name, ObjectStreamMode, Page, Pdf, Stream, StreamDecodeLevel, String

FONT = "/DotsctlText"
POINTS_PER_INCH = 72


def add_text(source: Path, target: Path, texts: Mapping[int, PlacedText], password: str = "") -> bool:
    """Write a PDF with invisible text on its pages; all else stays as it is.

    Args:
        source: the document.
        target: the file that is written.
        texts: the text of pages by their number, from 1.
        password: of the document; empty: none.

    Returns:
        Whether the document was encrypted; the one that is written is not.

    Raises:
        pikepdf.PdfError: it cannot be read.
    """
    with open_regular(source) as stream, Pdf.open(stream, password=password) as pdf:
        was_encrypted = pdf.is_encrypted
        font = _Font(pdf)
        before = pdf.make_indirect(Stream(pdf, b"q\n"))
        for number, text in texts.items():
            if text.lines and number <= len(pdf.pages):
                _write_text(pdf, pdf.pages[number - 1], text, font, before)
        font.finish()
        _save(pdf, target)
        return was_encrypted


def make_pdf(pictures: Mapping[int, PicturePage], target: Path) -> None:
    """Write a PDF with a page for each picture, with invisible text on it.

    Args:
        pictures: by the number of the page.
        target: the file that is written.
    """
    with Pdf.new() as pdf:
        font = _Font(pdf)
        before = pdf.make_indirect(Stream(pdf, b"q\n"))
        for _, each in sorted(pictures.items()):
            picture, text = picture_of(pdf, each), each.text
            size = [side / (picture.dpi or each.dpi) * POINTS_PER_INCH for side in (text.width, text.height)]
            page = pdf.add_blank_page(page_size=(size[0], size[1]))
            scaled = " ".join(f"{each * size[place % 2]:.5f}" for place, each in enumerate(picture.matrix))
            page.Resources = Dictionary(XObject=Dictionary(Picture=picture.stream))
            page.Contents = pdf.make_stream(f"q {scaled} cm /Picture Do Q".encode("ascii"))
            if text.lines:
                _write_text(pdf, page, text, font, before)
        font.finish()
        _save(pdf, target)


class _Font:
    """The font of a document, made when all of its characters are known."""

    def __init__(self, pdf: Pdf) -> None:
        self._pdf = pdf
        self.characters = Characters()
        self.dictionary = pdf.make_indirect(Dictionary(Type=Name.Font))

    def name_on(self, page: Page) -> str:
        """The name of the font on a page; pages may share their resources."""
        fonts = page.resources.get(Name.Font, Dictionary())
        for name, font in fonts.items():
            if getattr(font, "objgen", None) == self.dictionary.objgen:
                return str(name)
        return str(page.add_resource(self.dictionary, Name.Font, prefix=FONT[1:]))

    def finish(self) -> None:
        """Fill in the font, or nothing when it was not used."""
        if not len(self.characters):
            return
        pdf, name = self._pdf, Name("/DotsctlGlyphless")
        to_glyphs = b"\0\1" * (len(self.characters) + 1)
        descriptor = Dictionary(
            Type=Name.FontDescriptor,
            FontName=name,
            Flags=4,
            FontBBox=Array([0, 0, WIDTH, 1000]),
            ItalicAngle=0,
            Ascent=1000,
            Descent=0,
            CapHeight=1000,
            StemV=80,
            FontFile2=_compressed(pdf, empty_font()),
        )
        descendant = Dictionary(
            Type=Name.Font,
            Subtype=Name.CIDFontType2,
            BaseFont=name,
            CIDSystemInfo=Dictionary(Registry=String("Adobe"), Ordering=String("Identity"), Supplement=0),
            FontDescriptor=pdf.make_indirect(descriptor),
            DW=WIDTH,
            CIDToGIDMap=_compressed(pdf, to_glyphs),
        )
        for key, value in {
            Name.Subtype: Name.Type0,
            Name.BaseFont: name,
            Name.Encoding: Name("/Identity-H"),
            Name.DescendantFonts: Array([pdf.make_indirect(descendant)]),
            Name.ToUnicode: _compressed(pdf, self.characters.to_unicode()),
        }.items():
            self.dictionary[key] = value


def _write_text(pdf: Pdf, page: Page, text: PlacedText, font: _Font, before: Stream) -> None:
    """Append the text; what the page's own content changed of the coordinates is undone before."""
    box = [float(side) for side in page.cropbox]
    media = [float(side) for side in page.mediabox]
    x0, y0 = max(min(box[::2]), min(media[::2])), max(min(box[1::2]), min(media[1::2]))
    x1, y1 = min(max(box[::2]), max(media[::2])), min(max(box[1::2]), max(media[1::2]))
    if x0 >= x1 or y0 >= y1:
        x0, y0, x1, y1 = min(media[::2]), min(media[1::2]), max(media[::2]), max(media[1::2])
    turn = int(page.rotation) % 360
    a, b, c, d, e, f = _from_shown(turn, x0, y0, x1, y1)
    shown = (x1 - x0, y1 - y0) if turn % 180 == 0 else (y1 - y0, x1 - x0)
    across, down = shown[0] / text.width, shown[1] / text.height
    matrix = (a * across, b * across, c * down, d * down, e, f)
    content = b"Q\n" + text_stream(text, font.name_on(page), font.characters, matrix)
    page.contents_add(before, prepend=True)
    page.contents_add(_compressed(pdf, content))


def _from_shown(turn: int, x0: float, y0: float, x1: float, y1: float) -> tuple[float, ...]:
    """Return the matrix from a page as it is shown, its lower left corner at 0, to its own units."""
    turned = {90: (0, 1, -1, 0, x1, y0), 180: (-1, 0, 0, -1, x1, y1), 270: (0, -1, 1, 0, x0, y1)}
    return turned.get(turn, (1, 0, 0, 1, x0, y0))


def _compressed(pdf: Pdf, content: bytes) -> Stream:
    stream = Stream(pdf, zlib.compress(content, 9), Filter=Name.FlateDecode)
    return pdf.make_indirect(stream)


def _save(pdf: Pdf, target: Path) -> None:
    """Write the document; streams keep their bytes."""
    with target.open("wb") as stream:
        pdf.save(
            stream,
            encryption=False,
            compress_streams=False,
            stream_decode_level=StreamDecodeLevel.none,
            object_stream_mode=ObjectStreamMode.preserve,
        )
