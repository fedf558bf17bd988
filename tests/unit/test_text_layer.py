"""The text layer of a PDF as a hint: its words, its paragraphs, and boxes that lie on what the page shows."""

import io
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from dotsctl.protocol.page_hint import MAX_HINT_BYTES, PageHint
from dotsctl.protocol.render.document import RenderDocument, RenderedPage
from dotsctl.protocol.render.plugins.textlayer import MAX_CHARACTERS
from dotsctl.protocol.render.process import RenderProcess
from PIL import Image
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

from tests.hostile_pdfs import pdf_of, stream

A4 = (595.0, 842.0)
FONT, SIZE_PT, PITCH_PT = "Helvetica", 12, 14
TOLERANCE_PT = 2.0
SOURCE = "textlayer"


@pytest.fixture(scope="module")
def process() -> Iterator[RenderProcess]:
    made = RenderProcess()
    yield made
    made.close()


def pdf(draw: Callable[[Canvas], object], size: tuple[float, float] = A4, **options: object) -> bytes:
    """A page of points, with the origin at its lower left corner."""
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=size, **options)
    canvas.setFont(FONT, SIZE_PT)
    draw(canvas)
    canvas.showPage()
    canvas.save()
    return out.getvalue()


def write(canvas: Canvas, lines: list[str], x: float, top: float) -> None:
    for number, line in enumerate(lines):
        canvas.drawString(x, top - number * PITCH_PT, line)


def page_with(content: str, facts: bytes = b"/MediaBox [0 0 595 842]") -> bytes:
    """A page of one content stream, in which /F1 is Helvetica."""
    return pdf_of(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R %s /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>" % facts,
            stream(b"", content.encode()),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        ]
    )


def rendered(process: RenderProcess, content: bytes) -> RenderedPage:
    page = RenderDocument(process, content, hint=SOURCE).page(1, dpi=72)
    assert page.hint.problem == ""
    return page


def hint_of(process: RenderProcess, content: bytes) -> PageHint | None:
    return rendered(process, content).hint.hint


def texts(hint: PageHint | None) -> list[str]:
    return [block.text for block in hint.blocks] if hint else []


def ink(page: RenderedPage) -> tuple[float, float, float, float]:
    """The box of what is not white."""
    pixels = np.frombuffer(page.pixels, np.uint8).reshape(page.size[1], page.size[0], 3)
    rows, columns = np.nonzero(pixels.min(axis=2) < 128)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def require_close(hint: PageHint | None, box: tuple[float, float, float, float]) -> None:
    assert hint is not None and hint.blocks[0].box is not None
    assert np.abs(np.subtract(hint.blocks[0].box, box)).max() <= TOLERANCE_PT, (hint.blocks[0].box, box)


def test_lines_become_paragraphs_whose_boxes_are_where_they_were_written(process: RenderProcess) -> None:
    def draw(canvas: Canvas) -> None:
        write(canvas, ["Hxp first line of it", "Hxp second and last"], 72, 700)
        write(canvas, ["Hxp another paragraph"], 72, 640)

    hint = hint_of(process, pdf(draw))
    assert texts(hint) == ["Hxp first line of it Hxp second and last", "Hxp another paragraph"]
    assert hint is not None and (hint.source, hint.size) == (SOURCE, A4)
    right = 72 + stringWidth("Hxp second and last", FONT, SIZE_PT)
    require_close(hint, (72, 842 - 700 - 0.72 * SIZE_PT, right, 842 - 700 + PITCH_PT + 0.21 * SIZE_PT))


@pytest.mark.parametrize("by_turns", [False, True], ids=["one after the other", "line by line"])
def test_columns_are_read_one_after_the_other(process: RenderProcess, by_turns: bool) -> None:
    left, right = [f"left line {n}" for n in range(4)], [f"right line {n}" for n in range(4)]

    def draw(canvas: Canvas) -> None:
        if by_turns:
            for number, pair in enumerate(zip(left, right, strict=True)):
                for x, line in zip((72, 320), pair, strict=True):
                    write(canvas, [line], x, 700 - number * PITCH_PT)
        else:
            write(canvas, left, 72, 700)
            write(canvas, right, 320, 700)

    assert texts(hint_of(process, pdf(draw))) == [" ".join(left), " ".join(right)]


