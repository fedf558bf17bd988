"""Lines of text with their boxes to paragraphs, in reading order. Pure.

Boxes are x0, y0, x1, y1 from the upper left corner of the page. A hint need not be right: what is joined or ordered
otherwise than the model does it costs time, and no text.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dotsctl.protocol.page_geometry import Box
from dotsctl.protocol.page_hint import MAX_HINT_BLOCKS, MAX_HINT_BYTES, HintBlock, PageHint

HYPHENS = "-\u00ad\u2010"
LARGEST_GAP = 0.9
"""Space between two lines of a paragraph, in heights of a line."""
GROWTH = 0.3
"""Space that a further line of a paragraph may have in addition to the one before it, in heights of a line."""
OVERLAP = 0.5
"""Height by which a line may reach into the one above it, in heights of a line."""
EDGE = 0.8
"""Difference of the left edges of two lines of a paragraph, in heights of a line."""
INDENT = 3.0
"""Indent of the first line of a paragraph, and of the lines below the mark of a list, in heights of a line."""
SAME_SIZE = 0.2
"""Share by which the heights of two lines of a paragraph may differ."""
OCR_SIZES = 0.4
"""The same where a line is as high as its letters, which are not all as high as their font."""
RECENT = 8
"""Paragraphs that a line may continue: columns may take turns."""
GUTTER = 0.8
"""Least space between two columns, in heights of a line."""
COLUMN_LINES = 3
"""Least lines of a column."""
MOST_CUTS = 12
LIST_MARK = re.compile(r"(?:[•◦▪‣∙·\u2013*-]|\(?(?:\d{1,3}|[a-zA-Z])[.)])\s")


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line of text, or the part of it in one column."""

    text: str
    box: Box
    """The box of what is drawn."""
    top: float
    """Upper end of the tallest letters of its font; with ``bottom`` it measures the space between lines."""
    bottom: float

    @property
    def height(self) -> float:
        """Height of the letters of its font."""
        return self.bottom - self.top


@dataclass
class _Paragraph:
    lines: list[TextLine] = field(default_factory=list)
    box: Box = (0.0, 0.0, 0.0, 0.0)
    gap: float | None = None
    """Space between its last two lines; none: it has one line."""

    def add(self, line: TextLine) -> None:
        if self.lines:
            self.gap, self.box = line.top - self.lines[-1].bottom, union(self.box, line.box)
        else:
            self.box = line.box
        self.lines.append(line)

    def takes(self, line: TextLine, same_size: float) -> bool:
        """Return whether a line continues the paragraph."""
        last = self.lines[-1]
        height = min(last.height, line.height)
        gap = line.top - last.bottom
        most = LARGEST_GAP * height if self.gap is None else min(LARGEST_GAP * height, self.gap + GROWTH * height)
        if not -OVERLAP * height <= gap <= most or abs(last.height - line.height) > same_size * height:
            return False
        if min(last.box[2], line.box[2]) <= max(last.box[0], line.box[0]):
            return False
        return self._begins_like(line, height)

    def _begins_like(self, line: TextLine, height: float) -> bool:
        """Return whether the left edge of a line is that of the paragraph."""
        first, last = self.lines[0], self.lines[-1]
        shift = line.box[0] - last.box[0]
        if LIST_MARK.match(line.text):  # the model writes the items of a list into one cell
            return bool(LIST_MARK.match(first.text)) and abs(line.box[0] - first.box[0]) <= EDGE * height
        if abs(shift) <= EDGE * height:
            return True
        if LIST_MARK.match(last.text):
            return 0 < shift <= INDENT * height
        if len(self.lines) > 1:
            return False
        is_indented = -INDENT * height <= shift < 0
        is_centred = abs(line.box[0] + line.box[2] - last.box[0] - last.box[2]) <= EDGE * height
        return is_indented or is_centred


