"""From a layout answer of the model to cells with boxes on the page, also when the answer is damaged JSON.

The model writes a list of ``{"bbox": [x0, y0, x1, y1], "category": ..., "text": ...}`` in pixels of the resized
page. Long answers are sometimes cut, and formulas bring backslashes that JSON does not know, so each cell is decoded
on its own: a damaged one costs only itself. Pure.
"""

import json
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from dotsctl.protocol.geometry import PageGeometry

CELL_START = re.compile(r'\{\s*"(?:bbox|category|text)"\s*:')
UNKNOWN_ESCAPE = re.compile(r'\\(["\\/bfnrt]|u[0-9a-fA-F]{4})|\\')
EMPTY_LIST = re.compile(r"\s*(?:```\w*\s*)?\[\s*\]\s*(?:```)?\s*")
"""What the model answers for a page without anything on it."""
LARGEST_PX = 1e7

PixelBox = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Cell:
    """One element of a page, in reading order."""

    bbox: PixelBox | None
    """x0, y0, x1, y1 in pixels of the page as viewers show it; none: the model gave no box that makes sense."""
    category: str
    """Caption, Footnote, Formula, List-item, Page-footer, Page-header, Picture, Section-header, Table, Text, Title."""
    text: str
    """Markdown; LaTeX in a Formula, HTML in a Table, empty in a Picture."""

    @property
    def markdown(self) -> str:
        """The cell as a block of a Markdown document; empty for a picture."""
        text = self.text.strip()
        if self.category == "Formula" and text and "$" not in text:
            return f"$$\n{text}\n$$"
        return text


def parse_cells(answer: str, geometry: PageGeometry) -> tuple[tuple[Cell, ...], tuple[str, ...]]:
    """The cells of a layout answer, and what had to be repaired, in words.

    Args:
        answer: what the model wrote.
        geometry: how the page was resized; its boxes are mapped back with it.
    """
    starts = [match.start() for match in CELL_START.finditer(answer)]
    cells: list[Cell] = []
    repairs: list[str] = []
    end = 0
    for number, (start, following) in enumerate(pairwise([*starts, len(answer)]), start=1):
        content, length, repair = _decode(answer[start:following], is_last=following == len(answer))
        end = start + length
        if repair:
            repairs.append(f"cell {number}: {repair}")
        if content is not None:
            cells.append(_cell(content, geometry))
            if cells[-1].bbox is None:
                repairs.append(f"cell {number}: no box of four pixels")
    if starts and "]" not in answer[end:] and "[" in answer[: starts[0]]:
        repairs.append("the list was not closed")
    return tuple(cells), tuple(repairs)


def _decode(text: str, is_last: bool) -> tuple[dict[str, Any] | None, int, str]:
    """The JSON object at the beginning of ``text``, how many characters it took, and the repair it needed."""
    escaped = UNKNOWN_ESCAPE.sub(lambda match: match[0] if match[1] else r"\\", text)
    attempts = [(text, ""), (escaped, "backslashes that JSON does not know")]
    if is_last:
        # A cut answer ends within a text, behind one, within a box or behind one.
        stem = escaped.rstrip().rstrip(",")
        attempts += [(stem + ending, "the answer is cut here") for ending in ('"}', "}", "]}")]
        attempts += [(stem[: stem.rfind(",")] + "}", "the answer is cut here")] if "," in stem else []
    for candidate, repair in attempts:
        try:
            content, length = json.JSONDecoder(strict=False).raw_decode(candidate)
        except (ValueError, RecursionError):
            continue  # the next attempt repairs more; the last one gives the cell up
        return content, min(length, len(text)), repair
    return None, len(text), "lost, it is no JSON"


def _cell(content: dict[str, Any], geometry: PageGeometry) -> Cell:
    category, text = content.get("category"), content.get("text")
    return Cell(
        bbox=_box(content.get("bbox"), geometry),
        category=_encodable(category) if isinstance(category, str) else "Text",
        text="" if text is None else _encodable(str(text)),
    )


def _encodable(text: str) -> str:
    """Without the halves of characters that a JSON escape such as ``\\ud800`` leaves and that no file takes."""
    return text.encode("utf-8", "replace").decode()


def _box(value: Any, geometry: PageGeometry) -> PixelBox | None:
    """Four numbers of resized pixels as whole pixels of the page as viewers show it."""
    if not (isinstance(value, list) and len(value) == 4):
        return None
    if not all(isinstance(side, (int, float)) and abs(side) <= LARGEST_PX for side in value):
        return None  # not numbers, or NaN, which is not below any limit
    x0, y0, x1, y1 = geometry.box_to_oriented((value[0], value[1], value[2], value[3]))
    return round(x0), round(y0), round(x1), round(y1)
