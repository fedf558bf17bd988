"""The texts of generated pages, from one ``random.Random``.

Training pages show texts in which no language can be guessed: a model that learns the words of its pages reads those
words into every page. Evaluation pages show either the same kind of text or words that no training page shows.
"""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from dotsctl.tools.pages.characters import ASCII, CHARACTERS, MARKS
from dotsctl.tools.pages.lexicon import foreign_words, is_held_out, running_words, training_words

LETTERS = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
VARIANTS = {
    "a": "àáâãäåæ",
    "c": "ç",
    "d": "ð",
    "e": "èéêë",
    "i": "ìíîï",
    "n": "ñ",
    "o": "òóôõöøœ",
    "s": "šß",
    "t": "þ",
    "u": "ùúûü",
    "y": "ýÿ",
    "z": "ž",
}
"""Accented letters and ligatures by the letter that they may replace in a word."""
ONSETS = (
    "", "b", "bl", "br", "c", "ch", "cl", "cr", "d", "dr", "f", "fl", "fr", "g", "gl", "gn", "gr", "h", "j", "k", "kn",
    "l", "m", "n", "p", "ph", "pl", "pr", "qu", "r", "s", "sc", "sch", "sh", "sk", "sl", "sm", "sn", "sp", "st", "str",
    "t", "th", "tr", "v", "w", "wh", "wr", "x", "y", "z",
)  # fmt: skip
VOWELS = ("a", "e", "i", "o", "u", "y", "ai", "au", "ea", "ee", "ei", "eu", "ie", "oa", "oe", "oo", "ou", "ua", "ui")
CODAS = (
    "", "", "", "b", "ck", "d", "f", "g", "ght", "l", "ll", "m", "mp", "n", "nd", "ng", "nt", "p", "r", "rd", "rk", "s",
    "ss", "st", "t", "tt", "tz", "x",
)  # fmt: skip
ENDINGS = ".,;:!?…"
BRACKETS = ("()", "[]", '""', "''", "“”", "‘’", "„“", "«»", "{}", "<>")
TIED = ("-", "-", "-", "/", "'", "’", "_", ".", "&", "–", "@", "+", "=")
"""The characters that may stand between two parts of a word."""
POOL_SHARE = 0.3
"""Share of texts that repeat a few words, so that a reader must know its place by more than the words before."""


class Words(Protocol):
    """An endless source of printed words."""

    def word(self) -> str:
        """Return the next word, without a blank in it."""

    def words(self, fewest: int, most: int) -> str:
        """Return some words, the first one with a capital."""


