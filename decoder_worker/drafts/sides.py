"""Guesses the sides of the next box from the blocks of a hint and the boxes read so far. Pure.

The boxes of a text layer enclose the letters, those of a model a little more or less. The differences are learnt from
the cells that were read.
"""

import itertools
import math
from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dotsctl.protocol.page_geometry import Box, PageGeometry
from dotsctl.protocol.page_hint import PageHint

SAME_PX = 1.5
"""Distance below which two sides of blocks are the same line of the page, as the left edge of a column."""
TOLERANCE = 0.012
"""Distance from its expected place at which a side may still be that of a block, as a share of the page."""
LEARNT = 8
"""Latest cells whose differences count."""
LOOKED_AT = 24
"""Most blocks behind the latest one, and most from the beginning, that are compared with the sides of a new cell."""
OVERLAP = 0.5
"""Share that a cell and its blocks must have in common for their difference to be learnt."""


class Side(NamedTuple):
    """A guess of one side of a box, in pixels of the resized page."""

    value: int
    is_known: bool
    """Whether a cell was read that had this side."""
    has_block: bool


@dataclass
class BlockBoxes:
    """The boxes of a hint in pixels of the resized page, and what the cells read so far tell about them."""

    boxes: list[Box | None]
    """The boxes in the order of the hint; none: a block without a place."""
    size: tuple[int, int]
    """Width and height of the resized page."""
    last_block: int = -1
    """The latest of the blocks that lie in a cell which was read."""
    _seen: list[list[tuple[float, int]]] = field(default_factory=lambda: [[], [], [], []])
    """The place of the block and that of the cell, for each side of matched cells, the newest last."""
    _cells: list[Sequence[int]] = field(default_factory=list)
    _step: int = 0
    """Greatest common divisor of all sides that were read."""

    def __post_init__(self) -> None:
        self._open = [index for index, box in enumerate(self.boxes) if box is not None]
        """Blocks with a place that no cell has had yet, in order."""

    @property
    def is_done(self) -> bool:
        """Return whether there were blocks with places, and all of them are in cells."""
        return not self._open and self.last_block >= 0

    @classmethod
    def of(cls, hint: PageHint | None, geometry: PageGeometry | None) -> "BlockBoxes":
        """Scale the boxes of a hint to the resized page; without a geometry no block has a place."""
        if hint is None or geometry is None:
            return cls([None] * len(hint.blocks if hint else ()), geometry.resized if geometry else (0, 0))
        boxes: list[Box | None] = []
        for block in hint.blocks:
            if block.box is None or hint.size is None:
                boxes.append(None)
                continue
            across, down = (side / unit for side, unit in zip(geometry.oriented, hint.size, strict=True))
            x0, y0, x1, y1 = block.box
            boxes.append(geometry.box_from_oriented((x0 * across, y0 * down, x1 * across, y1 * down)))
        return cls(boxes, geometry.resized)

    def learn(self, cell: Sequence[int]) -> list[int]:
        """Take the box of a cell that was read; returns the blocks in it that no cell before had, in their order."""
        self._cells.append(cell)
        for side in cell:
            self._step = math.gcd(self._step, side)
        slack = TOLERANCE * max(self.size)
        inside = [
            index
            for index in self._open
            if (box := self.boxes[index]) is not None
            and cell[0] - slack <= (box[0] + box[2]) / 2 <= cell[2] + slack
            and cell[1] <= (box[1] + box[3]) / 2 <= cell[3]
        ]
        if not inside:
            return []
        self._open = [index for index in self._open if index not in inside]
        self.last_block = inside[-1]
        union = _union([box for index in inside if (box := self.boxes[index]) is not None])
        if _overlap(union, cell) >= OVERLAP:
            for seen, place, side in zip(self._seen, union, cell, strict=True):
                seen.append((place, side))
        return inside

    def next_block(self, sides: Sequence[int], written: str, planned: Collection[int]) -> int | None:
        """Return the block that the next cell probably has; none: none fits.

        Args:
            sides: of the next cell that are complete.
            written: the digits of the side behind them.
            planned: blocks that earlier cells will have.
        """
        first = bisect_right(self._open, self.last_block)
        rotated = itertools.chain(self._open[first : first + LOOKED_AT], self._open[: min(first, LOOKED_AT)])
        for index in rotated:
            if index in planned:
                continue
            expected = [self.side(index, number).value for number in range(4)]
            near = all(abs(side - expected[number]) <= self._slack(number) for number, side in enumerate(sides))
            if near and len(sides) < 4 and written:
                value = int(written + completion(written, expected[len(sides)]))
                near = abs(value - expected[len(sides)]) <= self._slack(len(sides))
            if near:
                return index
        return None

    def side(self, block: int | None, number: int, sides: Sequence[int] = ()) -> Side:
        """Guess side ``number`` of the cell of a block; without one from the last cell and the ``sides`` before it."""
        box = self.boxes[block] if block is not None else None
        if box is None:
            return Side(self._from_cell_before(number, sides), False, False)
        seen = self._seen[number]
        for place, side in reversed(seen):
            if number % 2 == 0 and abs(place - box[number]) <= SAME_PX:
                return Side(side, True, True)
        shifts = [side - place for place, side in seen[-LEARNT:]]
        value = box[number] + (sum(shifts) / len(shifts) if shifts else 0.0)
        return Side(self._rounded(value), False, True)

    def _from_cell_before(self, number: int, sides: Sequence[int]) -> int:
        if not self._cells:
            return 0
        before = self._cells[-1]
        if number % 2 == 0:
            return before[number]
        if number == 1:
            gap = self._cells[-1][1] - self._cells[-2][3] if len(self._cells) > 1 else 0
            return before[3] + max(gap, 0)
        return (sides[1] if len(sides) > 1 else before[3]) + before[3] - before[1]

    def _slack(self, number: int) -> float:
        return TOLERANCE * max(self.size) * (1 if number < 2 else 2)

    def _rounded(self, value: float) -> int:
        step = self._step if len(self._cells) > 1 else 1
        return max(0, round(value / step) * step if step else round(value))


def completion(written: str, expected: int) -> str:
    """Return the digits behind those that are written which make the number that is nearest to the expected one."""
    if not written:
        return str(expected)
    best, distance = "", math.inf
    begun = int(written)
    for digits in range(6 - min(len(written), 5)):
        low, high = begun * 10**digits, (begun + 1) * 10**digits - 1
        value = min(max(expected, low), high)
        if abs(value - expected) < distance:
            best, distance = str(value)[len(str(begun)) :], abs(value - expected)
    return best


def _union(boxes: Sequence[Box]) -> Box:
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def _overlap(one: Box, other: Sequence[float]) -> float:
    """Return intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return common / (sum(areas) - common)
