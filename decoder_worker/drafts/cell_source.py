"""Guesses how a layout answer goes on: frames by structure, boxes and texts from the blocks of the hint. Pure."""

import json
import re
from collections.abc import Iterator

from dotsctl.decoder_worker.drafts.cell_reader import SIDES, CellReader, Field, ReadCell
from dotsctl.decoder_worker.drafts.hint_text import BULLET, HintText, block_text
from dotsctl.decoder_worker.drafts.odds import Kind
from dotsctl.decoder_worker.drafts.sides import BlockBoxes, Side, completion
from dotsctl.decoder_worker.drafts.text_source import GuessedText, TextSource
from dotsctl.protocol.page_geometry import PageGeometry
from dotsctl.protocol.page_hint import PageHint

PREFIX = re.compile(r"(?:#+ |[*•+-] )?(?:\*\*)?(?:<\w+>)*")
"""Markdown or HTML before the first word of a cell."""
DIGITS = (Kind.LOW_DIGIT, Kind.MIDDLE_DIGIT, Kind.HIGH_DIGIT)
GUESSES = (Kind.LOW_GUESS, Kind.MIDDLE_GUESS, Kind.HIGH_GUESS)
LINE_END = "\n"
"""The separator that a cell probably has between two blocks, as between the items of a list."""
LIST_END = '"}]'
SHORT = 64
"""Characters up to which a block without an end of sentence may be a heading."""
CATEGORIES = {"item": "List-item", "heading": "Section-header", "text": "Text"}
"""Category by the look of a block, before the page has shown another one."""
PREFIXES = {"Section-header": "## ", "Title": "# ", "List-item": "* "}
MOST_CELLS = 4
"""Cells that are guessed ahead at most."""


