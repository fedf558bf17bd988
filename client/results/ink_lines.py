"""Finds the lines and words of a cell by its ink: rows of ink are lines, gaps in them end words."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from dotsctl.client.results.alignment import Alignment, Blob, Span, align, em_of_ink
from dotsctl.client.results.cell import PixelBox
from dotsctl.client.results.estimated_lines import em_guess
from dotsctl.client.results.ink import CellInk, InkRow, PageInk
from dotsctl.client.results.placed import Line, PlacedPiece, joined
from dotsctl.client.results.printed import Printed, PrintedPiece

if TYPE_CHECKING:
    from PIL import Image

MOST_COST = 3.5
"""The mean cost of a piece above which the ink is not that of the text."""
GOOD_COST = 0.7
"""The mean cost of a piece up to which no other order of reading is tried."""
LEAST_PLACED = 0.5
"""The share of pieces that must have ink of their own."""
CLOSE_EM = 0.35
"""The distance at which ink that no piece has belongs to the piece before it."""
WIDE_EM = 1.25
"""Signs of a script without spaces touch; ink that is wider is cut into parts of an em."""


class InkLines:
    """A :class:`~dotsctl.client.results.lines.LineSource`: the pixels of one page."""

    def __init__(self, image: "Image.Image") -> None:
        """``image`` is the page as viewers show it."""
        self._page = PageInk(image)

    def lines(self, bbox: PixelBox, text: Printed) -> tuple[Line, ...] | None:
        """See :meth:`LineSource.lines`."""
        em_px = em_guess(bbox, text)
        ink = self._page.cell(bbox, max(2, round(0.12 * em_px)), em_px)
        rows = ink.rows(em_px) if ink is not None else []
        if ink is None or not rows:
            return None
        blobs = _blobs(rows, text, em_px)
        found, blobs = _best(text, blobs, em_px)
        num_placed = sum(span is not None for span in found.spans)
        if found.cost > MOST_COST or num_placed < LEAST_PLACED * len(text.pieces):
            return None
        return joined(_Placing(ink, rows, blobs, text).placed(_grown(found.spans, blobs, em_px)))


def _best(text: Printed, blobs: list[Blob], em_px: float) -> tuple[Alignment, list[Blob]]:
    """Return the alignment of a text, and the blobs in the order that its spans count.

    The rows of a table are read line by line; where its cells have several lines, each column is read on its own.
    """
    found = _aligned(text.pieces, blobs, em_of_ink(text.pieces, blobs, em_px))
    columns = _columns(text, blobs) if found.cost > GOOD_COST else None
    if columns is None:
        return found, blobs
    spans: list[Span | None] = [None] * len(text.pieces)
    cost, ordered = 0.0, list[Blob]()
    for field, own in enumerate(columns):
        places = [place for place, piece in enumerate(text.pieces) if piece.field == field]
        if places and own:
            pieces = [text.pieces[place] for place in places]
            column = _aligned(pieces, own, em_of_ink(pieces, own, em_px))
            for place, span in zip(places, column.spans, strict=True):
                spans[place] = span and Span(span.first + len(ordered), span.last + len(ordered))
            cost += column.cost * len(pieces)
        ordered += own
    by_columns = Alignment(tuple(spans), cost / len(text.pieces))
    is_better = by_columns.cost < found.cost and any(spans)
    return (by_columns, ordered) if is_better else (found, blobs)


def _columns(text: Printed, blobs: Sequence[Blob]) -> list[list[Blob]] | None:
    """Return the blobs of each column of a table, divided at its widest gaps; none: it has fewer gaps than columns."""
    num_columns = max(piece.field for piece in text.pieces) + 1
    reached, gaps = float("-inf"), list[tuple[float, float]]()
    for blob in sorted(blobs, key=lambda each: each.start):
        if blob.start > reached > float("-inf"):
            gaps.append((blob.start - reached, blob.start))
        reached = max(reached, blob.end)
    if num_columns == 1 or len(gaps) < num_columns - 1:
        return None
    edges = sorted(start for _, start in sorted(gaps)[-(num_columns - 1) :])
    columns: list[list[Blob]] = [[] for _ in range(num_columns)]
    for blob in blobs:
        columns[sum(edge <= blob.start for edge in edges)].append(blob)
    return columns


def _aligned(pieces: Sequence[PrintedPiece], blobs: Sequence[Blob], em_px: float) -> Alignment:
    """Return the alignment; once more with the type size that the first one shows, if that is another one."""
    found = align(pieces, blobs, em_px)
    ratios = [
        (blobs[span.last - 1].end - blobs[span.first].start) / piece.width_em
        for piece, span in zip(pieces, found.spans, strict=True)
        if span is not None and blobs[span.first].line == blobs[span.last - 1].line
    ]
    if not ratios or abs((shown := median(ratios)) / em_px - 1) < 0.05:
        return found
    again = align(pieces, blobs, shown)
    return min(found, again, key=lambda each: each.cost)


def _grown(spans: Sequence[Span | None], blobs: Sequence[Blob], em_px: float) -> list[Span | None]:
    """Return spans with the ink behind them that no piece has and that is close, as a comma in wide type."""
    taken = {blob for span in spans if span for blob in range(*span)}
    grown: list[Span | None] = []
    for span in spans:
        while span and span.last < len(blobs) and span.last not in taken:
            before, blob = blobs[span.last - 1], blobs[span.last]
            if blob.line != before.line or blob.start - before.end > CLOSE_EM * em_px:
                break
            span = Span(span.first, span.last + 1)
        grown.append(span)
    return grown


def _blobs(rows: Sequence[InkRow], text: Printed, em_px: float) -> list[Blob]:
    """Return the ink of all lines in the direction of reading; columns of right-to-left text are negative."""
    is_cut = any(piece.is_glued for piece in text.pieces)
    blobs = []
    for number, row in enumerate(rows):
        runs = [part for run in row.runs for part in (_cut(run, em_px) if is_cut else [run])]
        if text.is_rtl:
            blobs += [Blob(number, -end, -start) for start, end in reversed(runs)]
        else:
            blobs += [Blob(number, start, end) for start, end in runs]
    return blobs


def _cut(run: tuple[int, int], em_px: float) -> list[tuple[int, int]]:
    start, end = run
    count = round((end - start) / em_px) if end - start > WIDE_EM * em_px else 1
    edges = [start + round((end - start) * number / count) for number in range(count + 1)]
    return list(pairwise(edges))


class _Placing:
    """Turns spans of blobs into boxes."""

    def __init__(self, ink: CellInk, rows: Sequence[InkRow], blobs: Sequence[Blob], text: Printed) -> None:
        self._ink, self._rows, self._blobs, self._text = ink, rows, blobs, text

    def placed(self, spans: Sequence[Span | None]) -> list[PlacedPiece]:
        """Return all pieces with boxes; one without ink is given the place between its neighbours."""
        spans = self._turned(spans)
        placed: list[PlacedPiece] = []
        for number, (piece, span) in enumerate(zip(self._text.pieces, spans, strict=True)):
            if span is not None:
                placed.append(PlacedPiece(piece, self._box(span), self._blobs[span.first].line))
                continue
            neighbour = next((each for each in (*reversed(spans[:number]), *spans[number + 1 :]) if each), None)
            assert neighbour is not None  # half of all pieces have ink
            follows = any(spans[:number])
            if piece.is_glued and spans[number - 1] is not None:  # the ink of both touches
                placed.append(PlacedPiece(piece, placed[-1].bbox, placed[-1].line))
                continue
            line = self._blobs[(neighbour.last - 1) if follows else neighbour.first].line
            placed.append(PlacedPiece(piece, self._next_to(neighbour, line, follows=follows), line, estimated=True))
        return placed

    def _box(self, span: Span) -> PixelBox:
        """The box of the part of a span that is on its first line."""
        line = self._blobs[span.first].line
        ends = [blob.end for blob in self._blobs[span.first : span.last] if blob.line == line]
        start, end = int(self._blobs[span.first].start), int(ends[-1])
        if self._text.is_rtl:
            start, end = -end, -start
        return self._ink.box(self._rows[line], start, end)

    def _next_to(self, neighbour: Span, line: int, *, follows: bool) -> PixelBox:
        """The box of a mark as wide as it is high is, behind the neighbour's ink or in front of it."""
        x0, y0, x1, y1 = self._box(neighbour)
        width = max(1, (y1 - y0) // 4)
        on_right = follows != self._text.is_rtl
        return (x1, y0, x1 + width, y1) if on_right else (max(0, x0 - width), y0, max(1, x0), y1)

    def _turned(self, spans: Sequence[Span | None]) -> list[Span | None]:
        """Return spans with runs of words aligned anew that go against the direction of their line.

        In a line from right to left, words of a script from left to right stand in their own order.
        """
        found = list(spans)
        if not self._text.is_rtl:
            return found
        pieces = self._text.pieces
        at = 0
        while at < len(pieces):
            end = at
            while end < len(pieces) and self._goes_against(pieces[end], found[end], found[at]):
                end += 1
            if end - at > 1:
                found[at:end] = self._mirrored(pieces[at:end], [span for span in found[at:end] if span])
            at = max(end, at + 1)
        return found

    def _goes_against(self, piece: PrintedPiece, span: Span | None, first: Span | None) -> bool:
        if span is None or first is None or not piece.is_ltr or piece.is_rtl:
            return False
        return self._blobs[span.first].line == self._blobs[first.first].line == self._blobs[span.last - 1].line

    def _mirrored(self, pieces: Sequence[PrintedPiece], spans: Sequence[Span]) -> list[Span | None]:
        """Align pieces with the ink of their spans from the other side."""
        first, last = spans[0].first, spans[-1].last
        own = self._blobs[first:last]
        blobs = [Blob(blob.line, -blob.end, -blob.start) for blob in reversed(own)]
        em_px = em_of_ink(pieces, blobs, max(4.0, sum(blob.end - blob.start for blob in own) / 4))
        turned = align(pieces, blobs, em_px).spans
        return [span and Span(last - span.last, last - span.first) for span in turned]
