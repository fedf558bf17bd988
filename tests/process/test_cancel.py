"""Faults 25 and 26: pages that are cancelled, wherever they are, and pages that are submitted twice."""

import os
import signal
from collections.abc import Callable

import pytest
from dotsctl.decoder_worker.plugins.fake import fake_text
from dotsctl.protocol.errors import ErrorCode
from dotsctl.protocol.messages import CancelJob, PageFailed, PageResult
from dotsctl.protocol.parts import Role

from tests.conftest import Gate
from tests.process.conftest import Instance, submit

pytestmark = pytest.mark.process
Start = Callable[..., Instance]


def reach(state: str, start: Start, gates: list[Gate]) -> tuple[Instance, int]:
    """A runtime with page 9 of the job in that state; and the pages before it."""
    encoder_gate, decoder_gate = (f"gate={gate.path}" for gate in gates)
    match state:
        case "queued" | "encoding":
            instance, before = start(f"fake:{encoder_gate}", "fake"), 2 if state == "queued" else 0
        case "sent":
            instance, before = start("fake:embed_mib=16", "fake", stopped_timeout_s=60.0), 0
        case _:
            instance, before = start("fake", f"fake:{decoder_gate}"), 1 if state == "received" else 0
    instance.session.open_job("job")
    if state == "sent":
        instance.read([b"warm"], job="warm")
        instance.kill(Role.DECODER, signal.SIGSTOP)
    for index in range(before):
        instance.session.send(*submit("job", index, b"before %d" % index))
    if state == "received":
        gates[1].wait_entered()
    instance.session.send(*submit("job", 9, b"cancelled"))
    if state in ("queued", "encoding", "decoding"):
        gates[state == "decoding"].wait_entered()
    instance.wait_status(lambda status: status.requests.get(state, 0) >= 1, f"a page that is {state}")
    return instance, before


@pytest.mark.parametrize("state", ["queued", "encoding", "sent", "received", "decoding"])
def test_a_cancelled_page_ends_once_and_gives_its_credit_back(start: Start, gates: list[Gate], state: str) -> None:
    """Row 26: cancelled twice, and a third time when it has ended."""
    instance, before = reach(state, start, gates)
    for _ in range(2):
        instance.session.send(CancelJob("job", 9))
    instance.wait_status(lambda status: status.counters["cancelled"] == 1, "the cancellation")
    if state == "sent":
        os.kill(instance.pid(Role.DECODER), signal.SIGCONT)
    for gate in gates:
        gate.remove()
        gate.open()
    ends: dict[int, list[PageResult | PageFailed]] = {}
    while len(ends) < before + 1:
        message = instance.session.next_of("job", 20.0)
        assert message is not None, f"only {ends.keys()} came to an end; {instance.status()}"
        if isinstance(message, PageResult | PageFailed):
            ends.setdefault(message.page_index, []).append(message)
    instance.session.send(CancelJob("job", 9))
    instance.session.send(CancelJob("job", 0))
    after = instance.read([b"after %d" % number for number in range(3)], job="after")
    assert all(isinstance(answer, PageResult) for answer in after.values())
    status = instance.wait_status(lambda status: status.requests == {}, "the end of all pages")
    assert instance.session.next_of("job", 0.1) is None
    ((failed,),) = [ends.pop(9)]
    assert isinstance(failed, PageFailed) and failed.code is ErrorCode.CANCELLED
    assert all(len(answers) == 1 and isinstance(answers[0], PageResult) for answers in ends.values())
    assert status.counters["cancelled"] == 1 and status.counters["max_outstanding"] <= 2
    assert status.counters["restarts"] == 0


def test_a_page_that_is_submitted_twice_is_read_once(start: Start, gates: list[Gate]) -> None:
    """Row 25."""
    instance = start("fake", f"fake:gate={gates[0].path}")
    instance.session.open_job("job")
    for _ in range(3):
        instance.session.send(*submit("job", 0, b"page"))
    gates[0].wait_entered()
    gates[0].remove()
    instance.session.send(*submit("job", 0, b"page"))
    # The decoder's words may be some milliseconds behind what it does; that there is one request is what counts.
    instance.wait_status(lambda status: status.requests == {"decoding": 1}, "the page in the decoder")
    gates[0].open()
    answers = []
    while message := instance.session.next_of("job", 1.0 if answers else 20.0):
        answers += [message] if isinstance(message, PageResult | PageFailed) else []
    assert [answer.text for answer in answers] == [fake_text(b"page")]
    assert instance.status().counters["done"] == 1