class TrainingWords:
    """A text in which nothing can be guessed; how much of each kind it has is drawn for each text anew."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._kinds: Sequence[Callable[[], str]] = (
            self._listed, self._pseudo, self._letters, self._prose, partial(number, rng), self._code, self._marks,
        )  # fmt: skip
        usual = (0.28, 0.22, 0.13, 0.07, 0.17, 0.06, 0.07)
        self._shares = [share * rng.uniform(0.2, 1.8) for share in usual]
        self._accents = rng.choice((0.0, 0.0, 0.02, 0.1, 0.3))
        self._capitals, self._capitalised = rng.choice((0.02, 0.06, 0.3)), rng.choice((0.1, 0.2, 0.5))
        self._marked = rng.choice((0.05, 0.12, 0.3))
        self._place = rng.randrange(len(running_words()))
        self._pool: list[str] = []
        if rng.random() < POOL_SHARE:
            self._pool = [self._fresh() for _ in range(rng.randint(2, 14))]
        self._repeated = rng.uniform(0.2, 0.9)

    def word(self) -> str:
        """Return the next word, without a blank in it."""
        if self._pool and self._rng.random() < self._repeated:
            return self._rng.choice(self._pool)
        return self._fresh()

    def words(self, fewest: int, most: int) -> str:
        """Return some words, the first one with a capital."""
        return joined(self, self._rng.randint(fewest, most))

    def _fresh(self) -> str:
        while True:
            (kind,) = self._rng.choices(self._kinds, self._shares)
            found = kind()
            if not is_held_out(found):
                return found

    def _listed(self) -> str:
        return self._dressed(self._rng.choice(training_words()))

    def _pseudo(self) -> str:
        syllables = self._rng.choices((1, 2, 3, 4), (0.3, 0.4, 0.2, 0.1))[0]
        parts = (self._rng.choice(each) for _ in range(syllables) for each in (ONSETS, VOWELS, CODAS))
        return self._dressed("".join(parts)[:14])

    def _letters(self) -> str:
        found = "".join(self._rng.choices(LETTERS, k=self._rng.randint(1, 9)))
        if self._rng.random() < 0.15:
            found = "".join(self._rng.choice((letter, letter.upper())) for letter in found)
        return self._dressed(found)

    def _prose(self) -> str:
        """Return the next word of a run of prose, whose end may come at any word."""
        if self._rng.random() < 0.15:
            self._place = self._rng.randrange(len(running_words()))
        self._place = (self._place + 1) % len(running_words())
        return running_words()[self._place]

    def _code(self) -> str:
        """Return letters and digits mixed, as part numbers and plates have them."""
        rng = self._rng
        characters = rng.choice((LETTERS.upper() + DIGITS, LETTERS + DIGITS, DIGITS))
        parts = ("".join(rng.choices(characters, k=rng.randint(1, 5))) for _ in range(rng.randint(1, 3)))
        return rng.choice(("-", "/", ".", "_", "")).join(parts)

    def _marks(self) -> str:
        characters = self._rng.choices((ASCII, CHARACTERS, MARKS), (0.6, 0.3, 0.1))[0]
        return "".join(self._rng.choices(characters, k=self._rng.randint(1, 6)))

    def _dressed(self, word: str) -> str:
        """Return a word with accents, capitals and marks as this text has them."""
        rng = self._rng
        if self._accents and rng.random() < 3 * self._accents:
            word = "".join(
                rng.choice(VARIANTS[letter]) if letter in VARIANTS and rng.random() < 0.35 else letter
                for letter in word
            )
        case = rng.random()
        if case < self._capitals:
            word = word.upper().replace("Ÿ", "Y")
        elif case < self._capitals + self._capitalised:
            word = word[:1].upper().replace("Ÿ", "Y") + word[1:]
        if rng.random() < 0.03:
            word += rng.choice(TIED) + "".join(rng.choices(LETTERS, k=rng.randint(1, 6)))
        kind = rng.random()
        if kind < self._marked:
            return word + rng.choice(ENDINGS if rng.random() < 0.4 else ".,")
        if kind < 1.25 * self._marked:
            pair = rng.choice(BRACKETS if rng.random() < 0.6 else BRACKETS[:1])
            return pair[0] + word + pair[1]
        return word


class LexiconWords:
    """Words of a list, each as likely as the others, with capitals, marks and numbers."""

    def __init__(self, rng: random.Random, lexicon: Sequence[str]) -> None:
        self._rng, self._lexicon = rng, lexicon

    def word(self) -> str:
        """Return the next word, without a blank in it."""
        rng = self._rng
        if rng.random() < 0.12:
            return number(rng)
        word, case = rng.choice(self._lexicon), rng.random()
        word = word.upper() if case < 0.05 and "ß" not in word else word[0].upper() + word[1:] if case < 0.2 else word
        kind = rng.random()
        return word + rng.choice(".,;:") if kind < 0.1 else f"({word})" if kind < 0.12 else word

    def words(self, fewest: int, most: int) -> str:
        """Return some words, the first one with a capital."""
        return joined(self, self._rng.randint(fewest, most))


class RandomWords:
    """Strings of random letters and digits, in which nothing but the print shows what comes next."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def word(self) -> str:
        """Return the next string of 1 to 10 letters and digits."""
        return "".join(self._rng.choices(LETTERS + LETTERS.upper() + DIGITS, k=self._rng.randint(1, 10)))

    def words(self, fewest: int, most: int) -> str:
        """Return some strings."""
        return " ".join(self.word() for _ in range(self._rng.randint(fewest, most)))


def joined(source: Words, count: int) -> str:
    """Return ``count`` words of a source with one blank between them, the first one with a capital."""
    text = " ".join(source.word() for _ in range(count))
    return text[0].upper().replace("Ÿ", "Y") + text[1:] if text[0] != "ß" else text


def number(rng: random.Random) -> str:
    """Return a count, an amount, a date, a time of the day or a percentage."""
    kind = rng.random()
    if kind < 0.4:
        return str(rng.randrange(10 ** rng.randint(1, 7)))
    if kind < 0.7:
        amount = f"{rng.randrange(10 ** rng.randint(1, 5)):,}.{rng.randrange(100):02}"
        if rng.random() < 0.3:
            amount = amount.translate({ord(","): ".", ord("."): ","})  # as most of Europe writes it
        return rng.choice(("", "", "", "", "$", "€", "£", "-", "+")) + amount
    if kind < 0.8:
        day, month, year = rng.randint(1, 31), rng.randint(1, 12), rng.randint(1900, 2039)
        return rng.choice((f"{day:02}/{month:02}/{year}", f"{year}-{month:02}-{day:02}", f"{day}.{month}.{year}"))
    if kind < 0.9:
        return f"{rng.randrange(24):02}:{rng.randrange(60):02}"
    return f"{rng.randrange(1000) / 10:.{rng.randint(0, 1)}f}%"


VOCABULARIES: dict[str, Callable[[random.Random], Words]] = {
    "foreign": lambda rng: LexiconWords(rng, foreign_words()),
    "own": lambda rng: LexiconWords(rng, training_words()),
    "documentation": lambda rng: LexiconWords(rng, running_words()),
    "random": RandomWords,
    "training": TrainingWords,
}
"""Words of evaluation pages: those that no training page shows; in the same form, listed words of training and
words of Python's documentation; random letters and digits; text as training pages have it."""
