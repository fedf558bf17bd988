"""PDF as an input. ``tests/files`` holds what Pillow cannot write; it was made once with pikepdf 10.17:

encrypted.pdf   pikepdf.Encryption(user="secret", owner="secret", R=6): a black page of 20x10 points
form.pdf        a text field (AcroForm and XFA) on an empty page of 200x100 points; it looks as a black box of 100x20
no_pages.pdf    pikepdf.new().save(...)
"""

import io
import os
import sys
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dotsctl.client.inputs.pages import PageInput, pages_of
from dotsctl.client.inputs.selection import PageRanges, Selection
from dotsctl.encoder_worker.blank import is_blank
from dotsctl.protocol.errors import PageError
from dotsctl.protocol.parts import MAX_RGB_BYTES, ImageKind
from dotsctl.protocol.render import pdf
from dotsctl.protocol.render.exchange import RenderRequest
from dotsctl.protocol.render.process import PendingAnswer, RenderProcess
from dotsctl.tools.measuring.memory import rss_bytes
from PIL import Image

from tests.decoding import answer

FILES = Path(__file__).parents[1] / "files"
AT_72 = Selection(dpi=72)


def stored(pages: list[Image.Image], dpi: float = 72, **facts: object) -> bytes:
    stream = io.BytesIO()
    pages[0].save(stream, "PDF", save_all=True, append_images=pages[1:], resolution=dpi, **facts)
    return stream.getvalue()


def numbered(count: int, size: tuple[int, int] = (40, 30)) -> bytes:
    """Pages in shades of grey, of which the first is black."""
    return stored([Image.new("L", size, number % 256) for number in range(count)])


def turned(content: bytes, degrees: int) -> bytes:
    import pypdfium2

    out = io.BytesIO()
    with pypdfium2.PdfDocument(content) as document:
        page = document[0]
        page.set_rotation(degrees)
        page.close()
        document.save(out)
    return out.getvalue()


def blank(width_pt: float, height_pt: float) -> bytes:
    import pypdfium2

    out = io.BytesIO()
    document = pypdfium2.PdfDocument.new()
    document.new_page(width_pt, height_pt).close()
    document.save(out)
    document.close()
    return out.getvalue()


def pixels(page: PageInput) -> np.ndarray:
    header, content, _ = page.load()
    assert header.kind is ImageKind.RGB
    return np.frombuffer(content, np.uint8).reshape(header.height, header.width, 3)


def only_error(source: object, selection: Selection = AT_72) -> str:
    (page,) = pages_of(source, selection)
    assert page.error is not None
    assert "\n" not in str(page.error)
    return str(page.error)


def test_each_page_of_a_pdf_is_a_page_of_pixels(tmp_path: Path) -> None:
    path = tmp_path / "named like a picture.png"
    path.write_bytes(numbered(3))
    for source, name, origin in ((path, str(path), path), (path.read_bytes(), "<bytes>", None)):
        pages = list(pages_of(source, AT_72))
        assert [(page.page, page.num_pages) for page in pages] == [(1, 3), (2, 3), (3, 3)]
        assert {(page.source, page.path, page.error) for page in pages} == {(name, origin, None)}
        for shade, page in enumerate(pages):
            assert pixels(page).shape == (30, 40, 3)
            assert abs(pixels(page).astype(int) - shade).max() <= 1  # JPEG


def test_a_scanned_page_keeps_its_pixels_at_its_own_resolution() -> None:
    """1654 px at 200 dpi are 595.44 points, and float32 makes a little more than 1654 px of them again."""
    noise = np.random.default_rng(0).integers(0, 2, (331, 1654), np.uint8) * 255
    (page,) = pages_of(stored([Image.fromarray(noise).convert("1")], dpi=200))
    assert np.array_equal(pixels(page), np.repeat(noise[:, :, None], 3, axis=2))


