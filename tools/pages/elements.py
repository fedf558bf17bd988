"""The elements of a generated page, and the answers that a model is to give about it. Pure."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

CATEGORIES = (
    "Caption",
    "Footnote",
    "Formula",
    "List-item",
    "Page-footer",
    "Page-header",
    "Picture",
    "Section-header",
    "Table",
    "Text",
    "Title",
)
"""The categories of dots.ocr; the generator draws all but Footnote and Formula."""
BOX_STEP_PX = 2
"""Boxes are rounded outwards to multiples of this: it halves the numbers to be learnt and is below a stroke's width."""

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""


@dataclass(frozen=True)
class Element:
    """One element of a page."""

    box: Box
    """The box around its ink, in pixels of the page's image."""
    category: str
    text: str
    """Markdown, HTML in a Table, empty in a Picture."""
    plain: str
    """The words as printed, with one blank between them."""


@dataclass(frozen=True)
class Glyph:
    """One printed character."""

    x: float
    """Centre of its advance, in pixels of the page's image."""
    y: float
    """Middle of its line."""
    character: str
    element: int
    """The position of its element in the page's list."""


@dataclass(frozen=True)
class GeneratedPage:
    """A page with its truth."""

    image: Image.Image
    """RGB."""
    elements: tuple[Element, ...]
    """The elements in reading order."""
    glyphs: tuple[Glyph, ...]
    family: str
    """Font family; empty on a page without text."""

    @property
    def text(self) -> str:
        """Answer to the task ``text``: the words, a new line for each element."""
        return "\n".join(element.plain for element in self.elements if element.plain)

    def layout(self, size: tuple[int, int], *, with_text: bool = True) -> str:
        """Answer to the tasks ``layout`` and ``layout-only``, as dots.ocr writes it.

        Args:
            size: width and height of the resized page, in whose pixels the boxes are.
            with_text: false for ``layout-only``.
        """
        across, down = size[0] / self.image.width, size[1] / self.image.height
        entries = []
        for element in self.elements:
            x0, y0, x1, y1 = element.box
            box = _outwards((x0 * across, y0 * down, x1 * across, y1 * down), size)
            entry: dict[str, Any] = {"bbox": box, "category": element.category}
            if with_text and element.category != "Picture":
                entry["text"] = element.text
            entries.append(entry)
        return json.dumps(entries, ensure_ascii=False)

    def moved(self, move: Callable[[float, float], tuple[float, float]], image: Image.Image) -> "GeneratedPage":
        """The page on another image, with every point where ``move`` puts it; boxes stay upright."""
        elements = tuple(replace(element, box=_around(element.box, move)) for element in self.elements)
        glyphs = []
        for glyph in self.glyphs:
            x, y = move(glyph.x, glyph.y)
            glyphs.append(replace(glyph, x=x, y=y))
        return replace(self, image=image, elements=elements, glyphs=tuple(glyphs))


def _outwards(box: Box, size: tuple[int, int]) -> list[int]:
    """The box with even sides, inside the page."""
    step = BOX_STEP_PX
    x0, y0 = (max(0, math.floor(side / step) * step) for side in box[:2])
    x1, y1 = (min(limit, math.ceil(side / step) * step) for side, limit in zip(box[2:], size, strict=True))
    return [x0, y0, x1, y1]


def _around(box: Box, move: Callable[[float, float], tuple[float, float]]) -> Box:
    x0, y0, x1, y1 = box
    corners = [move(x, y) for x in (x0, x1) for y in (y0, y1)]
    across, down = zip(*corners, strict=True)
    return min(across), min(down), max(across), max(down)
