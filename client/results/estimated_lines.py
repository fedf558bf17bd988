"""Lines where the page shows none that fit: the text spread over the box of its cell. Pure."""

import math
from collections.abc import Sequence

from dotsctl.client.results.cell import PixelBox
from dotsctl.client.results.placed import Line, PlacedPiece, joined
from dotsctl.client.results.printed import SPACE_EM, Printed, PrintedPiece

PITCH_EM = 1.25
"""The distance of lines in em, as most documents are set."""
INK_EM = 0.85
"""The height of a line's ink in em."""
INK_SHARE = 0.8
"""The share of a line's height that its words are given."""


def em_guess(bbox: PixelBox, text: Printed) -> float:
    """Return the type size in pixels with which a text fills its box; at least 4.

    A row of a table is at least one line. Lines of a full box are ``PITCH_EM`` apart, and the ink of the last one is
    ``INK_EM`` high.
    """
    x0, y0, x1, y1 = bbox
    width, height = max(x1 - x0, 1), max(y1 - y0, 1)
    total_em = sum(piece.width_em + (not piece.is_glued) * SPACE_EM for piece in text.pieces)
    lines_per_em = total_em / width
    rest_em = PITCH_EM - INK_EM
    em = (rest_em + math.sqrt(rest_em**2 + 4 * PITCH_EM * lines_per_em * height)) / (2 * PITCH_EM * lines_per_em)
    if em * lines_per_em < 1.3:
        em = min(height / INK_EM, 1.2 / lines_per_em)
    num_rows = len({piece.row for piece in text.pieces})
    return max(4.0, min(em, height / num_rows / PITCH_EM) if num_rows > 1 else em)


def estimated(bbox: PixelBox, text: Printed) -> tuple[Line, ...]:
    """Return lines of equal height that fill a box; a table's rows have equal heights and its columns equal widths."""
    rows: dict[int, list[PrintedPiece]] = {}
    for piece in text.pieces:
        rows.setdefault(piece.row, []).append(piece)
    columns = max(piece.field for piece in text.pieces) + 1
    if len(rows) == 1 and columns == 1:
        return joined(_block(bbox, text.pieces, em_guess(bbox, text), 0, is_rtl=text.is_rtl))
    x0, y0, x1, y1 = bbox
    placed: list[PlacedPiece] = []
    for number, pieces in enumerate(rows.values()):
        top, bottom = (y0 + (y1 - y0) * (number + more) / len(rows) for more in (0, 1))
        for field in dict.fromkeys(piece.field for piece in pieces):
            column = columns - 1 - field if text.is_rtl else field
            left, right = (x0 + (x1 - x0) * (column + more) / columns for more in (0, 1))
            box = (round(left), round(top), round(right), round(bottom))
            own = tuple(piece for piece in pieces if piece.field == field)
            line = placed[-1].line + 1 if placed else 0
            placed += _block(box, own, em_guess(box, Printed(own)), line, is_rtl=text.is_rtl)
    return joined(placed)


def _block(bbox: PixelBox, pieces: Sequence[PrintedPiece], em: float, first: int, *, is_rtl: bool) -> list[PlacedPiece]:
    """Wrap pieces in a box; ``first`` is the number of the first line."""
    x0, y0, x1, y1 = bbox
    lines = _wrapped(pieces, (x1 - x0) / em)
    pitch = (y1 - y0) / len(lines)
    unit = min(em, *((x1 - x0) / max(_length(line), 0.1) for line in lines))
    placed = []
    for number, line in enumerate(lines):
        top = y0 + number * pitch + (1 - INK_SHARE) / 2 * pitch
        at = 0.0
        for piece in line:
            at += SPACE_EM * (at > 0 and not piece.is_glued)
            left, right = at * unit, (at + piece.width_em) * unit
            left, right = (x1 - right, x1 - left) if is_rtl else (x0 + left, x0 + right)
            box = _whole(left, top, right, top + INK_SHARE * pitch)
            placed.append(PlacedPiece(piece, box, first + number, estimated=True))
            at += piece.width_em
    return placed


def _wrapped(pieces: Sequence[PrintedPiece], width_em: float) -> list[list[PrintedPiece]]:
    lines: list[list[PrintedPiece]] = []
    for piece in pieces:
        if not lines or _length([*lines[-1], piece]) > width_em * 1.02:
            lines.append([])
        lines[-1].append(piece)
    return lines


def _length(pieces: Sequence[PrintedPiece]) -> float:
    return sum(each.width_em + SPACE_EM * (number > 0 and not each.is_glued) for number, each in enumerate(pieces))


def _whole(x0: float, y0: float, x1: float, y1: float) -> PixelBox:
    """Return whole pixels, at least one in each direction."""
    left, top = math.floor(x0), math.floor(y0)
    return left, top, max(left + 1, round(x1)), max(top + 1, round(y1))