def test_the_resolution_is_200_dpi_or_the_chosen_one() -> None:
    content = blank(72, 36)
    assert [pixels(page).shape for page in pages_of(content)] == [(100, 200, 3)]
    assert [pixels(page).shape for page in pages_of(content, Selection(dpi=300))] == [(150, 300, 3)]


def test_a_page_without_anything_on_it_is_white() -> None:
    (page,) = pages_of(blank(20, 10))
    assert set(page.load()[1]) == {255}


def without_font() -> bytes:
    """A page with four Cyrillic letters in a font that is named and not embedded: PDFium draws nothing."""
    to_unicode = (
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /A def /CMapType 2 def "
        b"1 begincodespacerange <0000><FFFF> endcodespacerange 1 beginbfrange <0024><003D><0410> endbfrange endcmap "
        b"end end"
    )
    streams = [b"BT /F1 40 Tf 72 700 Td <0024002500260027> Tj ET", to_unicode]
    shown, named = (b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream) for stream in streams)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        shown,
        b"<< /Type /Font /Subtype /Type0 /BaseFont /Nowhere /Encoding /Identity-H /DescendantFonts [6 0 R] "
        b"/ToUnicode 8 0 R >>",
        b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Nowhere /CIDSystemInfo << /Registry (Adobe) "
        b"/Ordering (Identity) /Supplement 0 >> /DW 600 /CIDToGIDMap /Identity /FontDescriptor 7 0 R >>",
        b"<< /Type /FontDescriptor /FontName /Nowhere /Flags 4 /FontBBox [0 -200 1000 900] /ItalicAngle 0 /Ascent 900 "
        b"/Descent -200 /CapHeight 700 /StemV 80 >>",
        named,
    ]
    content, offsets = b"%PDF-1.7\n", []
    for number, each in enumerate(objects, 1):
        offsets.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(content))
    return content + b"xref\n0 %d\n0000000000 65535 f \n%s%s" % (len(objects) + 1, table, trailer)


def test_a_page_whose_text_is_not_drawn_is_known_to_have_text() -> None:
    (page,) = pages_of(without_font())
    assert is_blank(Image.fromarray(pixels(page)))
    assert page.has_text()
    (empty,) = pages_of(blank(200, 100))
    assert not empty.has_text()
    (picture,) = pages_of(Image.new("RGB", (20, 20)))
    assert not picture.has_text()


def test_red_is_red() -> None:
    (page,) = pages_of(stored([Image.new("RGB", (20, 10), (250, 0, 0))]), AT_72)
    red, green, blue = pixels(page)[5, 10]
    assert red > 240 and green < 10 and blue < 10


def test_a_turned_page_is_shown_upright() -> None:
    image = Image.new("L", (40, 30), 255)
    image.paste(0, (0, 0, 20, 15))  # the upper left quarter
    (page,) = pages_of(turned(stored([image]), 90), AT_72)
    shown = pixels(page)
    assert shown.shape == (40, 30, 3)
    assert shown[5, 25].max() < 30, "turned clockwise the black quarter lies in the upper right"
    assert shown[5, 5].min() > 225 and shown[30, 25].min() > 225


def test_what_a_form_was_filled_with_is_drawn_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    (page,) = pages_of(FILES / "form.pdf", AT_72)
    assert (pixels(page) < 128).all(axis=2).sum() == 100 * 20
    assert caplog.text == "", "pypdfium2 prints advice on XFA for every page"


def test_a_page_too_large_for_its_resolution_is_rendered_at_the_one_that_fits() -> None:
    assert pdf.MAX_PAGE_PX * 3 <= MAX_RGB_BYTES
    for width_pt, height_pt in ((14_400, 14_400), (3_000, 200), (2_384, 3_370)):
        scale = pdf._scale(width_pt, height_pt, 1200)
        assert width_pt * scale * height_pt * scale <= pdf.MAX_PAGE_PX
        assert width_pt * scale * height_pt * scale > 0.99 * min(
            pdf.MAX_PAGE_PX, width_pt * height_pt * (1200 / 72) ** 2
        )


