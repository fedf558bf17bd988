"""Lexicons: the words of training, and the words that only evaluation uses.

A word of the evaluation never appears in training, in any case or with any accent: what the model reads of it, it has
seen on the page and not remembered.
"""

import pydoc_data.topics
import re
import unicodedata
from functools import cache
from importlib.resources import files

from dotsctl.protocol.errors import MissingError

MAX_LETTERS = 14
"""Letters of the longest training word; a longer one would not fit on a small page."""


@cache
def foreign_words() -> tuple[str, ...]:
    """Return the words of the evaluation: English, names, and words of ten other languages with their accents."""
    return tuple((files("dotsctl.tools.pages") / "foreign_words.txt").read_text(encoding="utf-8").split())


@cache
def _held_out() -> frozenset[str]:
    return frozenset(map(plain, foreign_words()))


def plain(word: str) -> str:
    """Return a word in lower case with letters alone, and those without accents."""
    decomposed = unicodedata.normalize("NFD", word.lower())
    return "".join(letter for letter in decomposed if letter.isalpha())


def is_held_out(word: str) -> bool:
    """Return whether a word is one of the evaluation's, so that no training page may show it."""
    return plain(word) in _held_out()


@cache
def training_words() -> tuple[str, ...]:
    """Return the listed words of training in lower case, each once and in a fixed order.

    Raises:
        MissingError: the package english-words is not installed.
    """
    try:
        from english_words import get_english_words_set  # an extra, 8 MB
    except ImportError:
        raise MissingError("english-words is not installed", "pip install 'dotsctl[train]'") from None
    listed = get_english_words_set(["gcide"], alpha=True)
    return tuple(sorted({word.lower() for word in listed if 1 < len(word) <= MAX_LETTERS and not is_held_out(word)}))


@cache
def running_words() -> tuple[str, ...]:
    """Return the prose of training: the words of Python's own documentation, in its order."""
    texts = (pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    found = (word for text in texts for word in re.findall(r"\b[A-Za-z][A-Za-z']{0,13}\b[.,;:]?", text))
    return tuple(word for word in found if not is_held_out(word))
