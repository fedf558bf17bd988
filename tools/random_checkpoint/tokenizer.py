"""Tokenizer and prompt templates for random checkpoints: no vocabulary of the real model, but its ids and marks.

* The 45 added tokens stand at the ids of the real tokenizer, because mlx-vlm knows the placeholder's id by heart.
* The vocabulary has no gaps, because streaming detokenizers index a list by id.
* ``<|system|>`` and ``<|endofsystem|>`` are no tokens: the templates use them, the tokenizer splits them.
"""

from collections.abc import Iterator
from typing import Any

REAL_BASE = 151_643
"""Ids below this one are pieces of text in the real tokenizer; the added tokens follow."""
REAL_ROWS = 151_936
"""Rows of the embedding table of the real model; the last 248 have no token."""
_MARKS = (
    "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> "
    "<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|> "
    "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|> "
    "<|imgpad|> <|img|> <|endofimg|> <|systemprompt|> <|endofsystemprompt|> <|user|> <|endofuser|> <|assistant|> "
    "<|endofassistant|> <|ref_start|> <|ref_end|> [SEP] <|pic|> <|text|> <|pictotext|> [PAD] <|slice|> "
    "<|endofslice|> <|imgrowend|> <|polygon_start|> <|polygon_end|> <|image_gen_start|> <|image_gen_end|>"
)
ADDED = _MARKS.split()
"""The marks in the order of their ids, 151643 to 151687."""
NOT_SPECIAL = frozenset(ADDED[14:22])
"""Added tokens that stay in the text when special tokens are skipped."""
_TEXT = (
    "the of and a in to is this that on with from as it for are be by or an its at which one all "
    "page text image layout element elements table tables formula formulas picture section header footer title list "
    "item caption footnote category categories order reading answer json entry bbox pixels write down find leave "
    "language wording html markdown latex everything else without each has where is are what read extract content"
)
WORDS = _TEXT.split()
"""Pieces of several letters, so that a prompt has about as many tokens as with the real vocabulary."""

_TURNS = (
    "{%- elif turn.role == 'system' -%}{{ '<|system|>' ~ turn.content ~ '<|endofsystem|>\n' }}"
    "{%- else -%}{{ '<|assistant|>' ~ turn.content ~ ('' if loop.last else '<|endofassistant|>') }}"
    "{%- endif -%}{%- endfor -%}{{ '' if messages[-1].role == 'assistant' else '<|assistant|>' }}"
)
_USER = "{{ '<|user|>' ~ turn.content ~ '<|endofuser|>' }}"
TEXT_TEMPLATE = "{%- for turn in messages -%}{%- if turn.role == 'user' -%}" + _USER + _TURNS
"""Content is a text: user marks around it."""
PROCESSOR_TEMPLATE = (
    "{%- for turn in messages -%}{%- if turn.role == 'user' and turn.content is string -%}"
    + _USER
    + "{%- elif turn.role == 'user' -%}{{ ' ' }}{%- for part in turn.content -%}"
    "{{ '<|img|><|imgpad|><|endofimg|>' if part.type in ('image', 'image_url') else part.text }}{%- endfor -%}" + _TURNS
)
"""Content is a list: one space in front and no user marks, as the model's own processor writes it."""


def byte_characters() -> list[str]:
    """The character for each of the 256 bytes in the order of their token ids, as byte-level BPE has them.

    Bytes that can be printed stand for themselves and come first; the others get the characters from U+0100 on.
    """
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in set(shown)]
    return [chr(byte) for byte in shown] + [chr(256 + place) for place in range(len(hidden))]


def tokenizer_json(*, real_ids: bool = True) -> dict[str, Any]:
    """Content of tokenizer.json.

    Args:
        real_ids: fill the vocabulary with unused pieces up to the ids of the real model; without them it has no more
            than the bytes, a few words and the added tokens.
    """
    pieces = byte_characters()
    merges = list(_merges())
    pieces += ["".join(pair) for pair in merges]
    if real_ids:
        pieces += [f"Ġw{place}" for place in range(len(pieces), REAL_BASE)]
    base = len(pieces)
    added = [
        {"id": base + place, "content": content, "special": content not in NOT_SPECIAL}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for place, content in enumerate(ADDED)
    ]
    bytes_step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    model = dict.fromkeys(("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"))
    flags = dict.fromkeys(("fuse_unk", "byte_fallback", "ignore_merges"), False)
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": bytes_step,
        "post_processor": None,
        "decoder": bytes_step,
        "model": {"type": "BPE", **model, **flags, "vocab": vocabulary, "merges": [list(pair) for pair in merges]},
    }


def _merges() -> Iterator[tuple[str, str]]:
    """Steps that build each word from its beginning.

    All of them begin with a space, so none can match in the middle of another word and every word has one split.
    """
    seen = set()
    for word in WORDS:
        for end in range(len(word)):
            pair = ("Ġ" + word[:end], word[end])
            if pair not in seen:
                seen.add(pair)
                yield pair
