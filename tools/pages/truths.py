"""Pages whose content is known: generated ones, and those of a folder."""

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dotsctl.protocol.errors import UsageError
from dotsctl.protocol.geometry import CELL_PX
from dotsctl.tools.pages.elements import Element
from dotsctl.tools.pages.fonts import EVERYWHERE, font
from dotsctl.tools.pages.generator import STYLES, generate_page
from dotsctl.tools.pages.words import VOCABULARIES
from PIL import Image

NO_TEXT = "(no text)"
"""The name of the group of pages without text."""
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
TEXTS = (".md", ".txt")
PLAIN_CATEGORIES = {
    "title": "Section-header",
    "text_block": "Text",
    "figure": "Picture",
    "figure_caption": "Caption",
    "table": "Table",
    "table_caption": "Caption",
    "table_footnote": "Footnote",
    "figure_footnote": "Footnote",
    "page_footnote": "Footnote",
    "equation_isolated": "Formula",
    "header": "Page-header",
    "footer": "Page-footer",
    "page_number": "Page-footer",
    "code_txt": "Text",
    "reference": "Text",
}
"""Categories of OmniDocBench under the names of dots.ocr; others are left out, as its own evaluation does."""


@dataclass(frozen=True)
class Truth:
    """One page and its content."""

    name: str
    image: Image.Image | Path
    text: str
    """The text that the task ``text`` is to answer."""
    group: str
    """Font or kind of document, by which the errors are summed."""
    elements: tuple[Element, ...] | None = None
    """The elements in reading order, boxes in pixels of the image; none: only the text is known."""
    is_plain: bool = False
    """The text has no marks of Markdown or HTML: tables are their words in reading order."""
    titles_are_headers: bool = False
    """Titles are not distinguished from Section-headers."""

    @property
    def markdown(self) -> str:
        """The text that the task ``layout`` is to answer, without boxes."""
        if self.elements is None:
            return self.text
        return "\n\n".join(element.text for element in self.elements if element.text)


def generated_pages(
    num_pages: int,
    seed: int,
    style: str,
    families: tuple[str, ...],
    noise: float | None = None,
    type_px: int | None = None,
    vocabulary: str = "foreign",
    size: tuple[int, int] | None = None,
) -> Iterator[Truth]:
    """Yield complete pages; page ``i`` depends on ``seed + i`` and on the other arguments alone.

    Args:
        num_pages: how many.
        seed: of the first one; training takes no seed that is a number.
        style: one of STYLES.
        families: of fonts, taken in turn.
        noise: strength of the scan; none: that of the style.
        type_px: size of the body's type on all pages; none: that of the style.
        vocabulary: one of VOCABULARIES.
        size: width and height in pixels, up to 8 px more or less; none: drawn from the style.

    Raises:
        MissingError: a font is not installed.
    """
    look = STYLES[style] if type_px is None else replace(STYLES[style], body_px=(type_px, type_px))
    for family in families:
        font(family, 16)
    grid = (round(size[1] / CELL_PX), round(size[0] / CELL_PX)) if size else None
    for number in range(seed, seed + num_pages):
        family = families[number % len(families)]
        rng, words = random.Random(number), VOCABULARIES[vocabulary]
        page = generate_page(rng, look, (family,), grid, noise, words)
        yield Truth(f"{style} {number}", page.image, page.text, page.family or NO_TEXT, page.elements)


def printed_pages(num_pages: int, seed: int) -> Iterator[Truth]:
    """Yield pages that can be drawn on every machine, of up to 336x280 px: tools measure a model on them by default.

    Their words are those that the demo model that ships was trained on.

    Raises:
        MissingError: matplotlib, which has the fonts, is not installed.
    """
    return generated_pages(num_pages, seed, "medium", EVERYWHERE, vocabulary="documentation")


def folder_pages(folder: Path) -> Iterator[Truth]:
    """Yield the pictures that have a Markdown (``.md``) or plain text (``.txt``) file of the same name next to them.

    Raises:
        UsageError: there is none, or a picture has no text.
    """
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    if not found:
        raise UsageError(f"{folder} holds no picture ({', '.join(PICTURES)})")
    for path in found:
        texts = [path.with_suffix(suffix) for suffix in TEXTS if path.with_suffix(suffix).is_file()]
        if not texts:
            raise UsageError(f"{path.name} has no text of the same name", f"write {path.stem}.md or {path.stem}.txt")
        is_plain = texts[0].suffix == ".txt"
        yield Truth(path.name, path, texts[0].read_text(encoding="utf-8"), folder.name, is_plain=is_plain)


def omnidocbench_pages(file: Path, images: Path | None = None) -> Iterator[Truth]:
    """Pages of an annotation file in the form of OmniDocBench; their groups are its sources of documents.

    Args:
        file: the JSON file.
        images: folder of the pictures; none: ``images`` next to the file.

    Raises:
        UsageError: the file has another form, or a picture is missing.
    """
    images = images or file.parent / "images"
    try:
        for page in json.loads(file.read_text(encoding="utf-8")):
            about = page["page_info"]
            path = images / Path(about["image_path"]).name
            elements = tuple(_elements(page["layout_dets"]))
            text = "\n\n".join(element.plain for element in elements if element.plain)
            group = str(about.get("page_attribute", {}).get("data_source", file.stem))
            if not path.is_file():
                raise UsageError(f"{path} is missing: {file.name} names it")
            yield Truth(path.name, path, text, group, elements, titles_are_headers=True)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{file} is no annotation file of OmniDocBench: {type(error).__name__} {error}") from None


def _elements(entries: Iterable[dict[str, Any]]) -> Iterator[Element]:
    """Elements in reading order; ignored ones and categories that dots.ocr does not have are left out."""
    kept = [entry for entry in entries if entry["category_type"] in PLAIN_CATEGORIES and not entry.get("ignore")]
    kept.sort(key=lambda entry: (entry.get("order") is None, entry.get("order") or 0))
    for entry in kept:
        across, down = entry["poly"][0::2], entry["poly"][1::2]
        category = PLAIN_CATEGORIES[entry["category_type"]]
        text = entry.get("html" if category == "Table" else "latex" if category == "Formula" else "text") or ""
        furniture = category in ("Page-header", "Page-footer", "Picture")
        yield Element((min(across), min(down), max(across), max(down)), category, text, "" if furniture else text)
