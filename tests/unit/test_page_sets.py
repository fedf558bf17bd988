"""Pages that a PDF library, a browser and Cairo set: their truth is where their ink is."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.tools.dev.page_sets import __main__ as page_sets
from dotsctl.tools.dev.page_sets import browser_pages as browser
from dotsctl.tools.dev.page_sets.cairo_pages import FAMILIES, _check_family, cairo_pages
from dotsctl.tools.dev.page_sets.page_set import PageSet, ink_box, write_set
from dotsctl.tools.dev.page_sets.pdf_sheet import pdf_pages
from dotsctl.tools.pages.characters import CHARACTERS
from dotsctl.tools.pages.elements import GeneratedPage
from dotsctl.tools.pages.fonts import EVERYWHERE
from PIL import Image

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytest.importorskip("english_words", reason="english-words is not installed")
pytest.importorskip("reportlab", reason="reportlab is not installed")
WHITE = (255, 255, 255)


def check_truth(page: GeneratedPage) -> None:
    """Each box but a picture's is as tight as its ink, and each glyph lies inside the box of its element."""
    paper = page.image.getpixel((0, 0))
    assert isinstance(paper, tuple)
    for number, element in enumerate(page.elements):
        assert set(element.plain) <= {*CHARACTERS, " "}
        x0, y0, x1, y1 = element.box
        if element.category != "Picture":
            assert ink_box(page.image, (x0 + 1, y0 + 1, x1 - 2, y1 - 2), paper[:3]) is not None
        for glyph in (glyph for glyph in page.glyphs if glyph.element == number):
            assert x0 - 3 <= glyph.x <= x1 + 3 and y0 - 9 <= glyph.y <= y1 + 9, (element, glyph)


def test_pages_of_a_pdf_show_what_their_truth_states() -> None:
    pages = list(pdf_pages(random.Random(2), (14, 12), 8, EVERYWHERE))
    assert len(pages) == 8 and sum(len(page.glyphs) for page in pages) > 300
    for page in pages:
        assert abs(page.image.width - 336) <= 8 and abs(page.image.height - 392) <= 8
        check_truth(page)


def test_a_set_gives_back_its_pages_by_grid(tmp_path: Path) -> None:
    made = [*pdf_pages(random.Random(2), (8, 10), 2, EVERYWHERE), *pdf_pages(random.Random(2), (14, 12), 1, EVERYWHERE)]
    assert write_set(made, tmp_path / "set.zip") == 3
    found = PageSet([tmp_path / "set.zip"])
    assert found.grids == [(8, 10), (14, 12)]
    (page,) = found.draw(random.Random(1), (14, 12), 1)
    assert np.array_equal(np.asarray(page.image), np.asarray(made[2].image))
    assert page.elements == made[2].elements and page.text == made[2].text
    assert [glyph.character for glyph in page.glyphs] == [glyph.character for glyph in made[2].glyphs]
    assert {path.name for path in tmp_path.iterdir()} == {"set.zip"}


def test_a_file_that_is_no_set_is_named(tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(b"no zip")
    with pytest.raises(UsageError, match=r"set\.zip is no set of pages"):
        PageSet([tmp_path / "set.zip"])


def test_the_command_writes_pages_of_all_grids(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(page_sets.main, ["--by", "pdf", "--pages", "7", str(tmp_path / "set.zip")])
    assert outcome.exit_code == 0, outcome.output
    assert len(PageSet([tmp_path / "set.zip"]).grids) == len(page_sets.GRIDS)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="Chromium is not installed")
@pytest.mark.timeout(300)
def test_pages_of_a_browser_show_what_their_truth_states() -> None:
    pages = list(browser.browser_pages(random.Random(2), (14, 12), 4))
    assert len(pages) >= 3 and sum(len(page.glyphs) for page in pages) > 100
    for page in pages:
        assert page.image.size == (336, 392)
        check_truth(page)


def test_a_browser_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser.shutil, "which", lambda _: None)
    with pytest.raises(MissingError, match="apt-get install chromium"):
        list(browser.browser_pages(random.Random(2), (14, 12), 1))


def test_ink_is_found_inside_the_area_alone() -> None:
    image = Image.new("RGB", (40, 40), WHITE)
    image.paste((0, 0, 0), (10, 12, 20, 15))
    image.paste((0, 0, 0), (30, 30, 35, 35))
    assert ink_box(image, (5, 5, 25, 25), WHITE) == (10, 12, 20, 15)
    assert ink_box(image, (0, 0, 8, 8), WHITE) is None
    assert ink_box(image, (50, 50, 60, 60), WHITE) is None


def test_pages_of_cairo_have_boxes_around_their_ink_and_depend_on_their_seed_alone() -> None:
    pytest.importorskip("pangocairocffi", reason="pangocairocffi is not installed", exc_type=(ImportError, OSError))
    if shutil.which("fc-match") is None:
        pytest.skip("fontconfig is not installed")
    first, second = list(cairo_pages(6, 10, (336, 280), "foreign")), list(cairo_pages(2, 14, (336, 280), "foreign"))
    assert [page.text for page in first[4:]] == [page.text for page in second]
    assert {page.group for page in first} == set(FAMILIES)
    for page in first:
        assert isinstance(page.image, Image.Image) and page.image.size == (336, 280) and page.text
        ink = np.asarray(page.image.convert("L")) < 200
        for element in page.elements or ():
            x0, y0, x1, y1 = (round(side) for side in element.box)
            assert ink[y0:y1, x0:x1].any()
            ink[max(0, y0 - 1) : y1 + 2, max(0, x0 - 1) : x1 + 2] = False
        assert not ink.any(), "all ink lies inside the boxes"


def test_a_family_that_fontconfig_would_replace_is_an_error() -> None:
    if shutil.which("fc-match") is None:
        pytest.skip("fontconfig is not installed")
    with pytest.raises(MissingError, match="fontconfig has no family 'No Such Face'"):
        _check_family("No Such Face")
