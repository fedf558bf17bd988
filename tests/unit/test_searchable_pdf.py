"""Searchable PDFs: the pages as they were, and the text where it stands."""

import ctypes
import io
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pikepdf
import pypdfium2
import pytest
from dotsctl.client.formats.pdf import FORMAT
from dotsctl.client.formats.pdf_text import empty_font, seen_from_left
from dotsctl.client.formats.pictures import PagePixels
from dotsctl.client.formats.style import Style
from dotsctl.client.inputs.pages import pages_of
from dotsctl.client.inputs.sources import InputFile, expand
from dotsctl.client.outputs.destination import choose_output
from dotsctl.client.outputs.document import Document
from dotsctl.client.outputs.folder_output import FolderOutput
from dotsctl.client.results.cell import Cell, PixelBox
from dotsctl.client.results.ink_lines import InkLines
from dotsctl.client.results.lines import PrintedWord, lines_of
from dotsctl.client.results.page import Failure, Page
from dotsctl.protocol.errors import ResultError, UsageError
from dotsctl.tools.dev.word_boxes.pages import TruePage, foreign_page, latin_page
from dotsctl.tools.dev.word_boxes.score import overlap
from dotsctl.tools.pages.fonts import font
from PIL import Image, ImageFont
from pypdfium2 import raw

TRUE = latin_page(5)
MOST_BYTES = 30_000


@dataclass(frozen=True)
class Written:
    """A searchable PDF and what it was made of."""

    source: Path
    path: Path
    pages: tuple[Page, ...]
    images: tuple[Image.Image, ...]
    notes: tuple[str, ...]


def written(source: Path, cells: Callable[[Image.Image], tuple[Cell, ...]], password: str = "") -> Written:
    """Write the searchable PDF of a document whose pages have these cells."""
    documents = [replace(each) for each in expand([str(source)], io.BytesIO())]
    document = documents[0]
    pixels = PagePixels.of_files(documents)
    found = list(document.pages())
    pages, images = [], []
    for each in found:
        header, content, _ = each.load()
        image = Image.frombuffer("RGB", (header.width, header.height), content)
        images.append(image)
        pages.append(page_of(document, each.page, len(found), image, cells(image)))
    notes: list[str] = []
    path = source.with_name(f"{source.stem}.searchable.pdf")
    writer = FORMAT.writer(path, pixels, lambda _, text: notes.append(text))
    try:
        for page in pages:
            writer.add(page)
        assert [each.path for each in writer.seal()] == [str(path)]
        writer.commit()
    finally:
        writer.discard()
    return Written(source, path, tuple(pages), tuple(images), tuple(notes))


def page_of(document: InputFile, number: int, of: int, image: Image.Image, cells: tuple[Cell, ...]) -> Page:
    return Page(document.name, document.path, number, of, "ok", "raw", cells, *image.size, task="layout")


def scaled(true: TruePage) -> Callable[[Image.Image], tuple[Cell, ...]]:
    """The true cells, in pixels of a picture of any size of the page."""

    def cells(image: Image.Image) -> tuple[Cell, ...]:
        across, down = image.width / true.image.width, image.height / true.image.height
        return tuple(replace(each, bbox=times(each.bbox, across, down)) for each in true.cells if each.bbox)

    return cells


def times(box: PixelBox, across: float, down: float) -> PixelBox:
    return round(box[0] * across), round(box[1] * down), round(box[2] * across), round(box[3] * down)


def expected(page: Page, image: Image.Image) -> list[PrintedWord]:
    cells = lines_of(page.cells, InkLines(image))
    return [word for cell in cells for line in cell.lines for word in line.words]


def read_back(path: Path, number: int, size: tuple[int, int]) -> list[PrintedWord]:
    """The words of a page as PDFium finds them, with their boxes in pixels of the page as it is shown."""
    with (
        closing(pypdfium2.PdfDocument(path)) as document,
        closing(document[number]) as page,
        closing(page.get_textpage()) as text,
    ):
        words: list[PrintedWord] = []
        part, boxes = "", []
        content = text.get_text_range()
        assert len(content) == text.count_chars()
        for place, character in enumerate([*content, " "]):
            if not character.isspace():
                part += character
                boxes.append(shown(page, text.get_charbox(place), size))
            elif part:
                x0, y0, x1, y1 = zip(*boxes, strict=True)
                words.append(PrintedWord((min(x0), min(y0), max(x1), max(y1)), part))
                part, boxes = "", []
        return words


