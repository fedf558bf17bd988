"""The demo model's tokenizer: byte-level BPE made for the answers that the model gives.

The skeleton of a layout answer, ``"}, {"bbox": [`` and the like, is one token for each piece, and each even number of
a box is one token, so that a box costs seven. Digits of ordinary text stay single: whole numbers of a text would be
hundreds of rare words. What tells both apart is the pre-tokenizer: four numbers with commas between them are a box.
"""

import json
from collections.abc import Iterable, Iterator

from dotsctl.protocol.errors import MissingError
from dotsctl.tools.pages.elements import BOX_STEP_PX, CATEGORIES
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|imgpad|>",
    "<|img|>",
    "<|endofimg|>",
    "<|user|>",
    "<|endofuser|>",
    "<|assistant|>",
    "<|endofassistant|>",
    "[PAD]",
)
"""The tokens of dots.ocr that a served prompt uses."""
SKELETON = (
    '[{"bbox": [',
    '"}, {"bbox": [',
    '}, {"bbox": [',
    ', "text": "',
    '"}]',
    "}]",
    "<table><tr><td>",
    "</td><td>",
    "</td></tr><tr><td>",
    "</td></tr></table>",
    *(f'], "category": "{category}"' for category in CATEGORIES),
)
"""Pieces of layout answers that are one token each."""
LARGEST_NUMBER = 1120
"""Longest side of a page in pixels."""
PIECES = r"""\d+, \d+, \d+, \d+| ?[A-Za-z]+|\d|\s|[^\sA-Za-z\d]"""
"""A box, a word with the blank in front of it, a digit, a blank, a mark: what merges never cross."""


def train_tokenizer(texts: Iterable[str], size: int = 1500) -> Tokenizer:
    """Learn the merges of words from texts and put the numbers and the marks of dots.ocr behind them.

    Args:
        texts: ordinary text.
        size: entries in all.
    """
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = _pre_tokenizer()
    numbers = [str(number) for number in range(10, LARGEST_NUMBER + 1, BOX_STEP_PX)]
    words = size - len(numbers) - len(SKELETON) - len(SPECIAL_TOKENS) - 1  # 1: the comma with its blank
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=words, initial_alphabet=alphabet, show_progress=False, min_frequency=2)
    learnt.train_from_iterator(texts, trainer)
    model = json.loads(learnt.to_str())["model"]
    vocabulary: dict[str, int] = model["vocab"]
    vocabulary |= {number: len(vocabulary) + place for place, number in enumerate(numbers)}
    merges = [tuple(pair) for pair in model["merges"]] + list(_number_merges(vocabulary, numbers)) + [(",", "Ġ")]
    vocabulary[",Ġ"] = len(vocabulary)
    return _assembled(models.BPE(vocab=vocabulary, merges=merges))


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    cut = pre_tokenizers.Split(Regex(PIECES), "isolated")
    return pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _number_merges(vocabulary: dict[str, int], numbers: list[str]) -> Iterator[tuple[str, str]]:
    """Every way to put a number together from two tokens, smaller numbers first.

    BPE merges the pair that comes first in this list; with all pairs in it no number ends in two pieces.
    """
    for number in numbers:
        for cut in range(1, len(number)):
            first, second = number[:cut], number[cut:]
            if first in vocabulary and second in vocabulary:
                yield first, second


def _assembled(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = _pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(content, special=False, normalized=False) for content in SKELETON])
    tokenizer.add_tokens([AddedToken(content, special=True, normalized=False) for content in SPECIAL_TOKENS])
    return tokenizer


def id_of(tokenizer: Tokenizer, token: str) -> int:
    """Id of a token.

    Raises:
        MissingError: the tokenizer was made by another version of this module.
    """
    found = tokenizer.token_to_id(token)
    if found is None:
        raise MissingError(f"the tokenizer has no token {token!r}: begin a new training in an empty folder")
    return int(found)


def number_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids of the numbers that boxes are made of, in order: 0, 2, 4, ..."""
    numbers = range(0, LARGEST_NUMBER + 1, BOX_STEP_PX)
    return [id_of(tokenizer, str(number)) for number in numbers]


def text_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids of what ordinary text is made of: no numbers of boxes, no skeleton, no marks."""
    left_out = set(number_ids(tokenizer)[5:])  # the single digits are text too
    left_out |= {id_of(tokenizer, content) for content in (*SKELETON, *SPECIAL_TOKENS)}
    return [number for number in range(tokenizer.get_vocab_size()) if number not in left_out]