class CellSource:
    """The place of a layout answer on its page."""

    def __init__(
        self, hint: PageHint | None, hint_text: HintText | None, geometry: PageGeometry | None, *, has_text: bool
    ) -> None:
        """Begin before the first cell; ``has_text`` tells whether the task's cells have texts."""
        self._text = TextSource(hint_text, LINE_END) if hint_text is not None else None
        self._boxes = BlockBoxes.of(hint, geometry)
        self._reader = CellReader(has_text)
        self._looks = [_look(block.text) for block in hint.blocks] if hint else []
        self._inside: list[int] = []
        """Blocks in the box of the cell that is being read."""
        self._categories = dict(CATEGORIES)
        self._prefixes = dict(PREFIXES)
        self._category_before = ""
        self._following: dict[str, str] = {}
        """The category that followed each one the last time."""

    @property
    def context(self) -> str:
        """The part of the answer that decides how what follows is split into tokens: the sides of a box."""
        reader = self._reader
        place = reader.last if reader.at is None else reader.at
        if reader.cell is None or place not in SIDES or len(reader.cell.sides) > 3:
            return ""
        sides = [f"{side}{reader.frame(Field(number)).text}" for number, side in enumerate(reader.cell.sides)]
        if reader.at is None and sides:
            return "".join(sides[:-1]) + f"{reader.cell.sides[-1]}{reader.written}"
        return "".join(sides) + reader.written

    def push(self, text: str) -> None:
        """Take the next piece of the answer."""
        piece = ""
        for character in text:
            before, cell = self._reader.at, self._reader.cell
            length = len(cell.text) if cell is not None else 0
            self._reader.push(character)
            if before is Field.TEXT and cell is not None:
                piece += cell.text[length:]
            if self._reader.at is not before:
                piece = self._push_text(piece)
                self._changed(before)
        self._push_text(piece)

    def _push_text(self, piece: str) -> str:
        if self._text is not None:
            self._text.push(piece)
        return ""

    def _changed(self, before: Field | None) -> None:
        """Learn from a field that has ended, or begin the text of a cell."""
        cell = self._reader.cell
        if cell is None:
            return
        if before is Field.SIDE_3:
            self._inside = self._boxes.learn(cell.sides)
        elif before is Field.CATEGORY:
            if self._inside:
                self._categories[self._looks[self._inside[0]]] = cell.category
            self._following[self._category_before] = cell.category
            self._category_before = cell.category
        elif before is Field.TEXT and cell.text:
            found = PREFIX.match(cell.text)
            self._prefixes[cell.category] = found[0] if found else ""
        if self._reader.at is Field.TEXT and self._inside and self._text is not None:
            self._text.move_to(self._text.hint.block_starts[self._inside[0]])

    def predict(self, characters: int) -> Iterator[GuessedText]:
        """Yield what probably follows, cell by cell; each text has at most so many characters."""
        reader = self._reader
        cell = reader.cell or ReadCell()
        at, last = reader.at, reader.last
        planned: list[int] = []
        block = self._inside[0] if self._inside else None
        sides, written, category = list(cell.sides), reader.written, cell.category
        for _ in range(MOST_CELLS * len(Field)):
            if at is None:
                frame = reader.frame(last, category)
                if not frame.text.startswith(written):
                    return
                is_end = frame.leads_to is Field.SIDE_0 and self._is_last(planned)
                text = LIST_END if is_end and LIST_END.startswith(written) else frame.text
                yield from _spans(text[len(written) :], Kind.END if last is Field.TEXT and not written else Kind.FRAME)
                if is_end:
                    return
                at, written = frame.leads_to, ""
                if at is Field.SIDE_0:
                    sides, category, block = [], "", None
            elif at in SIDES:
                block = self._boxes.next_block(sides, written, planned)
                side = self._boxes.side(block, at, sides)
                digits = completion(written, side.value)
                yield from _digits(side, digits)
                sides.append(int(written[:5] + digits))
                if at is Field.SIDE_3 and block is not None:
                    planned.append(block)
                at, last, written = None, at, ""
            elif at is Field.CATEGORY:
                guess = self._category(block)
                if not guess.startswith(written):
                    return
                yield from _spans(guess[len(written) :], Kind.FRAME if written else Kind.CATEGORY)
                at, last, category, written = None, at, guess, ""
            else:
                is_present = not planned and reader.at is Field.TEXT
                if self._text is None or (is_present and self._text.is_in_tag):
                    return  # the end of the text is not known
                start = None if is_present or block is None else self._text.hint.block_starts[block]
                yield from self._texts(self._text, category, start, characters)
                at, last, written = None, at, ""

    def _is_last(self, planned: list[int]) -> bool:
        """Return whether no block is left for another cell."""
        return self._boxes.is_done or (bool(planned) and self._boxes.next_block([], "", planned) is None)

    def _category(self, block: int | None) -> str:
        if block is not None:
            return self._categories[self._looks[block]]
        return self._following.get(self._category_before, CATEGORIES["text"])

    def _texts(self, source: TextSource, category: str, start: int | None, characters: int) -> Iterator[GuessedText]:
        """Guess the text of a cell.

        Args:
            source: the place in the hint.
            category: of the cell.
            start: the place where the text of a cell begins that has not begun; none: that of ``source``.
            characters: most of each block.
        """
        prefix = self._prefixes.get(category, "")
        if start is not None:
            yield GuessedText(_escaped(prefix + source.hint.beginning(start, characters)), Kind.START)
            return
        cell = self._reader.cell
        if prefix and self._reader.at is Field.TEXT and cell is not None and not cell.text:
            yield GuessedText(_escaped(prefix), Kind.START)
        for span in source.predict(characters, to_block_end=True):
            yield GuessedText(_escaped(span.text), span.kind)
        for block in self._inside:
            following = source.hint.block_starts[block]
            if following > source.at:
                yield GuessedText(_escaped(source.joint + (prefix if source.joint[-1] == LINE_END else "")), Kind.JOINT)
                yield GuessedText(_escaped(source.hint.beginning(following, characters)), Kind.START)


def _spans(text: str, kind: Kind) -> Iterator[GuessedText]:
    """Yield a text that is decided by its first token."""
    yield GuessedText(text[:1], kind)
    yield GuessedText(text[1:], Kind.FRAME)


def _digits(side: Side, digits: str) -> Iterator[GuessedText]:
    for place in range(len(digits) - 1, -1, -1):
        kinds = DIGITS if side.has_block else GUESSES
        kind = Kind.KNOWN_SIDE if side.is_known else kinds[min(place, 2)]
        yield GuessedText(digits[len(digits) - 1 - place], kind)


def _look(text: str) -> str:
    """Return what a block looks like: a key of ``CATEGORIES``."""
    if BULLET.match(text):
        return "item"
    plain = block_text(text)
    return "heading" if len(plain) <= SHORT and not plain.endswith((".", ":", ",", ";")) else "text"


def _escaped(text: str) -> str:
    """Return the text as it stands in JSON."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
