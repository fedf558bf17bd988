"""Generated pages: what is drawn is what their truth says."""

import json
import random

import numpy as np
import pytest
from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.protocol.geometry import CELL_PX
from dotsctl.tools.pages import fonts as page_fonts
from dotsctl.tools.pages.elements import CATEGORIES, Element, GeneratedPage
from dotsctl.tools.pages.fonts import EVERYWHERE, FAMILIES, HELD_OUT, TRAINED, Family, families
from dotsctl.tools.pages.generator import FULL, SMALL, WHOLE, dense_page, generate_page
from dotsctl.tools.pages.noise import scanned
from dotsctl.tools.pages.words import VOCABULARIES
from PIL import Image

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


def pages(number: int, seed: int = 0, noise: float | None = 0.0) -> list[GeneratedPage]:
    rng = random.Random(seed)
    return [generate_page(rng, FULL, EVERYWHERE, noise=noise, words=VOCABULARIES["foreign"]) for _ in range(number)]


def test_a_page_is_a_function_of_its_seed() -> None:
    first, second, other = pages(2, 5, None), pages(2, 5, None), pages(2, 6, None)
    assert [page.elements for page in first] == [page.elements for page in second]
    assert all(np.array_equal(np.asarray(a.image), np.asarray(b.image)) for a, b in zip(first, second, strict=True))
    assert [page.text for page in first] != [page.text for page in other]


def test_pages_hold_all_categories_but_footnotes_and_formulas() -> None:
    found = {element.category for page in pages(40) for element in page.elements}
    assert found == set(CATEGORIES) - {"Footnote", "Formula"}


def test_all_ink_lies_inside_the_boxes_and_every_box_holds_ink() -> None:
    for page in (page for page in pages(12) if page.elements):  # an empty page may have dark paper
        ink = np.asarray(page.image.convert("L")) < 200
        outside = ink.copy()
        for element in page.elements:
            x0, y0, x1, y1 = (round(side) for side in element.box)
            if element.category != "Picture":  # a picture may be as bright as paper
                assert ink[y0 : y1 + 1, x0 : x1 + 1].any(), element
            outside[y0 : y1 + 1, x0 : x1 + 1] = False
        assert not outside.any()


def test_a_dense_page_is_full_of_complete_lines_of_several_sizes() -> None:
    page = dense_page(random.Random(0), EVERYWHERE, (10, 12), noise_share=0.0, words=VOCABULARIES["foreign"])
    ink = np.asarray(page.image.convert("L")) < 200
    for element in page.elements:
        x0, y0, x1, y1 = (round(side) for side in element.box)
        ink[y0 : y1 + 1, x0 : x1 + 1] = False
    assert not ink.any(), "every line lies inside its box, and none is cut by the edge"
    heights = {round(element.box[3] - element.box[1]) for element in page.elements}
    tops = [element.box[1] for element in page.elements]
    assert len(heights) >= 4 and tops == sorted(tops) and page.elements[-1].box[3] > 0.8 * page.image.height
    letters = [character for element in page.elements for character in element.text if character != " "]
    assert [glyph.character for glyph in page.glyphs] == letters
    documents = sum(len(page.glyphs) / page.image.size[1] for page in pages(20)) / 20
    assert len(page.glyphs) / page.image.height > documents


def test_elements_do_not_lie_on_each_other() -> None:
    for page in pages(12):
        boxes = [element.box for element in page.elements]
        for number, (a0, b0, a1, b1) in enumerate(boxes):
            for c0, d0, c1, d1 in boxes[:number]:
                shared = max(0.0, min(a1, c1) - max(a0, c0)) * max(0.0, min(b1, d1) - max(b0, d0))
                assert shared <= 0.25 * min((a1 - a0) * (b1 - b0), (c1 - c0) * (d1 - d0))


