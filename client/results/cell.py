"""One element of a page, and how its box gets from the model's pixels to those of the page. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dotsctl.client.results.repairs import Repair
from dotsctl.protocol.geometry import PageGeometry

PixelBox = tuple[int, int, int, int]
PixelPoint = tuple[int, int]

KEYS = ("bbox", "category", "text")
"""The keys of a cell in the model's answer; an object with none of them is no cell."""
LARGEST_PX = 1e7
NUMBER = re.compile(r"\s*[+-]?[0-9]{1,12}(?:\.[0-9]*)?\s*")


@dataclass(frozen=True, slots=True)
class Cell:
    """One element of a page, in reading order."""

    bbox: PixelBox | None
    """x0, y0, x1, y1 in pixels of the page as viewers show it; none: the model gave no box that makes sense."""
    category: str
    """Caption, Footnote, Formula, List-item, Page-footer, Page-header, Picture, Section-header, Table, Text, Title;
    Scene-text for a line of the task ``scene``."""
    text: str
    """Markdown; LaTeX in a Formula, HTML in a Table, empty in a Picture."""
    polygon: tuple[PixelPoint, ...] | None = None
    """Four corners of slanted text, clockwise from its beginning, in the pixels of ``bbox``; none: the box is all."""

    @property
    def markdown(self) -> str:
        """The cell as a block of a Markdown document; empty for a picture."""
        from dotsctl.client.results.markdown import block

        return block(self)

    def record(self) -> dict[str, Any]:
        """The cell as JSON."""
        content: dict[str, Any] = {
            "bbox": self.bbox and list(self.bbox),
            "category": self.category,
            "text": self.text,
        }
        return content | ({"polygon": [list(point) for point in self.polygon]} if self.polygon else {})


def cell_of(content: Mapping[str, Any], geometry: PageGeometry) -> tuple[Cell, list[Repair]]:
    """The cell that a JSON object of the model describes, and what was wrong with it."""
    category, text = content.get("category"), content.get("text")
    sides, problems = _sides(content.get("bbox"))
    if sides and _is_outside(sides, geometry):
        problems.append(Repair.BOX_OUTSIDE)
    if isinstance(text, list) and all(isinstance(line, str) for line in text):
        text = "\n".join(text)
    if not (text is None or isinstance(text, (str, int, float))):
        text = None
        problems.append(Repair.NO_TEXT)
    cell = Cell(
        bbox=sides and box_on_page(sides, geometry),
        category=encodable(category) if isinstance(category, str) and category else "Text",
        text="" if text is None else encodable(str(text)),
    )
    return cell, problems


def encodable(text: str) -> str:
    """Return the text without lone surrogates, which a JSON escape such as ``\\ud800`` leaves and no file takes."""
    return text.encode("utf-8", "replace").decode()


def box_on_page(sides: tuple[float, float, float, float], geometry: PageGeometry) -> PixelBox:
    """Return a box in resized pixels as whole pixels of the page as viewers show it, clamped to the page."""
    x0, y0, x1, y1 = geometry.box_to_oriented(sides)
    return round(x0), round(y0), round(x1), round(y1)


def _is_outside(sides: tuple[float, float, float, float], geometry: PageGeometry) -> bool:
    """Check whether a box, in resized pixels, lies off the page; clamped, it is a point or a line on its edge."""
    x0, y0, x1, y1 = sides
    width, height = geometry.resized
    return max(x0, x1) < 0 or max(y0, y1) < 0 or min(x0, x1) > width or min(y0, y1) > height


def _sides(value: Any) -> tuple[tuple[float, float, float, float] | None, list[Repair]]:
    """The four numbers of a box as the model wrote them, and what is wrong with them."""
    if not (isinstance(value, list) and len(value) == 4):
        return None, [Repair.NO_BOX]
    is_quoted = any(isinstance(side, str) for side in value)
    numbers = [float(side) if isinstance(side, str) and NUMBER.fullmatch(side) else side for side in value]
    if not all(is_pixel(side) for side in numbers):
        return None, [Repair.NO_BOX]
    return (numbers[0], numbers[1], numbers[2], numbers[3]), [Repair.BOX_IN_QUOTES] if is_quoted else []


def is_pixel(value: Any) -> bool:
    """Return whether it is a number that can be a coordinate; NaN is not, as it is not below any limit."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST_PX
