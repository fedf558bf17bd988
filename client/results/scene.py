"""Parses the answer to the task ``scene`` into cells: one line for each text that was seen, with its corners. Pure.

A line is ``(x1,y1),(x2,y2),(x3,y3),(x4,y4) text`` in pixels of the resized page. A line without corners continues the
text of the one before.
"""

import re

from dotsctl.client.results.cell import Cell, PixelPoint, encodable, is_pixel
from dotsctl.client.results.repairs import Repair
from dotsctl.protocol.geometry import PageGeometry

SCENE_TEXT = "Scene-text"
NUMBER = r"[-+]?[0-9]{1,9}(?:\.[0-9]*+)?"
POINT = re.compile(rf"\(\s*+({NUMBER})\s*+,\s*+({NUMBER})\s*+\)")
CORNERS = re.compile(rf"[\[\s]*+((?:{POINT.pattern}[\s,]*+)++)\]?(.*)", re.DOTALL)
BEGUN = re.compile(r"[\[\s]*\([\s0-9.,()+-]*")
"""Corners that are not at their end."""


class SceneStream:
    """Reads one answer in pieces: gives each text as soon as the next one begins."""

    def __init__(self, geometry: PageGeometry) -> None:
        """Corners are mapped to the page by ``geometry``."""
        self._geometry = geometry
        self._line = ""
        """The line that has not come to its end."""
        self._lines: list[str] = []
        """The lines of the text that is being read."""
        self._number = 0
        self._repairs: list[str] = []

    def push(self, text: str) -> list[Cell]:
        """Take the next piece of the answer; returns the cells that it completes."""
        *lines, self._line = (self._line + text).split("\n")
        cells = [cell for line in lines for cell in self._take(line)]
        return cells + self._flush() if CORNERS.fullmatch(self._line) else cells

    def finish(self) -> tuple[list[Cell], tuple[str, ...]]:
        """End the answer: return the last cells, and all that was wrong, as text."""
        line, self._line = self._line, ""
        if BEGUN.fullmatch(line) and len(POINT.findall(line)) < 4:
            self._repairs.append(Repair.CUT)
            line = ""
        return [*self._take(line), *self._flush()], tuple(self._repairs)

    def _take(self, line: str) -> list[Cell]:
        """Take a complete line; return the cell before it when it begins another one."""
        if CORNERS.fullmatch(line):
            done = self._flush()
            self._lines = [line]
            return done
        if self._lines and line.strip():
            self._lines.append(line)
        return []

    def _flush(self) -> list[Cell]:
        """The text that is being read is at its end."""
        found = CORNERS.fullmatch(self._lines[0]) if self._lines else None
        if found is None:
            return []
        self._number += 1
        text = "\n".join([found[4], *self._lines[1:]]).strip()
        self._lines = []
        points = [(float(x), float(y)) for x, y in POINT.findall(found[1])]
        if len(points) != 4 or not all(is_pixel(side) for point in points for side in point):
            self._repairs.append(Repair.NO_BOX.of_cell(self._number))
            return [Cell(None, SCENE_TEXT, encodable(text))]
        polygon = tuple(self._on_page(*point) for point in points)
        xs, ys = zip(*polygon, strict=True)
        return [Cell((min(xs), min(ys), max(xs), max(ys)), SCENE_TEXT, encodable(text), polygon)]

    def _on_page(self, x: float, y: float) -> PixelPoint:
        """A point in resized pixels as one of the page as viewers show it, clamped to the page."""
        left, top, _, _ = self._geometry.box_to_oriented((x, y, x, y))
        return round(left), round(top)
