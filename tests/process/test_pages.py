"""Pages through real processes with fake plugins."""

import threading
from collections.abc import Callable

import pytest
from dotsctl.client.connection.session import Session
from dotsctl.decoder_worker.plugins.fake import fake_text
from dotsctl.protocol.errors import CommandFailedError, ErrorCode, MissingError, UsageError
from dotsctl.protocol.messages import CancelJob, PageFailed, PageResult, PageTokens
from dotsctl.protocol.parts import FinishReason, Role

from tests.process.conftest import Instance, submit

pytestmark = pytest.mark.process
Start = Callable[..., Instance]


def pages(count: int) -> list[bytes]:
    return [b"page %d" % number for number in range(count)]


def texts(answers: dict[int, object]) -> list[str]:
    return [answer.text if isinstance(answer, PageResult) else str(answer) for _, answer in sorted(answers.items())]


def test_every_page_comes_back_with_its_own_text(start: Start) -> None:
    contents = pages(40)
    answers = start("fake", "fake:batch=4").read(contents)
    assert texts(answers) == [fake_text(content) for content in contents]
    first = answers[0]
    assert isinstance(first, PageResult)
    assert first.finish_reason is FinishReason.STOP
    assert first.encoder == "fake" and first.decoder == "fake:batch=4"
    assert {"queue", "encode_total", "wait", "decode", "total"} <= first.timings_ms.keys()


def test_streamed_tokens_add_up_to_the_result(start: Start) -> None:
    instance = start("fake", "fake:tokens=100")
    instance.session.open_job("job")
    instance.session.send(*submit("job", 0, b"page", stream=True))
    streamed = ""
    while not isinstance(message := instance.session.next_of("job", 20.0), PageResult):
        if isinstance(message, PageTokens):
            assert message.attempt == 1
            streamed += message.text
    assert streamed == message.text == fake_text(b"page", tokens=100)


def test_two_clients_share_a_runtime_and_get_their_own_pages(start: Start) -> None:
    instance = start("fake:encode_ms=2", "fake")
    other = instance.read_in_background([b"other %d" % n for n in range(20)], job="other")
    mine = instance.read(pages(20))
    assert texts(mine) == [fake_text(content) for content in pages(20)]
    assert texts(other()) == [fake_text(b"other %d" % n) for n in range(20)]


def test_a_small_job_overtakes_a_big_one(start: Start) -> None:
    """Row 31: 3 pages of one client are done before about 8 pages of another client with 100."""
    instance = start("fake:encode_ms=10", "fake:decode_ms=10")
    big = instance.read_in_background([b"big %d" % n for n in range(100)])
    instance.wait_status(lambda status: status.counters["done"] >= 2, "the big job")
    before = instance.status().counters["done"]
    instance.read(pages(3))
    after = instance.status().counters["done"]
    assert after - before - 3 <= 8, f"{after - before - 3} pages of the big job were read meanwhile"
    assert len(big()) == 100


def test_a_slow_decoder_never_gets_more_pages_than_there_are_credits(start: Start) -> None:
    """Row 13: the encoder is ten times faster and stays at most two pages ahead."""
    instance = start("fake:encode_ms=2,embed_mib=1", "fake:decode_ms=20")
    instance.read(pages(30))
    counters = instance.status().counters
    assert counters["max_outstanding"] == 2
    assert counters["max_outstanding_bytes"] <= 2 * 2**20


def test_a_cancelled_job_leaves_room_for_the_next(start: Start) -> None:
    instance = start("fake", "fake:decode_ms=30")
    instance.session.open_job("first")
    for index in range(3):
        instance.session.send(*submit("first", index, b"%d" % index))
    instance.session.send(CancelJob("first", None))
    ends: list[object] = []
    while len(ends) < 3:
        message = instance.session.next_of("first", 20.0)
        assert message is not None, f"only {len(ends)} of 3 pages came to an end"
        ends += [message] if isinstance(message, PageResult | PageFailed) else []
    assert any(isinstance(m, PageFailed) and m.code is ErrorCode.CANCELLED for m in ends)
    assert texts(instance.read([b"next"], job="second")) == [fake_text(b"next")]
    assert instance.status().requests == {}


@pytest.mark.parametrize(
    ("encoder", "decoder", "error", "words"),
    [
        ("fake:load_fault=refuse", "fake", MissingError, "set to miss"),
        ("fake", "fake:load_fault=refuse", UsageError, "set to refuse"),
        ("nobody", "fake", UsageError, "no plugin 'nobody'"),
        ("fake:speed=9", "fake", UsageError, "no option 'speed'"),
        ("fake:encode_ms=fast", "fake", UsageError, "encode_ms='fast' is not a number, at least 0"),
    ],
)
def test_a_start_that_cannot_succeed_states_why_at_once(
    start: Start, encoder: str, decoder: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        start(encoder, decoder)


def test_a_worker_that_dies_while_loading_is_given_up_with_its_signal(start: Start) -> None:
    with pytest.raises(CommandFailedError, match=r"encoder worker died 3 times in a row.*SIGKILL"):
        start("fake:load_fault=die", max_starts=3)


def test_a_load_that_hangs_ends_at_its_limit(start: Start) -> None:
    with pytest.raises(CommandFailedError, match="made no progress for 1 s while loading"):
        start("fake:load_fault=hang", load_timeout_s=1.0)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("raise", ErrorCode.INTERNAL),
        ("refuse", ErrorCode.BAD_IMAGE),
        ("wrong-width", ErrorCode.BAD_EMBED),
        ("wrong-dtype", ErrorCode.BAD_EMBED),
        ("not-finite", ErrorCode.BAD_EMBED),
        ("wrong-grid", ErrorCode.BAD_EMBED),
    ],
)
def test_a_bad_page_fails_alone(start: Start, fault: str, code: ErrorCode) -> None:
    """Row 24: a wrong shape, type or value is found before it becomes text."""
    instance = start(f"fake:fault={fault},on=bad")
    answers = instance.read([b"good 1", b"bad", b"good 2"])
    failed = answers[1]
    assert isinstance(failed, PageFailed) and failed.code is code, failed
    assert texts({0: answers[0], 2: answers[2]}) == [fake_text(b"good 1"), fake_text(b"good 2")]
    assert instance.restarts(Role.ENCODER) == 0


def test_a_hanging_worker_is_ended_and_its_page_is_given_up_after_two_isolated_attempts(start: Start) -> None:
    instance = start("fake:fault=hang,on=bad", stall_timeout_s=0.5)
    answers = instance.read([b"good 1", b"bad", b"good 2"])
    assert isinstance(answers[1], PageFailed) and answers[1].code is ErrorCode.POISON
    assert texts({0: answers[0], 2: answers[2]}) == [fake_text(b"good 1"), fake_text(b"good 2")]


def test_a_page_that_takes_too_long_fails_at_its_deadline(start: Start) -> None:
    instance = start("fake", "fake:decode_ms=20000,tokens=200", page_timeout_s=1.0)
    answers = instance.read([b"slow"])
    assert isinstance(answers[0], PageFailed) and answers[0].code is ErrorCode.DEADLINE
    assert "1 s" in answers[0].message


def test_clients_come_and_go_while_others_read(start: Start) -> None:
    instance = start("fake:encode_ms=1", "fake")
    threads = [threading.Thread(target=Session(instance.runtime.directory, 10).close) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert len(instance.read(pages(10))) == 10
    for thread in threads:
        thread.join(10)
    instance.wait_status(lambda status: status.clients == 1, "the end of the other clients")