def paragraphs(lines: Iterable[TextLine], same_size: float = SAME_SIZE) -> list[HintBlock]:
    """Join lines to paragraphs: lines of one size below each other, with little space and the same left edge.

    Args:
        lines: in reading order; columns may take turns.
        same_size: share by which the heights of two lines of a paragraph may differ.

    Returns:
        The paragraphs in the order of their first lines.
    """
    found: list[_Paragraph] = []
    for line in lines:
        home = next((each for each in reversed(found[-RECENT:]) if each.takes(line, same_size)), None)
        if home is None:
            found.append(home := _Paragraph())
        home.add(line)
    return [HintBlock(joined([line.text for line in each.lines]), each.box) for each in found]


def joined(lines: Sequence[str]) -> str:
    """The lines of a paragraph in one; a word that a hyphen divides at the end of a line is rejoined."""
    text = ""
    for line in filter(None, map(str.strip, lines)):
        if text and _is_divided(text, line):
            text = text[:-1] + line
        elif text and text[-1] in HYPHENS and text[-2:-1].isalnum():
            text += line
        else:
            text = f"{text} {line}" if text else line
    return text


def _is_divided(text: str, following: str) -> bool:
    """Return whether the hyphen at the end of a line is not part of the word, as it is in ``state-of-the-art``."""
    word = text.rsplit(None, 1)[-1]
    is_hyphen = word[-1] in HYPHENS and word[-2:-1].isalpha()
    return is_hyphen and following[0].islower() and not any(hyphen in word[:-1] for hyphen in HYPHENS)


def union(one: Box, other: Box) -> Box:
    """The smallest box that holds both."""
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


def in_reading_order(lines: Sequence[TextLine], depth: int = 0) -> list[TextLine]:
    """Order lines from above to below, and columns from left to right: the page is cut at its white strips.

    Args:
        lines: in any order.
        depth: number of cuts that were made around these lines.
    """
    if len(lines) > 1 and depth < MOST_CUTS:
        parts = _columns(lines) or _bands(lines)
        if parts is not None:
            return [line for part in parts for line in in_reading_order(part, depth + 1)]
    return sorted(lines, key=lambda line: (round((line.top + line.bottom) / max(1.0, line.height)), line.box[0]))


def _columns(lines: Sequence[TextLine]) -> tuple[list[TextLine], list[TextLine]] | None:
    """The lines on both sides of the widest white strip from above to below; none: there are no columns."""
    least = GUTTER * sorted(line.height for line in lines)[len(lines) // 2]
    strips = [each for each in _strips([(line.box[0], line.box[2]) for line in lines]) if each[1] - each[0] > least]
    for _, end in sorted(strips, key=lambda each: each[0] - each[1]):
        left, right = [line for line in lines if line.box[0] < end], [line for line in lines if line.box[0] >= end]
        if min(len(left), len(right)) >= COLUMN_LINES:
            return left, right
    return None


def _bands(lines: Sequence[TextLine]) -> tuple[list[TextLine], list[TextLine]] | None:
    """The lines above and below a white strip, one that leaves columns on one side if there is any; none: no strip."""
    strips = _strips([(line.top, line.bottom) for line in lines])
    parts = [([a for a in lines if a.top < end], [b for b in lines if b.top >= end]) for _, end in strips]
    above = next((part for part in parts if _columns(part[1])), None)
    below = next((part for part in reversed(parts) if _columns(part[0])), None)
    widest = max(range(len(strips)), key=lambda place: strips[place][1] - strips[place][0], default=None)
    return above or below or (None if widest is None else parts[widest])


def _strips(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Begin and end of the free strips between spans, ascending."""
    found, reached = [], float("inf")
    for start, end in sorted(spans):
        if start > reached:
            found.append((reached, start))
        reached = end if reached == float("inf") else max(reached, end)
    return found


def limited(blocks: Iterable[HintBlock], size: tuple[float, float] | None, source: str) -> PageHint | None:
    """A hint of as much text as may travel; none: there is no text.

    Args:
        blocks: in reading order.
        size: width and height of the page in the unit of the boxes.
        source: name of the plugin.
    """
    kept: list[HintBlock] = []
    left = MAX_HINT_BYTES
    for block in blocks:
        if not left or len(kept) == MAX_HINT_BLOCKS:
            break
        content = block.text.encode(errors="replace")[:left]
        left -= len(content)
        if text := content.decode(errors="ignore"):
            kept.append(HintBlock(text, block.box))
    return PageHint(tuple(kept), size, source) if kept else None