def shown(page: pypdfium2.PdfPage, box: tuple[float, ...], size: tuple[int, int]) -> PixelBox:
    points = []
    for x, y in ((box[0], box[1]), (box[2], box[3])):
        across, down = ctypes.c_int(), ctypes.c_int()
        raw.FPDF_PageToDevice(page, 0, 0, *size, 0, x, y, across, down)
        points.append((across.value, down.value))
    (x0, y0), (x1, y1) = points
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def check(found: Written) -> None:
    """Check text, places, syntax and size of all pages."""
    for number, (page, image) in enumerate(zip(found.pages, found.images, strict=True)):
        words, own = expected(page, image), read_back(found.path, number, image.size)
        assert [word.text for word in own] == [word.text for word in words]
        at_place = sum(overlap(one.bbox, other.bbox) >= 0.5 for one, other in zip(words, own, strict=True))
        assert at_place >= 0.9 * len(words)
    with pikepdf.open(found.path) as pdf:
        assert pdf.check_pdf_syntax() == []
    assert found.path.stat().st_size <= 1.05 * found.source.stat().st_size + MOST_BYTES * len(found.pages)


def rendered(path: Path, password: str = "") -> list[bytes]:
    with closing(pypdfium2.PdfDocument(path, password=password or None)) as document:
        return [page.render(scale=1).to_numpy().tobytes() for page in document]


def streams(path: Path) -> Counter[bytes]:
    """The raw bytes of all streams."""
    with pikepdf.open(path) as pdf:
        return Counter(each.read_raw_bytes() for each in pdf.objects if isinstance(each, pikepdf.Stream))


def scan_pdf(path: Path, images: list[Image.Image], **options: object) -> Path:
    images[0].save(path, save_all=True, append_images=images[1:], resolution=150, **options)
    return path


def test_a_scanned_pdf_keeps_its_pages_and_gets_their_text(tmp_path: Path) -> None:
    source = scan_pdf(tmp_path / "a.pdf", [TRUE.image, TRUE.image])
    found = written(source, scaled(TRUE))
    check(found)
    assert rendered(found.path) == rendered(source)
    assert streams(source) <= streams(found.path)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_page_that_is_turned_and_cropped_has_its_text_in_place(tmp_path: Path, turn: int) -> None:
    source = scan_pdf(tmp_path / "upright.pdf", [TRUE.image.rotate(turn, expand=True)])
    turned = tmp_path / "turned.pdf"
    with pikepdf.open(source) as pdf:
        (page,) = pdf.pages
        page.rotate(turn, relative=False)
        left, bottom, right, top = (float(each) for each in page.mediabox)
        page.mediabox = pikepdf.Array([left - 30, bottom - 20, right + 50, top + 10])
        page.cropbox = pikepdf.Array([left, bottom, right, top])
        pdf.save(turned)
    found = written(turned, scaled(TRUE))
    check(found)
    assert rendered(found.path) == rendered(turned)


def test_what_a_page_changes_of_its_coordinates_does_not_move_the_text(tmp_path: Path) -> None:
    source = scan_pdf(tmp_path / "plain.pdf", [TRUE.image])
    moved = tmp_path / "moved.pdf"
    with pikepdf.open(source) as pdf:
        (page,) = pdf.pages
        page.contents_add(pdf.make_stream(b"0.5 0 0 0.5 100 100 cm"))
        pdf.save(moved)
    check(written(moved, scaled(TRUE)))


def test_an_encrypted_pdf_is_written_without_encryption_and_that_is_said(tmp_path: Path) -> None:
    plain = scan_pdf(tmp_path / "plain.pdf", [TRUE.image])
    source = tmp_path / "locked.pdf"
    with pikepdf.open(plain) as pdf:
        pdf.save(source, encryption=pikepdf.Encryption(owner="owner", user=""))
    found = written(source, scaled(TRUE))
    assert found.notes == ("the PDF was encrypted; the searchable one is not",)
    check(found)
    with pikepdf.open(found.path) as pdf:
        assert not pdf.is_encrypted
    assert rendered(found.path) == rendered(source)


