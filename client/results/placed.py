"""Words and lines at their places on a page, and how placed pieces become these. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from dotsctl.client.results.cell import PixelBox
from dotsctl.client.results.printed import PrintedPiece


@dataclass(frozen=True, slots=True)
class PrintedWord:
    """Characters without a space between them; of a script without spaces, all that one line has of them."""

    bbox: PixelBox
    """x0, y0, x1, y1 around its ink, in pixels of the page as viewers show it."""
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A printed line, or the part of it that is in one cell of a table."""

    words: tuple[PrintedWord, ...]
    """The words in reading order, at least one; of right-to-left text the first one is on the right."""
    estimated: bool = False
    """Whether its place, or that of a word, is derived from the text and the cell's box and not found on the page."""
    is_continued: bool = False
    """Whether its last word goes on in the next line, as where a script without spaces breaks."""

    @property
    def text(self) -> str:
        """The words with a space between them."""
        return " ".join(word.text for word in self.words)

    @property
    def bbox(self) -> PixelBox:
        """The box around its words."""
        return around(word.bbox for word in self.words)


@dataclass(frozen=True, slots=True)
class PlacedPiece:
    """A piece of text with its box."""

    piece: PrintedPiece
    bbox: PixelBox
    line: int
    """The number of its printed line in the cell."""
    estimated: bool = False


def around(boxes: Iterable[PixelBox]) -> PixelBox:
    """Return the box around some boxes, at least one."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def joined(pieces: Sequence[PlacedPiece]) -> tuple[Line, ...]:
    """Return the lines that placed pieces form; pieces come in reading order."""
    groups = [list(group) for _, group in groupby(pieces, lambda each: (each.line, each.piece.row, each.piece.field))]
    lines = []
    for number, group in enumerate(groups):
        following = groups[number + 1][0] if number + 1 < len(groups) else None
        lines.append(
            Line(
                tuple(_words(group)),
                estimated=any(each.estimated for each in group),
                is_continued=following is not None and following.piece.is_glued,
            )
        )
    return tuple(lines)


def _words(pieces: Sequence[PlacedPiece]) -> Iterable[PrintedWord]:
    """Yield words; a piece that is glued to the one before belongs to its word."""
    word: list[PlacedPiece] = []
    for each in pieces:
        if word and not each.piece.is_glued:
            yield _word(word)
            word = []
        word.append(each)
    yield _word(word)


def _word(pieces: Sequence[PlacedPiece]) -> PrintedWord:
    return PrintedWord(around(each.bbox for each in pieces), "".join(each.piece.text for each in pieces))