def test_a_large_page_is_rendered_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "MAX_PAGE_PX", 5_000)
    assert answer(blank(2_000, 1_000), dpi=200)[0].size == (100, 50)


def test_a_page_too_long_for_its_width_is_reported() -> None:
    (page,) = pages_of(blank(3_000, 10))
    with pytest.raises(PageError, match="200 times"):
        page.load()


def test_chosen_pages_are_read_alone() -> None:
    pages = list(pages_of(numbered(9), Selection(PageRanges.parse("8-,2"), dpi=72)))
    assert [page.page for page in pages] == [2, 8, 9]
    assert [round(pixels(page).mean()) for page in pages] == [1, 7, 8]


def test_chosen_pages_outside_are_one_error_beside_the_others() -> None:
    good, error = pages_of(numbered(2), Selection(PageRanges.parse("2-4"), dpi=72))
    assert (good.error, error.page) == (None, 3)
    assert str(error.error) == "pages 3-4 do not exist (the document has 2 pages): choose among these"


@pytest.mark.parametrize("lead", [b"\r\n", b"X-Mailer: scanner\r\n\r\n", b"\0" * 1019])
def test_a_pdf_is_known_by_its_header_that_others_wrote_something_before(lead: bytes) -> None:
    assert [page.error for page in pages_of(lead + numbered(1))] == [None]


def test_a_picture_that_speaks_of_pdf_is_a_picture() -> None:
    from PIL import PngImagePlugin

    notes, stream = PngImagePlugin.PngInfo(), io.BytesIO()
    notes.add_text("Source", "%PDF-1.7")
    Image.new("RGB", (9, 9)).save(stream, "PNG", pnginfo=notes)
    assert b"%PDF-" in stream.getvalue()[:1024]
    (page,) = pages_of(stream.getvalue())
    assert (page.load()[0].width, page.num_pages) == (9, 1)


def test_a_protected_pdf_is_read_with_its_password() -> None:
    (page,) = pages_of(FILES / "encrypted.pdf", Selection(dpi=72, password="secret"))
    assert pixels(page).shape == (10, 20, 3) and pixels(page).max() < 10


def test_a_protected_pdf_requests_its_password() -> None:
    assert "--password, or in DOTSCTL_PASSWORD" in only_error(FILES / "encrypted.pdf")


def test_a_wrong_password_is_reported_and_not_shown() -> None:
    reported = only_error(FILES / "encrypted.pdf", Selection(password="hunter2"))
    assert "does not open" in reported and "hunter2" not in reported


