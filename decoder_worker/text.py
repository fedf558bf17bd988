"""Converts token ids to text, piece by piece. Pure, except for the tokenizer that it is given."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

UNREADABLE = "\ufffd"
"""The character that stands for bytes that are no character."""


class TextStream:
    """Text of one page as its tokens arrive; a character whose bytes are spread over tokens comes when it is complete.

    Special tokens give no text, nor do bytes at the end that never become a character.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self.text = ""
        """The text so far."""

    def push(self, tokens: Sequence[int]) -> str:
        """New text of further tokens, perhaps empty."""
        text = "".join(filter(None, (self._stream.step(self._tokenizer, token) for token in tokens)))
        self.text += text
        return text


def decode(tokenizer: Tokenizer, tokens: Sequence[int]) -> str:
    """Return what a :class:`TextStream` gives for all these tokens together."""
    return tokenizer.decode(list(tokens), skip_special_tokens=True).rstrip(UNREADABLE)