def test_glyphs_spell_the_words_of_their_elements() -> None:
    for page in pages(8):
        for number, element in enumerate(page.elements):
            spelled = "".join(glyph.character for glyph in page.glyphs if glyph.element == number)
            words = element.plain.replace(" ", "")
            if spelled.startswith("*") and element.category == "List-item":
                words = words.replace("-", "*", 1)  # a star is a mark of a list too, and its glyph is a star
            assert spelled == words


def test_the_layout_answer_is_the_list_that_dots_ocr_writes() -> None:
    page = GeneratedPage(
        Image.new("RGB", (200, 100)),
        (Element((10.4, 3, 51, 20), "Title", '# A "b"', 'A "b"'), Element((0, 30, 199.8, 100), "Picture", "", "")),
        (),
        "dejavu-sans",
    )
    assert page.layout((400, 100)) == (
        '[{"bbox": [20, 2, 102, 20], "category": "Title", "text": "# A \\"b\\""}, '
        '{"bbox": [0, 30, 400, 100], "category": "Picture"}]'
    )
    assert "text" not in page.layout((400, 100), with_text=False)
    assert page.text == 'A "b"'


def test_layout_answers_are_json_with_boxes_inside_the_page() -> None:
    for page in pages(8, noise=None):
        size = (round(page.image.width / CELL_PX) * CELL_PX, round(page.image.height / CELL_PX) * CELL_PX)
        for entry in json.loads(page.layout(size)):
            x0, y0, x1, y1 = entry["bbox"]
            assert 0 <= x0 < x1 <= size[0] and 0 <= y0 < y1 <= size[1]


def test_truth_turns_with_the_page() -> None:
    image = Image.new("RGB", (400, 400), (255, 255, 255))
    image.paste((0, 0, 0), (300, 40, 340, 60))
    page = GeneratedPage(image, (Element((300, 40, 340, 60), "Text", "x", "x"),), (), "dejavu-sans")
    turned = 0
    for seed in range(12):
        scan = scanned(random.Random(seed), page)
        rows, columns = np.nonzero(np.asarray(scan.image.convert("L")) < 110)
        x0, y0, x1, y1 = scan.elements[0].box
        assert np.allclose((columns.min(), rows.min(), columns.max(), rows.max()), (x0, y0, x1, y1), atol=2.5)
        turned += scan.elements[0].box != page.elements[0].box
    assert turned >= 3


def test_strength_zero_leaves_the_page_alone() -> None:
    (page,) = pages(1)
    assert scanned(random.Random(1), page, 0.0) is page


def test_sizes_are_those_of_the_style() -> None:
    rng = random.Random(2)
    small = [generate_page(rng, SMALL, EVERYWHERE, words=VOCABULARIES["foreign"]).image.size for _ in range(10)]
    assert all(5 * CELL_PX - 8 <= w <= 11 * CELL_PX + 8 and 3 * CELL_PX - 8 <= h <= 8 * CELL_PX + 8 for w, h in small)
    largest = generate_page(
        rng, WHOLE, EVERYWHERE, (WHOLE.rows[1], WHOLE.columns[1]), words=VOCABULARIES["foreign"]
    ).image.size
    assert abs(largest[0] - 784) <= 8 and abs(largest[1] - 1120) <= 8


def test_groups_of_families_are_put_together_once() -> None:
    assert families("everywhere,dejavu-sans") == EVERYWHERE
    assert set(families("trained,held-out")) == set(FAMILIES)
    assert not set(TRAINED) & set(HELD_OUT)
    assert len(TRAINED) >= 12 and len(HELD_OUT) >= 4
    with pytest.raises(UsageError, match="no font family 'comic'"):
        families("comic")


def test_a_missing_font_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "lost", Family("fonts-lost", "Lost-Regular.ttf", "Lost-Bold.ttf"))
    with pytest.raises(
        MissingError, match=r"Lost-Bold\.ttf of family lost is not installed: apt-get install fonts-lost"
    ):
        page_fonts.font("lost", 16, bold=True)
