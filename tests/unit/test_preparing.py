"""The line of requests of an encoder: one is prepared ahead while another one is encoded."""

import threading
from collections.abc import Iterator

import pytest
from dotsctl.encoder_worker.preparing import PreparedRequest, RequestLine
from dotsctl.protocol.messages import Encode
from dotsctl.protocol.parts import ImageHeader, ImageKind, PageOptions

WAIT_S = 20.0


def request(number: int, attempt: int = 1) -> Encode:
    image = ImageHeader(ImageKind.FILE, 1, 28, 28)
    return Encode(number, attempt, (image,), PageOptions("text", None, None, None, ""), "ipc://nowhere")


class Preparation:
    """Prepares a request when it is allowed to."""

    def __init__(self) -> None:
        self.began: dict[int, threading.Event] = {}
        self.may_end: dict[int, threading.Event] = {}
        self.raises: dict[int, BaseException] = {}
        self.line = RequestLine(self)

    def __call__(self, request: Encode, buffers: list[memoryview]) -> str:
        number = request.request_id
        self.event(self.began, number).set()
        assert self.event(self.may_end, number).wait(WAIT_S)
        if number in self.raises:
            raise self.raises[number]
        return f"images of {number}"

    def event(self, events: dict[int, threading.Event], number: int) -> threading.Event:
        return events.setdefault(number, threading.Event())

    def add(self, *numbers: int) -> None:
        for number in numbers:
            for events in (self.began, self.may_end):
                self.event(events, number)
            self.line.add(request(number), [])

    def take(self, number: int) -> PreparedRequest:
        """Let a request be prepared, and take it."""
        self.may_end[number].set()
        taken = self.line.take()
        assert taken is not None and taken.request.request_id == number
        return taken


@pytest.fixture
def preparation() -> Iterator[Preparation]:
    made = Preparation()
    made.line.start()
    yield made
    for event in made.may_end.values():
        event.set()


def test_the_next_request_is_prepared_while_the_present_one_is_encoded_and_no_more_than_that(
    preparation: Preparation,
) -> None:
    preparation.add(1, 2, 3)
    first = preparation.take(1)
    assert (first.images, first.error) == ("images of 1", None)
    assert preparation.began[2].wait(WAIT_S)
    preparation.may_end[2].set()
    preparation.may_end[3].set()
    second = preparation.take(2)
    assert preparation.began[3].wait(WAIT_S)
    assert second.images == "images of 2"
    assert preparation.take(3).images == "images of 3"


def test_a_third_request_is_not_prepared_before_the_second_one_is_taken(preparation: Preparation) -> None:
    preparation.add(1, 2, 3)
    preparation.take(1)
    preparation.may_end[2].set()
    with preparation.line._changed:
        assert preparation.line._changed.wait_for(lambda: preparation.line._ready is not None, WAIT_S)
    assert not preparation.began[3].is_set()
    preparation.take(2)
    assert preparation.began[3].wait(WAIT_S)


def test_what_a_preparation_raises_is_the_outcome_of_its_request_alone(preparation: Preparation) -> None:
    preparation.raises[1] = SystemExit(3)
    preparation.add(1, 2)
    assert isinstance(preparation.take(1).error, SystemExit)
    assert preparation.take(2).error is None


def test_the_time_for_which_the_encoder_stood_still_is_known(preparation: Preparation) -> None:
    preparation.add(1, 2)
    threading.Timer(0.2, preparation.may_end[1].set).start()
    taken = preparation.line.take()
    assert taken is not None and 0.1 < taken.waited_s < WAIT_S
    assert preparation.began[2].wait(WAIT_S)
    preparation.may_end[2].set()
    with preparation.line._changed:
        assert preparation.line._changed.wait_for(lambda: preparation.line._ready is not None, WAIT_S)
    assert preparation.take(2).waited_s == 0.0


@pytest.mark.parametrize("state", ["waiting", "in preparation", "prepared"])
def test_a_cancelled_request_is_dropped_wherever_it_is(preparation: Preparation, state: str) -> None:
    preparation.add(1, 2, 3) if state == "waiting" else preparation.add(1, 3)
    cancelled = {"waiting": 3, "in preparation": 1, "prepared": 1}[state]
    assert preparation.began[1].wait(WAIT_S)
    if state == "prepared":
        preparation.may_end[1].set()
        with preparation.line._changed:
            assert preparation.line._changed.wait_for(lambda: preparation.line._ready is not None, WAIT_S)
    assert not preparation.line.cancel(cancelled, 7)
    assert preparation.line.cancel(cancelled, 1)
    assert not preparation.line.cancel(cancelled, 1)
    preparation.may_end[1].set()
    for number in {"waiting": (1, 2)}.get(state, (3,)):
        preparation.take(number)
    preparation.line.stop()
    assert preparation.line.take() is None


def test_a_request_that_is_encoded_is_marked_when_it_is_cancelled_and_the_next_one_is_not(
    preparation: Preparation,
) -> None:
    preparation.add(1, 2)
    preparation.take(1)
    assert not preparation.line.is_unwanted
    assert not preparation.line.cancel(1, 1)
    assert preparation.line.is_unwanted
    preparation.take(2)
    assert not preparation.line.is_unwanted


def test_a_line_that_is_stopped_gives_no_request_to_those_that_wait(preparation: Preparation) -> None:
    threading.Timer(0.05, preparation.line.stop).start()
    assert preparation.line.take() is None