def test_a_damaged_pdf_is_reported() -> None:
    assert "damaged" in only_error(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3")
    assert "damaged" in only_error(numbered(3)[:700])


def test_a_pdf_without_pages_is_reported_also_after_one_that_failed_for_another_reason() -> None:
    for before in (None, FILES / "encrypted.pdf", b"%PDF-1.7 damaged"):
        if before is not None:
            assert only_error(before)
        assert "no pages, or its page tree is damaged" in only_error(FILES / "no_pages.pdf")


def test_an_empty_file_named_like_a_pdf_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").touch()
    assert "the file is empty" in only_error(tmp_path / "a.pdf")


def test_a_pdf_that_shrank_meanwhile_is_an_error_of_the_page_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(numbered(3))
    first, _, third = pages_of(path, AT_72)
    path.write_bytes(numbered(1))
    assert pixels(first).shape == (30, 40, 3)
    with pytest.raises(PageError, match="damaged"):
        third.load()
    path.unlink()
    with pytest.raises(PageError, match="no such file"):
        first.load()


def test_without_the_library_a_pdf_names_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(PageError, match="pip install --force-reinstall dotsctl"):
        answer(numbered(1))


def test_a_document_is_opened_once_and_one_page_is_rendered_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []
    ask = RenderProcess.request

    def noted(process: RenderProcess, request: RenderRequest, content: bytes) -> PendingAnswer:
        asked.append((request.asked, request.page))
        return ask(process, request, content)

    monkeypatch.setattr(RenderProcess, "request", noted)
    path = tmp_path / "long.pdf"
    path.write_bytes(numbered(300, (8, 8)))
    pages = pages_of(path, AT_72)
    first = next(pages)
    opened = set(Path("/dev/fd").iterdir())
    first.load()
    assert asked == [("pages", 1), ("page", 1), ("page", 2)]
    next(pages).load()
    assert asked[3:] == [("page", 3)]
    assert round(pixels(list(pages)[-1]).mean()) == 299 % 256
    assert asked[4:] == [("page", 300)]
    assert set(Path("/dev/fd").iterdir()) == opened


def test_three_hundred_pages_leave_memory_flat(tmp_path: Path) -> None:
    path = tmp_path / "long.pdf"
    path.write_bytes(numbered(300, (200, 280)))
    page_bytes = 200 * 280 * 3
    tracemalloc.start()
    try:
        before = None
        for page in pages_of(path, AT_72):
            page.load()
            if page.page == 50:
                before = tracemalloc.get_traced_memory()[0], rss_bytes(os.getpid())
                tracemalloc.reset_peak()
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert before is not None
    assert now - before[0] < page_bytes, "Python keeps pages"
    assert peak - before[0] < 4 * page_bytes, "more than one page is held at a time"
    assert rss_bytes(os.getpid()) - before[1] < 60 * page_bytes, "PDFium keeps pages: 250 were read since"


def test_pages_loaded_by_several_threads_are_the_right_ones() -> None:
    pages = list(pages_of(numbered(24, (200, 200)), AT_72))
    shades: dict[int, int] = {}

    def read(some: list[PageInput]) -> None:
        for page in some:
            shades[page.page] = round(pixels(page).mean())

    threads = [threading.Thread(target=read, args=(pages[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert shades == {page.page: page.page - 1 for page in pages}


NOISE = np.random.default_rng(0).integers(0, 256, (120, 83, 4), np.uint8)
SCANS = {
    "grey": Image.fromarray(NOISE[..., 0]),
    "colours": Image.fromarray(NOISE[..., :3]),
    "black and white": Image.fromarray(NOISE[..., 0]).convert("1"),
}
OTHERS = {
    "print colours": Image.fromarray(NOISE, "CMYK"),
    "palette": Image.fromarray(NOISE[..., 0]).convert("P"),
    "transparent": Image.fromarray(NOISE),
}


@pytest.mark.parametrize("kind", [*SCANS, *OTHERS])
@pytest.mark.parametrize("dpi", [200, 150])
def test_a_scan_that_is_decoded_alone_has_the_pixels_of_the_drawn_page(
    kind: str, dpi: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone: list[bool] = []
    scan_of = pdf.scan_of

    def noted(*given: Any) -> Image.Image | None:
        alone.append((scan := scan_of(*given)) is not None)
        return scan

    content = stored([{**SCANS, **OTHERS}[kind]], dpi=200)
    monkeypatch.setattr(pdf, "scan_of", noted)
    found = answer(content, dpi=dpi)
    monkeypatch.setattr(pdf, "scan_of", lambda *_: None)
    assert found == answer(content, dpi=dpi)
    assert any(alone) == (kind in SCANS and dpi == 200)


def test_a_scan_that_is_turned_moved_or_lies_under_something_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = stored([SCANS["colours"]], dpi=200)
    place = scan.index(b" cm /image Do") if b" cm /image Do" in scan else scan.index(b" cm")
    moved = scan[: place - 1] + b"9" + scan[place:]
    hidden = scan.replace(b"/Subtype /Image", b"/Subtype /Image /SMask 99 0 R")
    for content in (turned(scan, 90), turned(scan, 180), moved, hidden):
        found = answer(content, dpi=200)
        with monkeypatch.context() as patch:
            patch.setattr(pdf, "scan_of", lambda *_: None)
            assert found == answer(content, dpi=200)
