"""Follows an answer through the text of its hint, and guesses how it goes on. Pure."""

from collections.abc import Iterator
from typing import NamedTuple

from dotsctl.decoder_worker.drafts.hint_text import BLOCK_END, WORD, HintText
from dotsctl.decoder_worker.drafts.odds import Kind

TAIL = 96
"""Characters of the answer in which its latest words are looked for."""
LONGEST_JOINT = 4
"""Characters of blank space that are expected between two blocks at most."""
SIGNS = "*#_|`$~^-•\\"
MARKUP = frozenset(SIGNS)
"""Signs of Markdown and LaTeX, which answers have and hints do not."""
OPENING = frozenset("([{>“")
"""Signs that no space follows."""


class GuessedText(NamedTuple):
    """A piece of guessed text."""

    text: str
    kind: Kind


class TextSource:
    """The place of an answer in a hint."""

    context = ""
    """The part of the answer that decides how what follows is split into tokens."""

    def __init__(self, hint: HintText, joint: str = BLOCK_END) -> None:
        """Begin at the hint's first word.

        Args:
            hint: its text.
            joint: what the answer probably has between two blocks.
        """
        self.hint = hint
        self.at = 0
        """The place in the hint's text where the answer is expected to go on."""
        self.run = 0
        """Pieces of the answer, or words, that agreed in a row before this place; 0: the place is a guess."""
        self._tail = ""
        self.is_in_tag = False
        """Whether the answer has begun a tag of HTML that it has not ended."""
        self.joint = joint
        """The separator that the answer had between the last two blocks."""
        self._gap = ""
        """The blank space of the answer between two blocks, while nothing has come behind it."""

    def push(self, text: str) -> None:
        """Take the next piece of the answer."""
        if not text:
            return
        before, self._tail = self._tail, (self._tail + text)[-TAIL:]
        at = self._followed(text)
        if at is not None:
            self.run += at > self.at
            self.at = at
        elif not self.is_in_tag:
            self._relocate(text, before)

    def move_to(self, at: int) -> None:
        """Expect the answer to go on at a place of the hint, as where the text of a cell begins."""
        self.at, self.run, self._tail, self.is_in_tag, self._gap = at, 0, "", False, ""

    @property
    def level(self) -> Kind:
        """The kind of the next guess."""
        return Kind(min(Kind.TEXT_0 + self.run, Kind.TEXT_3))

    def predict(self, characters: int, *, to_block_end: bool = False) -> Iterator[GuessedText]:
        """Yield about as many characters that probably follow; with ``to_block_end`` no more than the block has."""
        if self.is_in_tag:
            return
        text, at = self.hint.text, self.at
        if self._is_at_opening():
            while at < len(text) and text[at].isspace():
                at += 1
        kind = self.level
        while at < len(text) and characters > 0:
            end = self.hint.block_end(at)
            if at < end:
                yield GuessedText(text[at : min(end, at + characters)], kind)
                characters -= end - at
                kind = Kind.TEXT_3
            if to_block_end or characters <= 0:
                break
            yield GuessedText(self.joint, Kind.JOINT)
            characters -= len(self.joint)
            at = end + len(BLOCK_END)

    def _is_at_opening(self) -> bool:
        """Return whether no space may follow what was written last."""
        bare = self._tail.rstrip(SIGNS)
        return not bare or bare[-1].isspace() or (bare == self._tail and bare[-1] in OPENING)

    def _followed(self, text: str) -> int | None:
        """Return the place behind a piece that goes on as the hint does, markup and spaces aside; none: it does not."""
        hint, at = self.hint.text, self.at
        is_plain = not (self.is_in_tag or self._gap or BLOCK_END[0] in text)
        if is_plain and hint.startswith(text, at):
            return at + len(text)
        for character in text:
            if self.is_in_tag:
                self.is_in_tag = character != ">"
            elif character.isspace():
                at = self._behind_space(character, at)
                continue
            elif at < len(hint) and character.casefold() == hint[at].casefold():
                at += 1
            elif character in MARKUP:
                pass
            elif character == "<":
                self.is_in_tag = True
            elif at + 1 < len(hint) and hint[at].isspace() and character.casefold() == hint[at + 1].casefold():
                at += 2  # the answer lacks a space
            else:
                return None
            if self._gap:
                self.joint, self._gap = self._gap, ""
        return at

    def _behind_space(self, space: str, at: int) -> int:
        """Return the place behind the blank space of the hint; the answer's own may be shorter or longer."""
        hint = self.hint.text
        if self._gap or hint.startswith(BLOCK_END, at):
            self._gap = (self._gap + space)[:LONGEST_JOINT]
        while at < len(hint) and hint[at].isspace():
            at += 1
        return at

    def _relocate(self, text: str, before: str) -> None:
        """Find the place by the latest words; where none agrees, take a misread word for read."""
        words = [word for word in WORD.findall(self._tail) if word[0].isalnum() or self.hint.has(word)]
        is_open = self._tail[-1].isalnum()
        self.run = 0
        if not words or not any(character.isalnum() for character in text):
            return
        if (found := self.hint.find(words, self.at, is_open=is_open)) is not None:
            self.at, self.run = found
            return
        begins = text[0].isspace() or not before[-1:].isalnum()
        if begins or self._is_inside_word():
            self._skip_word()

    def _is_inside_word(self) -> bool:
        text, at = self.hint.text, self.at
        return 0 < at < len(text) and text[at - 1].isalnum() and text[at].isalnum()

    def _skip_word(self) -> None:
        text = self.hint.text
        while self.at < len(text) and text[self.at].isspace():
            self.at += 1
        while self.at < len(text) and not text[self.at].isspace():
            self.at += 1