def test_a_page_that_has_text_keeps_it_and_gets_no_second_one(tmp_path: Path) -> None:
    from reportlab.pdfgen.canvas import Canvas

    source = tmp_path / "born.pdf"
    canvas = Canvas(str(source))
    canvas.drawString(100, 700, "printed by a program")
    canvas.save()
    found = written(source, lambda image: (Cell((0, 0, 300, 300), "Text", "printed by a program"),))
    assert [word.text for word in read_back(found.path, 0, (100, 100))] == ["printed", "by", "a", "program"]
    assert found.notes == ("1 page had text already and kept it",)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_is_embedded_as_it_is(tmp_path: Path, mode: str) -> None:
    source = tmp_path / "a.jpg"
    TRUE.image.convert(mode).save(source, quality=90, dpi=(150, 150))
    found = written(source, scaled(TRUE))
    check(found)
    assert source.read_bytes() in streams(found.path)
    assert looks_like(found)
    with closing(pypdfium2.PdfDocument(found.path)) as document:
        assert document[0].get_size() == pytest.approx([side / 150 * 72 for side in TRUE.image.size], abs=0.1)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_photo_that_the_camera_turned_stands_upright(tmp_path: Path, orientation: int) -> None:
    source = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.new("RGB", (60, 40), "white")
    image.paste("red", (0, 0, 20, 10))
    image.paste("blue", (40, 30, 60, 40))
    image.paste("green", (0, 30, 20, 40))
    image.save(source, quality=95, exif=exif)
    found = written(source, lambda _: (Cell((2, 2, 38, 12), "Text", "word"),))
    assert source.read_bytes() in streams(found.path)
    assert looks_like(found)


def looks_like(found: Written) -> bool:
    """Return whether the rendered page differs little from the picture."""
    (image,) = found.images
    with closing(pypdfium2.PdfDocument(found.path)) as document:
        drawn = document[0].render(scale=image.width / document[0].get_width() * (1 - 1e-6)).to_pil().convert("RGB")
    pairs = zip(drawn.resize(image.size).tobytes(), image.tobytes(), strict=True)
    return sum(abs(one - other) for one, other in pairs) / len(image.tobytes()) < 6


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P"])
def test_a_plain_png_is_embedded_as_it_is(tmp_path: Path, mode: str) -> None:
    source = tmp_path / "a.png"
    TRUE.image.convert(mode).save(source)
    found = written(source, scaled(TRUE))
    check(found)
    content = source.read_bytes()
    start = content.index(b"IDAT")
    assert any(content[start + 4 : start + 104] == each[:100] for each in streams(found.path))
    assert looks_like(found)


def test_pages_of_other_pictures_are_embedded_without_loss(tmp_path: Path) -> None:
    source = tmp_path / "a.tiff"
    more = [TRUE.image.copy()]
    TRUE.image.save(source, save_all=True, append_images=more, compression="tiff_lzw", dpi=(150, 150))
    found = written(source, scaled(TRUE))
    assert len(found.pages) == 2
    check(found)
    with pikepdf.open(found.path) as pdf:
        for page in pdf.pages:
            assert (
                pikepdf.PdfImage(page.Resources.XObject.Picture).as_pil_image().convert("RGB").tobytes()
                == TRUE.image.tobytes()
            )


