"""Hints that come to the decoder apart from their pages: used in time, and forgotten with the page."""

from collections import deque
from typing import Any

import numpy as np
import pytest
from dotsctl.decoder_worker import service
from dotsctl.decoder_worker.gathering import Gathering
from dotsctl.decoder_worker.plugin import EncodedPrompt, Finish, Piece
from dotsctl.decoder_worker.service import DecoderService
from dotsctl.decoder_worker.sockets import Arrived, Event
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.messages import CancelRequest, Done, Embeddings, HintRequest, Message, Stop
from dotsctl.protocol.page_hint import HintBlock, PageHint
from dotsctl.protocol.parts import FinishReason, PageOptions, TensorHeader

GEOMETRY = PageGeometry((28, 28), 1, (28, 28), (1.0, 1.0))
OWN, LATE = (PageHint((HintBlock(text),), None, text) for text in ("own", "late"))


class Sockets:
    """Events for a service, one a turn, and what it sends."""

    def __init__(self, events: list[Event | None]) -> None:
        self._events, self.sent = deque([*events, *[None] * 20, Stop()]), list[Message]()

    def next_event(self, timeout_s: float) -> Event | None:
        return self._events.popleft() if self._events else None

    def send(self, message: Message) -> None:
        self.sent.append(message)


class Decoder:
    """Decodes one page at a time, each in two steps."""

    def __init__(self) -> None:
        self.prompts, self._running, self._steps = list[EncodedPrompt](), list[int](), 0

    def has_room(self, prompt: EncodedPrompt) -> bool:
        return not self._running

    def admit(self, prompt: EncodedPrompt) -> None:
        self.prompts.append(prompt)
        self._running.append(prompt.page_id)

    def step(self) -> list[Piece]:
        self._steps += 1
        if self._steps % 2:
            return []
        done, self._running = self._running, []
        return [Piece(page, "x", 1, Finish(FinishReason.STOP, "x", 5, 1)) for page in done]

    def cancel(self, page_id: int) -> None:
        self._running.remove(page_id)


def arrived(request_id: int, attempt: int = 1, hint: PageHint | None = None) -> Arrived:
    options = PageOptions("text", None, None, None, hint)
    tensor = TensorHeader("<f4", (1, 2), 8)
    header = Embeddings(request_id, attempt, tensor, (1,), (GEOMETRY,), options, {})
    return Arrived(header, np.zeros((1, 2), np.float32))


def served(*events: Event | None) -> tuple[dict[int, PageHint | None], dict[int, str], DecoderService]:
    """The hints that the plugin got, the sources that the answers name, and the service."""
    sockets, decoder = Sockets(list(events)), Decoder()
    made = DecoderService(sockets, decoder, "decoder 'test'", Gathering(1, 1))  # type: ignore[arg-type]
    made.run()
    got = {prompt.page_id: prompt.hint for prompt in decoder.prompts}
    return got, {each.request_id: each.hint for each in sockets.sent if isinstance(each, Done)}, made


@pytest.mark.parametrize(
    ("events", "hint"),
    [
        ((arrived(1),), None),
        ((arrived(1, hint=OWN),), OWN),
        ((HintRequest(1, 1, LATE), arrived(1)), LATE),
        ((HintRequest(1, 1, LATE), None, None, arrived(1)), LATE),
        ((HintRequest(1, 1, LATE), arrived(1, hint=OWN)), LATE),
        ((arrived(1), HintRequest(1, 1, LATE)), LATE),
        ((arrived(1), None, HintRequest(1, 1, LATE)), None),
        ((HintRequest(1, 1, LATE), arrived(1, attempt=2)), None),
        ((HintRequest(2, 1, LATE), arrived(1)), None),
        ((HintRequest(1, 1, LATE), CancelRequest(1, 1), arrived(1)), None),
    ],
    ids=[
        "none", "own", "before", "long before", "instead of its own", "while it waits", "too late",
        "an earlier attempt", "another page", "cancelled",
    ],
)  # fmt: skip
def test_a_page_has_the_hint_that_came_before_it_was_admitted(events: tuple[Event, ...], hint: PageHint | None) -> None:
    got, named, _ = served(*events)
    assert got == {1: hint}
    assert named == {1: hint.source if hint else ""}


def test_a_page_that_waits_for_room_still_gets_its_hint() -> None:
    got, named, _ = served(arrived(1), arrived(2), None, HintRequest(2, 1, LATE))
    assert (got, named) == ({1: None, 2: LATE}, {1: "", 2: "late"})


def test_no_hint_stays_when_its_page_is_gone() -> None:
    pages: list[Any] = []
    for number in range(5):
        pages += [HintRequest(number, 1, LATE), arrived(number), None, None]
    cancelled = [HintRequest(9, 1, LATE), CancelRequest(9, 1)]
    running = [arrived(10), None, HintRequest(10, 1, LATE)]
    assert not served(*pages, *cancelled, *running)[2]._hints


def test_hints_of_pages_that_never_come_are_bounded() -> None:
    late = [HintRequest(number, 1, LATE) for number in range(1000)]
    kept = served(*late)[2]._hints
    assert list(kept) == [(number, 1) for number in range(1000 - service.MOST_EARLY_HINTS, 1000)]
