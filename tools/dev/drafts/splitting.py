"""Ways to split an answer into tokens: a model's own tokenizer, or Qwen2's rule with a vocabulary that is at hand."""

import base64
import itertools
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from dotsctl.protocol.errors import UsageError
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

QWEN2_SPLIT = "qwen2-split"
PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The rule by which Qwen2 splits text before merges, as its tokenizer.json states it: digits stand alone."""
RANKS_OF = ("dashscope", "resources/qwen.tiktoken")
"""A package with Qwen's vocabulary, and the file in it; ``pip install --no-deps dashscope``."""


def read_tokenizer(name: str, texts: Iterable[str]) -> tuple[Tokenizer, str]:
    """Return a tokenizer, and what it is.

    Args:
        name: a ``tokenizer.json``, a folder that has one, a ``.tiktoken`` file of ranks, or ``qwen2-split``.
        texts: all that will be split; without a vocabulary each of their pieces becomes a token.

    Raises:
        UsageError: there is no such file, or it is no tokenizer.
    """
    if name == QWEN2_SPLIT:
        package = find_spec(RANKS_OF[0])
        if package is not None and package.origin is not None:
            ranks = Path(package.origin).parent / RANKS_OF[1]
            return _from_ranks(ranks), f"Qwen2's split with the vocabulary of {RANKS_OF[0]}"
        return _of_pieces(texts), "Qwen2's split without a vocabulary: each piece is one token"
    path = Path(name)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"{file} does not exist", f"give a tokenizer.json, a model folder or {QWEN2_SPLIT}")
    if file.suffix == ".tiktoken":
        return _from_ranks(file), f"Qwen2's split with the ranks of {file.name}"
    try:
        return Tokenizer.from_file(str(file)), str(file)
    except Exception as error:  # the library has no class of its own for a file that it cannot use
        raise UsageError(f"{file} is not a tokenizer ({error})", "give the tokenizer.json of a model") from None


def _from_ranks(file: Path) -> Tokenizer:
    """Return the byte-level BPE of a file with a token in base64 and its rank in each line."""
    try:
        lines = [line.split() for line in file.read_bytes().splitlines()]
        ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{file} has no ranks ({error})", "give a file with a token and its rank in each line"
        ) from None
    names = dict(zip(_bytes_in_order(), sorted_alphabet(), strict=True))
    spelt = {token: "".join(names[byte] for byte in token) for token in ranks}
    merges = [
        tuple(spelt[part] for part in _parts(token, ranks))
        for token in sorted(ranks, key=ranks.__getitem__)
        if len(token) > 1
    ]
    pairs = [(pair[0], pair[1]) for pair in merges if len(pair) == 2]
    return _assembled(models.BPE({spelt[token]: rank for token, rank in ranks.items()}, pairs), byte_level=True)


def _parts(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """Return the parts that are merged into a token: what merges of a lower rank leave of it."""
    parts = [token[place : place + 1] for place in range(len(token))]
    limit = ranks[token]
    while len(parts) > 2:
        pairs = [(ranks.get(one + two, limit), place) for place, (one, two) in enumerate(itertools.pairwise(parts))]
        rank, place = min(pairs)
        if rank >= limit:
            break
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts


def _bytes_in_order() -> list[int]:
    """Return the bytes in the order of the characters that byte-level BPE writes them as."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return printed + [byte for byte in range(256) if byte not in printed]


def sorted_alphabet() -> list[str]:
    """Return the characters that byte-level BPE writes bytes as, in the order of their code points."""
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def _of_pieces(texts: Iterable[str]) -> Tokenizer:
    """Return a tokenizer whose tokens are the pieces of these texts, and every single character of them."""
    split = pre_tokenizers.Split(Regex(PIECES), "isolated")
    vocabulary: dict[str, int] = {"[UNK]": 0}
    for text in [*texts, "0123456789"]:
        for piece, _ in split.pre_tokenize_str(text):
            vocabulary.setdefault(piece, len(vocabulary))
    return _assembled(models.WordLevel(vocabulary, unk_token="[UNK]"), byte_level=False)


def _assembled(model: models.Model, *, byte_level: bool) -> Tokenizer:
    tokenizer = Tokenizer(model)
    split = pre_tokenizers.Split(Regex(PIECES), "isolated")
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        if byte_level
        else split
    )
    tokenizer.decoder = decoders.ByteLevel() if byte_level else decoders.Fuse()
    return tokenizer
