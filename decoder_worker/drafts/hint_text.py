"""The words of a hint, and where in them an answer stands. Pure.

Words are what any tokenizer can be matched by: a run of letters, a run of digits, or a single sign. Blank space and the
case of letters do not count.
"""

import itertools
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence

from dotsctl.protocol.page_hint import PageHint

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\d+|[^\W\d_]+|[^\s\w]|_")
"""A character of a script without spaces, a number, a run of letters, or a sign."""
NGRAM = 3
"""Most words that are compared; fewer where these are not in the hint."""
NEAR = (-4, 24)
"""Words before and behind the expected one among which a single equal word is taken for the place."""
BLOCK_END = "\n\n"
MOST_WORDS = 20_000
"""Words of a hint that are indexed, far more than a page has; further ones are followed, but not found."""
BULLET = re.compile(r"\s*[•‣◦▪●○■□·]\s+")
"""A sign before an item of a list; models write it in Markdown."""


class HintText:
    """The text of all blocks in one string, with its words and their places."""

    def __init__(self, hint: PageHint) -> None:
        """Join the lines of each block, and index its words."""
        texts = [block_text(block.text) for block in hint.blocks]
        self.text = BLOCK_END.join(texts)
        ends = [0]
        for text in texts:
            ends.append(ends[-1] + len(text) + len(BLOCK_END))
        self.block_starts = ends[:-1]
        """The place in ``text`` where each block begins."""
        found = list(itertools.islice(WORD.finditer(self.text), MOST_WORDS))
        self.starts = [word.start() for word in found]
        self.ends = [word.end() for word in found]
        self._keys = [key(word[0]) for word in found]
        self._places: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for size in range(1, NGRAM + 1):
            for end in range(size, len(found) + 1):
                self._places[tuple(self._keys[end - size : end])].append(end)

    def block_end(self, at: int) -> int:
        """Return the place behind the block in which a place of ``text`` lies."""
        block = bisect_right(self.block_starts, at)
        if block < len(self.block_starts):
            return self.block_starts[block] - len(BLOCK_END)
        return len(self.text)

    def beginning(self, at: int, characters: int) -> str:
        """Return the text from a place on, at most to the end of its block."""
        return self.text[at : min(self.block_end(at), at + characters)]

    def has(self, word: str) -> bool:
        """Return whether a word stands anywhere in the hint."""
        return (key(word),) in self._places

    def find(self, words: Sequence[str], at: int, *, is_open: bool) -> tuple[int, int] | None:
        """Return the place behind these words that is nearest to ``at``, and how many of them agree; none: no place.

        Args:
            words: the latest of the answer, the newest last.
            at: the expected place in ``text``.
            is_open: whether the last word may go on.
        """
        keys = tuple(key(word) for word in words[-NGRAM:])
        cursor = bisect_left(self.starts, at)
        for size in range(len(keys), 0, -1):
            if (end := self._nearest(keys[-size:], cursor, size)) is not None:
                return self.ends[end - 1], size
            if is_open and size > 1 and (found := self._begun(keys[-size:], cursor, size)) is not None:
                return found, size
        return None

    def _nearest(self, keys: tuple[str, ...], cursor: int, size: int) -> int | None:
        """Return the number of words up to the end of the nearest occurrence; a single word counts only near."""
        places = self._places.get(keys)
        if not places:
            return None
        right = bisect_left(places, cursor)
        best = min(places[max(0, right - 1) : right + 1], key=lambda place: abs(place - cursor))
        if size == 1 and not NEAR[0] <= best - cursor <= NEAR[1]:
            return None
        return best

    def _begun(self, keys: tuple[str, ...], cursor: int, size: int) -> int | None:
        """Return the place in a word that begins with the last key and follows the others."""
        before = self._nearest(keys[:-1], cursor, size)
        if before is None or before == len(self._keys) or not self._keys[before].startswith(keys[-1]):
            return None
        return self.starts[before] + len(keys[-1])


def key(word: str) -> str:
    """Return the form in which words are compared."""
    return word.casefold() if word.isascii() else unicodedata.normalize("NFKC", word).casefold()


def block_text(text: str) -> str:
    """Return a block's text with its lines joined, divided words rejoined, and without the sign of a list."""
    paragraphs = [""]
    for line in text.splitlines():
        words = " ".join(line.split())
        last = paragraphs[-1]
        if not words:
            paragraphs.append("")
        elif last.endswith("-") and last[-2:-1].isalpha() and words[0].isalpha():
            paragraphs[-1] = last[:-1] + words
        else:
            paragraphs[-1] = f"{last} {words}" if last else words
    joined = BLOCK_END.join(filter(None, paragraphs))
    return BULLET.sub("", joined, count=1) if BULLET.match(joined) else joined