def test_a_word_that_is_divided_at_the_end_of_a_line_is_whole(process: RenderProcess) -> None:
    lines = ["The paragraph has an exam-", "ple of the state-of-", "the-art in it."]
    found = texts(hint_of(process, pdf(lambda canvas: write(canvas, lines, 72, 700))))
    assert found == ["The paragraph has an example of the state-of-the-art in it."]


def upright(canvas: Canvas, degrees: int, shown: tuple[float, float, float, float]) -> None:
    """Draw from now on as viewers show a page that is turned: from the lower left corner of what they show of it."""
    left, bottom, right, top = shown
    canvas.setPageRotation(degrees)
    canvas.transform(
        *{
            0: (1, 0, 0, 1, left, bottom),
            90: (0, 1, -1, 0, right, bottom),
            180: (-1, 0, 0, -1, right, top),
            270: (0, -1, 1, 0, left, top),
        }[degrees]
    )


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("crop", [None, (50, 100, 400, 560)], ids=["whole", "cropped"])
def test_boxes_lie_on_the_ink_of_turned_and_cropped_pages(
    process: RenderProcess, degrees: int, crop: tuple[float, float, float, float] | None
) -> None:
    def draw(canvas: Canvas) -> None:
        width, height = A4 if degrees % 180 == 0 else A4[::-1]  # reportlab means the page as it is shown
        upright(canvas, degrees, crop or (0, 0, width, height))
        if crop:
            canvas.setCropBox(crop)
        write(canvas, ["Hxp the first line", "Hxp the second one"], 100, 300)
        write(canvas, ["Outside of the page"], -300, 300)

    page = rendered(process, pdf(draw))
    hint = page.hint.hint
    assert texts(hint) == ["Hxp the first line Hxp the second one"]
    assert hint is not None and hint.size is not None
    assert np.abs(np.subtract(hint.size, page.size)).max() <= 1
    require_close(hint, ink(page))


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_text_that_stands_askew_on_the_page_has_its_box_there(process: RenderProcess, degrees: int) -> None:
    def draw(canvas: Canvas) -> None:
        canvas.translate(300, 400)
        canvas.rotate(degrees)
        write(canvas, ["Hxp along the margin"], 0, 0)

    page = rendered(process, pdf(draw))
    assert texts(page.hint.hint) == ["Hxp along the margin"]
    require_close(page.hint.hint, ink(page))


def test_a_page_with_larger_units_is_measured_as_it_is_rendered(process: RenderProcess) -> None:
    content = page_with("BT /F1 12 Tf 72 700 Td (Hxp in units) Tj ET", b"/MediaBox [0 0 595 842] /UserUnit 2")
    page = rendered(process, content)
    require_close(page.hint.hint, ink(page))


def test_a_page_whose_origin_is_elsewhere_is_measured_from_its_corner(process: RenderProcess) -> None:
    content = page_with("BT /F1 12 Tf -72 -70 Td (Hxp below zero) Tj ET", b"/MediaBox [-200 -300 395 542]")
    page = rendered(process, content)
    require_close(page.hint.hint, ink(page))


def test_invisible_text_counts_as_what_a_scanner_read(process: RenderProcess) -> None:
    found = texts(hint_of(process, page_with("BT /F1 12 Tf 3 Tr 72 700 Td (read by a scanner) Tj ET")))
    assert found == ["read by a scanner"]


def test_a_page_without_text_has_no_hint(process: RenderProcess) -> None:
    assert hint_of(process, pdf(lambda canvas: canvas.rect(10, 10, 50, 50))) is None
    scan = io.BytesIO()
    Image.new("RGB", (30, 20)).save(scan, "PDF")
    assert hint_of(process, scan.getvalue()) is None


