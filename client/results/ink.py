"""The ink of a page: which of its pixels are print, how the page is turned, and the ink within a box. Uses NumPy."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dotsctl.client.results.cell import PixelBox
from dotsctl.client.results.ink_bands import bands, closed, filled_lines, runs_of

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    Array = np.ndarray[Any, Any]

LEAST_CONTRAST = 40
"""Grey levels by which ink differs from paper, of 255."""
INK_SHARE = 0.4
"""The part of the contrast from which a pixel counts as ink."""
STRIP_PX = 16
"""The width of columns that are shifted together where a page is turned."""
MOST_SKEW = math.tan(math.radians(3))
LEAST_GAIN = 1.03
"""The gain in sharpness of its rows, turned back, from which a page counts as turned."""
RULE_EM = (5.0, 2.2)
"""Ink that is longer than this without a gap is a rule and no letter: across and down, in em."""


@dataclass(frozen=True, slots=True)
class InkRow:
    """One printed line: its ink in straightened rows, and the runs of columns with ink."""

    top: int
    bottom: int
    runs: tuple[tuple[int, int], ...]
    """Columns from and to, without the latter; from left to right."""


class CellInk:
    """The ink within a box of the page, straightened."""

    def __init__(self, ink: "Array", left: int, top: int, shifts: "Array") -> None:
        """Take the ink.

        Args:
            ink: bool, (rows, columns), straightened.
            left, top: the place of its first pixel on the page.
            shifts: pixels by which each column was moved up.
        """
        self._ink, self._left, self._top, self._shifts = ink, left, top, shifts

    def rows(self, em_px: float) -> list[InkRow]:
        """Return the printed lines from top to bottom, for type of about ``em_px`` pixels."""
        rows = []
        for top, bottom in bands(self._ink, em_px):
            columns = filled_lines(self._ink[top:bottom], 0)  # (columns)
            runs = runs_of(columns)
            if runs:
                least = max(1.0, 0.07 * em_px)
                rows.append(InkRow(top, bottom, closed(runs, least)))
        return rows

    def box(self, row: InkRow, start: int, end: int) -> PixelBox:
        """Return the box around the ink of a printed line between two columns, in pixels of the page."""
        part = self._ink[row.top : row.bottom, start:end]
        filled = filled_lines(part, 1).nonzero()[0]
        top, bottom = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, row.bottom - row.top)
        shift = int(self._shifts[(start + end) // 2])
        y0 = self._top + row.top + top + shift
        return self._left + start, y0, self._left + end, y0 + bottom - top


class PageInk:
    """The pixels of a page as ink."""

    def __init__(self, image: "Image.Image") -> None:
        """``image`` is the page as viewers show it."""
        import numpy as np

        self._grey = np.asarray(image.convert("L"))  # (height, width), uint8
        self._skew = _skew(_ink_of(self._grey))

    def cell(self, bbox: PixelBox, margin_px: int, em_px: float) -> CellInk | None:
        """Return the ink in a box and around it; none: there is none."""
        import numpy as np

        height, width = self._grey.shape
        x0, y0, x1, y1 = bbox
        x0, x1 = max(0, x0 - margin_px), min(width, x1 + margin_px)
        y0, y1 = max(0, y0 - margin_px), min(height, y1 + margin_px)
        if x0 >= x1 or y0 >= y1:
            return None
        ink = _ink_of(self._grey[y0:y1, x0:x1])
        middle = np.arange(x1 - x0) // STRIP_PX * STRIP_PX + STRIP_PX / 2 - (x1 - x0) / 2
        shifts = np.rint(middle * self._skew).astype(int)  # (columns)
        ink = _shifted(ink, shifts)
        ink &= ~_rules(ink, em_px, is_turned=self._skew != 0)
        return CellInk(ink, x0, y0, shifts) if ink.any() else None


def _ink_of(grey: "Array") -> "Array":
    """Return which pixels are ink: those that differ from most of the others, darker or, on a dark ground, lighter."""
    import numpy as np

    paper = float(np.median(grey))
    dark, light = (float(each) for each in np.percentile(grey, (1, 99)))
    if dark == light == paper:
        dark, light = float(grey.min()), float(grey.max())
    if max(paper - dark, light - paper) < LEAST_CONTRAST:
        return np.zeros(grey.shape, bool)
    if paper - dark >= light - paper:
        return grey < paper - INK_SHARE * (paper - dark)
    return grey > paper + INK_SHARE * (light - paper)


def _rules(ink: "Array", em_px: float, *, is_turned: bool) -> "Array":
    """Return the pixels of long straight strokes: rules of tables, underlines, frames, filled areas.

    On a turned page strokes across have steps of a pixel, and strokes down lean: both may move to the next row or
    column on their way.
    """
    across, down = (max(8, round(length * em_px)) for length in RULE_EM)
    if not is_turned:
        return _opened(ink, across) | _opened(ink.T, down).T
    return ink & (_opened(_thick(ink), across) | _opened(_thick(ink.T), down).T)


def _thick(ink: "Array") -> "Array":
    """Return the ink one row higher and lower."""
    thick = ink.copy()
    thick[1:] |= ink[:-1]
    thick[:-1] |= ink[1:]
    return thick


def _opened(ink: "Array", length: int) -> "Array":
    """Return the pixels of runs along rows that have at least a length."""
    import numpy as np

    rows, columns = ink.shape
    if columns < length:
        return np.zeros(ink.shape, bool)
    sums = np.zeros((rows, columns + 1), np.int32)
    np.cumsum(ink, axis=1, out=sums[:, 1:])
    starts = sums[:, length:] - sums[:, :-length] == length  # (rows, columns - length + 1)
    marks = np.zeros((rows, columns + 1), np.int32)
    marks[:, : starts.shape[1]] += starts
    marks[:, length:] -= starts
    return np.cumsum(marks, axis=1)[:, :-1] > 0


def _shifted(ink: "Array", shifts: "Array") -> "Array":
    """Return the ink with each column moved up by its shift; what leaves the edge is lost, as it is of other lines."""
    import numpy as np

    if not shifts.any():
        return ink
    moved = np.zeros_like(ink)
    for shift in np.unique(shifts):
        columns = shifts == shift
        if shift >= 0:
            moved[: len(ink) - shift, columns] = ink[shift:, columns]
        else:
            moved[-shift:, columns] = ink[:shift, columns]
    return moved


def _skew(ink: "Array") -> float:
    """Return how far lines go down for each pixel to the right; 0 where the page is upright or nothing shows it."""
    import numpy as np

    rows, columns = ink.shape
    width = max(STRIP_PX, columns // 40)
    count = columns // width
    if count < 4 or rows < 40:
        return 0.0
    strips = ink[:, : count * width].reshape(rows, count, width).sum(axis=2, dtype=np.float32)  # (rows, strips)
    middle = (np.arange(count) + 0.5) * width - columns / 2

    def sharpness(skew: float) -> float:
        shifts = np.rint(middle * skew).astype(int)
        profile = np.zeros(rows, np.float32)
        for strip, shift in enumerate(shifts):
            profile += np.roll(strips[:, strip], -shift)
        return float((np.diff(profile) ** 2).sum())

    upright = sharpness(0.0)
    candidates = np.linspace(-MOST_SKEW, MOST_SKEW, 61)
    best = max(candidates, key=sharpness)
    finer = np.linspace(best - MOST_SKEW / 30, best + MOST_SKEW / 30, 9)
    best = max(finer, key=sharpness)
    return float(best) if sharpness(best) > LEAST_GAIN * upright else 0.0
