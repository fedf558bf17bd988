"""The messages that a client that does not read has still to get, in little memory. Pure."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

from dotsctl.protocol import codec
from dotsctl.protocol.codec import Buffer
from dotsctl.protocol.errors import ProtocolError
from dotsctl.protocol.messages import Message, PageFailed, PageResult, PageTokens

MAX_MESSAGES = 10_000
"""Messages kept for a client that does not read; one that falls further behind is dropped."""
MAX_CHARACTERS = 64 << 20
"""The limit of text in them."""
JOINED_CHARACTERS = 64 << 10
"""Tokens of a page are joined up to this length."""


class Backlog:
    """Messages in order; tokens of a page join those of the same attempt that wait already."""

    def __init__(self) -> None:
        self._messages: dict[int, Message] = {}
        self._numbers: Iterator[int] = count()
        self._joinable: dict[tuple[int, int], int] = {}
        """Number of the message that takes further tokens of an attempt of a request."""
        self._head: list[Buffer] | None = None
        self._num_characters = 0

    def __bool__(self) -> bool:
        return bool(self._messages)

    def __len__(self) -> int:
        return len(self._messages)

    def append(self, message: Message) -> None:
        """Keep a message."""
        self._num_characters += _num_characters(message)
        number = next(self._numbers)
        if isinstance(message, PageTokens):
            attempt = (message.request_id, message.attempt)
            first = self._messages.get(self._joinable.get(attempt, -1))
            if isinstance(first, PageTokens) and len(first.text) < JOINED_CHARACTERS:
                self._messages[self._joinable[attempt]] = _joined(first, message)
                return
            self._joinable[attempt] = number
        elif isinstance(message, PageResult | PageFailed):
            self._joinable.pop((message.request_id, message.attempt), None)
        self._messages[number] = message

    def head(self) -> list[Buffer]:
        """Frames of the oldest message, which gets no further tokens from here on."""
        if self._head is None:
            number, message = next(iter(self._messages.items()))
            self._joinable = {attempt: n for attempt, n in self._joinable.items() if n != number}
            self._head = frames_of(message)
        return self._head

    def drop_head(self) -> None:
        """Forget the oldest message; it was taken."""
        message = self._messages.pop(next(iter(self._messages)))
        self._num_characters -= _num_characters(message)
        self._head = None

    @property
    def is_too_long(self) -> bool:
        """Return whether its client is to be given up."""
        return len(self._messages) > MAX_MESSAGES or self._num_characters > MAX_CHARACTERS


def frames_of(message: Message) -> list[Buffer]:
    """Frames of a message; an answer that is larger than a client takes is the failure of its page alone."""
    try:
        return codec.encode(message)
    except ProtocolError as error:
        if not isinstance(message, PageResult | PageFailed):
            raise
        address = (message.job_id, message.page_index, message.request_id, message.attempt)
        return codec.encode(PageFailed(*address, error.code, str(error)))


def _joined(first: PageTokens, second: PageTokens) -> PageTokens:
    return replace(
        first,
        text=first.text + second.text,
        num_tokens=first.num_tokens + second.num_tokens,
        geometry=first.geometry or second.geometry,
    )


def _num_characters(message: Message) -> int:
    return len(message.text) if isinstance(message, PageTokens | PageResult) else 0
