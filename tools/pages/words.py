"""Words, numbers and marks in about the shares of ordinary print, from one ``random.Random``.

The words are those of the documentation that Python itself carries.
"""

import pydoc_data.topics
import random
import re
from functools import cache

CHARACTERS = "".join(chr(code) for code in range(33, 127))
"""What is printed, without the blank."""


@cache
def distinct_words() -> list[str]:
    """English words with now and then a mark behind them, each once."""
    return sorted(set(running_words()))


@cache
def running_words() -> list[str]:
    """The same words as often as the documentation has them, in its order."""
    texts = (pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    return [word for text in texts for word in re.findall(r"\b[A-Za-z][A-Za-z']{0,9}\b[.,;:]?", text)]


def word(rng: random.Random) -> str:
    """A word, a number or a few characters of any kind; all words are equally likely."""
    kind = rng.random()
    if kind < 0.8:
        found = rng.choice(distinct_words())
        case = rng.random()
        return found.upper() if case < 0.03 else found.capitalize() if case < 0.1 else found
    if kind < 0.95:
        return number(rng)
    return "".join(rng.choice(CHARACTERS) for _ in range(rng.randint(1, 5)))


def number(rng: random.Random) -> str:
    """A count, an amount, a time of the day or a percentage."""
    kind = rng.random()
    if kind < 0.55:
        return str(rng.randrange(10 ** rng.randint(1, 6)))
    if kind < 0.85:
        return f"{rng.randrange(10 ** rng.randint(1, 4))}.{rng.randrange(100):02}"
    if kind < 0.93:
        return f"{rng.randrange(24)}:{rng.randrange(60):02}"
    return f"{rng.randrange(100)}%"


class Prose:
    """Endless words: half of them runs of the documentation, so that frequent words are frequent; half any word."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._left = self._place = 0

    def word(self) -> str:
        """The next word."""
        if self._left == 0 and self._rng.random() < 0.15:
            self._left, self._place = self._rng.randint(2, 10), self._rng.randrange(len(running_words()))
        if self._left == 0:
            return word(self._rng)
        self._left -= 1
        self._place = (self._place + 1) % len(running_words())
        return running_words()[self._place]

    def words(self, fewest: int, most: int) -> str:
        """Some words, the first one with a capital."""
        text = " ".join(self.word() for _ in range(self._rng.randint(fewest, most)))
        return text[0].upper() + text[1:]
