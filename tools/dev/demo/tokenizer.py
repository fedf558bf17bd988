"""The demo model's tokenizer: byte-level BPE made for the answers that the model gives.

Each printed character is one token. The skeleton of a layout answer, ``"}, {"bbox": [`` and the like, is one token for
each piece, and each even number of a box is one token, so that a box costs seven. Digits of ordinary text stay single.
The pre-tokenizer separates both: four numbers with commas between them are a box.
"""

from collections.abc import Iterator

from dotsctl.protocol.errors import MissingError
from dotsctl.tools.pages.characters import ASCII, CHARACTERS
from dotsctl.tools.pages.elements import BOX_STEP_PX, CATEGORIES
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

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
PIECES = r"""\d+, \d+, \d+, \d+|[\s\S]"""
"""A box, or any one character: what merges never cross."""
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def make_tokenizer() -> Tokenizer:
    """Return the tokenizer: the 256 bytes, the printed characters beyond ASCII, the numbers, and the marks of dots.ocr.

    No token holds several letters: a model that has to choose such a piece before it has attended to its letters puts
    them in a wrong order.
    """
    vocabulary = {byte: number for number, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []
    numbers = [str(number) for number in range(10, LARGEST_NUMBER + 1, BOX_STEP_PX)]
    vocabulary |= {number: len(vocabulary) + place for place, number in enumerate(numbers)}
    merges += _number_merges(vocabulary, numbers)
    for piece in (", ", *sorted(set(CHARACTERS) - set(ASCII))):
        written = "".join(token for token, _ in BYTES.pre_tokenize_str(piece))  # a character for each byte
        for end in range(2, len(written) + 1):
            merges.append((written[: end - 1], written[end - 1]))
            vocabulary.setdefault(written[:end], len(vocabulary))
    merges = list(dict.fromkeys(merges))  # characters of three bytes share their first two
    return _assembled(models.BPE(vocab=vocabulary, merges=merges))


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PIECES), "isolated"), BYTES])


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
        raise MissingError(f"the tokenizer has no token {token!r}", "begin a new training in an empty folder")
    return int(found)


def number_ids(tokenizer: Tokenizer) -> list[int]:
    """The ids of the numbers of boxes, in order: 0, 2, 4, ..."""
    numbers = range(0, LARGEST_NUMBER + 1, BOX_STEP_PX)
    return [id_of(tokenizer, str(number)) for number in numbers]


def text_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids of the printed characters, the blank and the line end."""
    return [tokenizer.encode(character).ids[0] for character in f"{CHARACTERS} \n"]