def unmapped_font(*characters: bytes) -> bytes:
    """A page with codes of a font that is not embedded, and with tables of their characters, or without."""
    table = b"".join(b"<%04x><%04x><%s> " % (0x24 + 13 * n, 0x30 + 13 * n, each) for n, each in enumerate(characters))
    codes = b"".join(b"%04x" % (0x24 + number % 26) for number in range(40))
    font = b"<< /Type /Font /Subtype /Type0 /BaseFont /Nowhere /Encoding /Identity-H /DescendantFonts [6 0 R] "
    return pdf_of(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
            b"/Resources << /Font << /F1 5 0 R >> >> >>",
            stream(b"", b"BT /F1 20 Tf 72 700 Td <%s> Tj ET" % codes),
            font + (b"/ToUnicode 8 0 R >>" if characters else b">>"),
            b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Nowhere /CIDSystemInfo << /Registry (Adobe) "
            b"/Ordering (Identity) /Supplement 0 >> /DW 600 /CIDToGIDMap /Identity /FontDescriptor 7 0 R >>",
            b"<< /Type /FontDescriptor /FontName /Nowhere /Flags 4 /FontBBox [0 -200 1000 900] /ItalicAngle 0 "
            b"/Ascent 900 /Descent -200 /CapHeight 700 /StemV 80 >>",
            stream(
                b"",
                b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /A def /CMapType 2 def "
                b"1 begincodespacerange <0000><FFFF> endcodespacerange %d beginbfrange %s endbfrange endcmap end end"
                % (len(characters), table),
            ),
        ]
    )


def test_a_layer_without_meaning_is_left_out(process: RenderProcess) -> None:
    letters, private = b"0410", b"E000"
    assert texts(hint_of(process, unmapped_font(letters, letters))), "the same page is a hint where codes are letters"
    assert hint_of(process, unmapped_font(private, private)) is None
    assert hint_of(process, unmapped_font(letters, private)) is None, "half of it has no meaning"
    assert hint_of(process, unmapped_font()) is None, "codes without characters"
    codes = "!#$%&*+/:;<=>?@" * 4
    assert hint_of(process, pdf(lambda canvas: write(canvas, [codes], 72, 700))) is None, "no letter and no digit"


def test_a_table_of_contents_is_text_in_spite_of_its_dots(process: RenderProcess) -> None:
    lines = [f"Chapter {number} {'.' * 60} {number}0" for number in range(1, 6)]
    assert len(texts(hint_of(process, pdf(lambda canvas: write(canvas, lines, 72, 700))))) >= 1


def test_a_page_of_100_000_characters_gives_what_may_travel(process: RenderProcess) -> None:
    lines = [f"{number:05d} {'abcd ' * 20}"[:100] for number in range(1000)]

    def draw(canvas: Canvas) -> None:
        for number, line in enumerate(lines):
            canvas.drawString(5, 20 * number + 5, line)

    hint = hint_of(process, pdf(draw, (2000, 14_000)))
    assert hint is not None
    size = len(hint.text.encode())
    assert 0.7 * MAX_CHARACTERS < size <= MAX_HINT_BYTES


def test_a_document_that_is_encrypted_with_an_empty_password_has_its_layer(process: RenderProcess) -> None:
    locked = StandardEncryption("", "owner", strength=128)
    found = hint_of(process, pdf(lambda canvas: write(canvas, ["open to all"], 72, 700), encrypt=locked))
    assert texts(found) == ["open to all"]


@pytest.mark.parametrize(
    "matrix",
    ["1 0 0 1 1e38 1e38", "1e38 0 0 1e38 72 600", "1e-38 0 0 1e-38 72 600", "0 0 0 0 72 600", "1 0 0 1 -99999999 0"],
)
def test_text_in_impossible_places_costs_neither_the_page_nor_the_rest_of_the_layer(
    process: RenderProcess, matrix: str
) -> None:
    content = f"BT /F1 12 Tf 72 700 Td (Hxp sound text) Tj ET BT /F1 12 Tf {matrix} Tm (elsewhere) Tj ET"
    page = rendered(process, page_with(content))
    assert page.size == A4
    assert "Hxp sound text" in " ".join(texts(page.hint.hint))


def test_a_mark_without_a_meaning_does_not_cost_its_line(process: RenderProcess) -> None:
    """Bullets of symbol fonts are often so."""
    content = page_with("BT /F1 12 Tf 72 700 Td (\\001 the text behind a mark) Tj ET")
    assert texts(hint_of(process, content)) == ["the text behind a mark"]
