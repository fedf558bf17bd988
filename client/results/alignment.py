"""Finds which ink of a cell is which piece of its text, by the widths of both. Pure.

Ink comes as blobs, columns of ink with a gap on each side, line by line in the direction of reading. The cheapest way
through both sequences is searched: a piece takes one or more blobs of a line, a blob may be left out (a bullet, a
speck), and so may a piece (a mark that is not printed). Widths decide, and gaps: wide ones between words, narrow ones
within. A beam keeps the search linear in the number of pieces.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dotsctl.client.results.printed import SPACE_EM, PrintedPiece

BEAM = 48
"""States that are kept after each piece."""
WIDTH_TOLERANCE = (0.2, 0.14)
"""Deviation of a width that costs 1: a part of the width, and a part of an em."""
WORD_GAP_EM = 0.17
"""Gaps between words below this width cost."""
LETTER_GAP_EM = 0.2
"""Gaps within words above this width cost."""
GAP_TOLERANCE_EM = 0.07
MOST_GAP_COST = 6.0
PIECE_COST = (3.0, 1.0)
"""The cost of a piece without ink: at all, and for each em of its width."""
BLOB_COST = (0.8, 1.5)
"""The cost of ink without a piece: at all, and for each em of its width."""
MOST_BEHIND = 12.0
"""The cost above the cheapest state from which no further ink is left out."""
BREAK_COST = 4.0
"""The cost of a word that is divided at the end of a line."""
HYPHEN_EM = 0.33


@dataclass(frozen=True, slots=True)
class Blob:
    """Ink between two gaps of one line."""

    line: int
    start: float
    """The place in the direction of reading at which it begins, in pixels."""
    end: float


class Span(NamedTuple):
    """The blobs of a piece, from ``first`` to ``last`` without the latter."""

    first: int
    last: int


SKIPPED = Span(-1, -1)
"""Marks the step that leaves a blob out."""


class Alignment(NamedTuple):
    """The result of a search."""

    spans: tuple[Span | None, ...]
    """The blobs of each piece; none: it has no ink."""
    cost: float
    """The mean cost of a piece; above 3 little of the text fits the ink."""


class _State(NamedTuple):
    cost: float
    before: "_State | None"
    span: Span | None
    is_taken: bool
    """Whether the blob in front of this state belongs to a piece."""


def align(pieces: Sequence[PrintedPiece], blobs: Sequence[Blob], em_px: float) -> Alignment:
    """Return the blobs of each piece.

    Args:
        pieces: in reading order.
        blobs: line by line, in the direction of reading.
        em_px: the type size in pixels.
    """
    states = _with_skips({0: _State(0.0, None, None, False)}, blobs, em_px)
    for number, piece in enumerate(pieces):
        following: dict[int, _State] = {}
        for at, state in states.items():
            _offer(following, at, state.cost + PIECE_COST[0] + PIECE_COST[1] * piece.width_em, state, None)
            new_field = number > 0 and (piece.row, piece.field) != (pieces[number - 1].row, pieces[number - 1].field)
            entry = state.cost + _gap_cost(state, at, blobs, piece, em_px, is_wide_expected=new_field)
            for last, cost in _ways(at, piece, blobs, em_px):
                _offer(following, last, entry + cost, state, Span(at, last))
        kept = dict(sorted(following.items(), key=lambda item: item[1].cost)[:BEAM])
        states = _with_skips(dict(sorted(kept.items())), blobs, em_px)
    rest = _ink_costs(blobs, em_px)
    total, best = min(((state.cost + rest[at], state) for at, state in states.items()), key=lambda each: each[0])
    spans: list[Span | None] = []
    step: _State | None = best
    while step is not None and step.before is not None:
        if step.span is not SKIPPED:
            spans.append(step.span)
        step = step.before
    return Alignment(tuple(reversed(spans)), total / max(len(pieces), 1))


def _offer(states: dict[int, _State], at: int, cost: float, before: _State, span: Span | None) -> None:
    known = states.get(at)
    if known is None or cost < known.cost:
        is_taken = (span is not None and span is not SKIPPED) or (span is None and before.is_taken)
        states[at] = _State(cost, before, span, is_taken)


def _with_skips(states: dict[int, _State], blobs: Sequence[Blob], em_px: float) -> dict[int, _State]:
    """Add the states in which blobs that follow are left out, as far as these can still become the cheapest."""
    found = dict(states)
    limit = min(state.cost for state in states.values()) + MOST_BEHIND
    at = min(found)
    while at < len(blobs):
        state = found.get(at)
        if state is not None and state.cost < limit:
            _offer(found, at + 1, state.cost + _ink_cost(blobs[at], em_px), state, SKIPPED)
        at += 1
    return found


def _ink_cost(blob: Blob, em_px: float) -> float:
    return BLOB_COST[0] + BLOB_COST[1] * (blob.end - blob.start) / em_px


def _ink_costs(blobs: Sequence[Blob], em_px: float) -> list[float]:
    """The costs of leaving out all blobs from each one on."""
    costs = [0.0]
    for blob in reversed(blobs):
        costs.append(costs[-1] + _ink_cost(blob, em_px))
    return costs[::-1]


def _gap_cost(
    state: _State, at: int, blobs: Sequence[Blob], piece: PrintedPiece, em_px: float, *, is_wide_expected: bool
) -> float:
    """The cost of beginning a piece at a blob, by the gap in front of it."""
    if not state.is_taken or at >= len(blobs) or at == 0 or blobs[at].line != blobs[at - 1].line:
        return 0.0
    gap_em = (blobs[at].start - blobs[at - 1].end) / em_px
    if piece.is_glued:
        return min(MOST_GAP_COST, (max(0.0, gap_em - 1.5 * LETTER_GAP_EM) / GAP_TOLERANCE_EM) ** 2)
    least = 2 * WORD_GAP_EM if is_wide_expected else WORD_GAP_EM
    return min(MOST_GAP_COST, (max(0.0, least - gap_em) / GAP_TOLERANCE_EM) ** 2)


def _ways(at: int, piece: PrintedPiece, blobs: Sequence[Blob], em_px: float) -> list[tuple[int, float]]:
    """The ends that a piece may have which begins at a blob, with their costs."""
    if at >= len(blobs):
        return []
    expected = piece.width_em * em_px
    tolerance = WIDTH_TOLERANCE[0] * expected + WIDTH_TOLERANCE[1] * em_px
    ways: list[tuple[int, float]] = []
    inside = 0.0
    line, before = blobs[at].line, 0.0
    start, last = blobs[at].start, at
    while last < len(blobs):
        blob = blobs[last]
        if blob.line != line:
            if before or last == at or not _may_break(piece):
                break
            before, line, start = blobs[last - 1].end - start - HYPHEN_EM * em_px, blob.line, blob.start
            inside += BREAK_COST
        elif last > at:
            gap_em = (blob.start - blobs[last - 1].end) / em_px
            inside += min(MOST_GAP_COST, (max(0.0, gap_em - LETTER_GAP_EM) / GAP_TOLERANCE_EM) ** 2)
        width = before + blob.end - start
        if width > expected + 3.5 * tolerance or inside > 3 * MOST_GAP_COST:
            break
        if width > expected - 3.5 * tolerance:
            ways.append((last + 1, inside + ((width - expected) / tolerance) ** 2))
        last += 1
    return ways


def _may_break(piece: PrintedPiece) -> bool:
    return len(piece.text) > 4 and piece.text.isalpha()


def em_of_ink(pieces: Sequence[PrintedPiece], blobs: Sequence[Blob], guess_px: float) -> float:
    """Return the type size in pixels with which the pieces are as wide as all ink; gaps above an em do not count.

    The result lies between half and twice the guess.
    """
    ink = 0.0
    for number, blob in enumerate(blobs):
        ink += blob.end - blob.start
        if number and blobs[number - 1].line == blob.line and blob.start - blobs[number - 1].end < guess_px:
            ink += blob.start - blobs[number - 1].end
    lines = len({blob.line for blob in blobs})
    spaces = max(0, sum(not piece.is_glued for piece in pieces) - lines)
    total_em = sum(piece.width_em for piece in pieces) + SPACE_EM * spaces
    return min(max(ink / total_em, guess_px / 2), 2 * guess_px)