@pytest.mark.parametrize("script", ["hebrew", "arabic"])
def test_right_to_left_text_is_found(tmp_path: Path, script: str) -> None:
    true = foreign_page(2, script, str(font("dejavu-sans", 20).path))
    source = tmp_path / "a.png"
    true.image.save(source)
    found = written(source, scaled(true))
    words = expected(found.pages[0], found.images[0])
    own = read_back(found.path, 0, true.image.size)
    assert Counter(word.text for word in own) == Counter(word.text for word in words)


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="pdftotext of poppler-utils is not installed")
def test_pdftotext_gives_the_text_in_logical_order(tmp_path: Path) -> None:
    true = foreign_page(2, "hebrew", str(font("dejavu-sans", 20).path))
    source = tmp_path / "a.png"
    true.image.save(source)
    found = written(source, scaled(true))
    run = subprocess.run(["pdftotext", found.path, "-"], capture_output=True, check=True, env=os.environ)
    marks = dict.fromkeys(map(ord, "\N{RIGHT-TO-LEFT EMBEDDING}\N{LEFT-TO-RIGHT EMBEDDING}"), " ")
    marks[ord("\N{POP DIRECTIONAL FORMATTING}")] = " "
    text = run.stdout.decode().translate(marks).split()
    assert Counter(text) == Counter(word.text for word in expected(found.pages[0], found.images[0]))


def test_a_page_that_failed_stays_without_text(tmp_path: Path) -> None:
    source = scan_pdf(tmp_path / "a.pdf", [TRUE.image, TRUE.image])
    (document,) = expand([str(source)], io.BytesIO())
    first = next(document.pages())
    header, _, _ = first.load()
    cells = scaled(TRUE)(Image.new("L", (header.width, header.height)))
    good = Page(document.name, source, 1, 2, "ok", "raw", cells, header.width, header.height, task="layout")
    bad = Page(document.name, source, 2, 2, "failed", error=Failure("E_BAD_IMAGE", "no picture"))
    path = tmp_path / "out.pdf"
    Document((good, bad), tuple(document.pages())).save(path)
    assert read_back(path, 0, (100, 100)) and not read_back(path, 1, (100, 100))
    assert rendered(path) == rendered(source)


def test_bytes_and_pictures_in_memory_can_be_saved_as_well(tmp_path: Path) -> None:
    content = scan_pdf(tmp_path / "a.pdf", [TRUE.image]).read_bytes()
    for number, source in enumerate((content, TRUE.image)):
        (each,) = pages_of(source)
        header, _, _ = each.load()
        size = (header.width, header.height)
        page = Page(each.source, None, 1, 1, "ok", "raw", scaled(TRUE)(Image.new("L", size)), *size, task="layout")
        path = tmp_path / f"{number}.pdf"
        (again,) = pages_of(source)
        Document((page,), (again,)).save(path)
        assert len(read_back(path, 0, size)) == len(expected(page, TRUE.image.resize(size)))


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    source = scan_pdf(tmp_path / "a.pdf", [TRUE.image])
    documents = list(expand([str(source)], io.BytesIO()))
    with pytest.raises(UsageError, match="is an input"):
        choose_output(str(source), documents, Style("pdf"), lambda _: None)
    folder = FolderOutput(tmp_path, documents, Style("pdf"))
    assert folder.path_of(documents[0].name) == tmp_path / "a.searchable.pdf"


def test_a_document_that_cannot_be_read_again_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    source = scan_pdf(tmp_path / "a.pdf", [TRUE.image])
    documents = list(expand([str(source)], io.BytesIO()))
    page = page_of(documents[0], 1, 1, TRUE.image, ())
    writer = FORMAT.writer(tmp_path / "out.pdf", PagePixels.of_files(documents), lambda *_: None)
    writer.add(page)
    source.write_bytes(b"%PDF-1.4 no more")
    with pytest.raises(ResultError, match=r"a\.pdf: the PDF cannot be written: PdfError"):
        writer.seal()
    writer.discard()
    assert [each.name for each in tmp_path.iterdir()] == ["a.pdf"]


def test_the_font_is_one_that_programs_open() -> None:
    assert ImageFont.truetype(io.BytesIO(empty_font()), 20).getlength("ab") == 20.0


def graphemes() -> Iterator[tuple[str, str]]:
    aleph, bet, point = "\N{HEBREW LETTER ALEF}", "\N{HEBREW LETTER BET}", "\N{HEBREW POINT QAMATS}"
    yield "word", "word"
    yield aleph + bet, bet + aleph
    yield aleph + point + bet, bet + aleph + point
    yield aleph + "12", "12" + aleph


@pytest.mark.parametrize(("word", "seen"), list(graphemes()))
def test_words_are_written_as_they_stand_on_paper(word: str, seen: str) -> None:
    assert seen_from_left(word) == seen
