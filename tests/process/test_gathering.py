"""A decoder that shares its device with the encoder, while a second page is still with the encoder."""

from collections.abc import Callable

import pytest
from dotsctl.decoder_worker.plugins.fake import fake_text
from dotsctl.protocol.messages import PageResult

from tests.conftest import Gate
from tests.process.conftest import Instance, submit

pytestmark = pytest.mark.process
Start = Callable[..., Instance]


def with_second_page_at_the_gate(
    start: Start, gate: Gate, encoder: str = "", decoder: str = "batch=4", *, stream: bool = False
) -> Instance:
    """A runtime whose decoder has the first page; the second one stands at a gate of the encoder."""
    instance = start(f"fake:prepare_gate={gate.path},on=second{encoder}", f"fake:{decoder}")
    instance.session.open_job("job")
    for number, content in enumerate((b"first", b"second")):
        instance.session.send(*submit("job", number, content, stream=stream))
    gate.wait_entered()
    return instance


def next_result(instance: Instance, timeout_s: float) -> PageResult | None:
    while (message := instance.session.next_of("job", timeout_s)) is not None:
        if isinstance(message, PageResult):
            return message
    return None


def test_a_batch_waits_for_the_page_that_is_with_the_encoder(start: Start, gates: list[Gate]) -> None:
    instance = with_second_page_at_the_gate(start, gates[0])
    instance.wait_status(lambda status: status.requests.get("decoding") == 1, "the first page in the decoder")
    assert next_result(instance, 0.3) is None
    gates[0].remove()
    gates[0].open()
    results = [next_result(instance, 20.0) for _ in range(2)]
    assert [result.text for result in results if result] == [fake_text(b"first"), fake_text(b"second")]


@pytest.mark.parametrize(
    ("encoder", "decoder", "stream"),
    [("", "batch=4", True), (",device=ne", "batch=4", False), ("", "batch=1", False), ("", "batch=2", False)],
    ids=["a client streams", "another device", "a batch of one page", "half of the batch is there"],
)
def test_a_page_does_not_wait_for_another_one_where_that_is_not_worth_it(
    start: Start, gates: list[Gate], encoder: str, decoder: str, stream: bool
) -> None:
    instance = with_second_page_at_the_gate(start, gates[0], encoder, decoder, stream=stream)
    first = next_result(instance, 20.0)
    assert first is not None and first.text == fake_text(b"first")
    gates[0].remove()
    gates[0].open()
    assert next_result(instance, 20.0) is not None


def test_a_batch_waits_no_longer_than_the_encoders_time_suggests(start: Start, gates: list[Gate]) -> None:
    instance = start(f"fake:prepare_gate={gates[0].path},on=second,encode_ms=20", "fake:batch=4")
    instance.session.open_job("job")
    for number in range(6):  # 20 ms a page become the expected time, and the shortest wait is a second
        instance.session.send(*submit("job", number, b"page %d" % number))
        assert next_result(instance, 20.0) is not None
    for number, content in enumerate((b"first", b"second"), 10):
        instance.session.send(*submit("job", number, content))
    gates[0].wait_entered()
    first = next_result(instance, 20.0)
    assert first is not None and first.page_index == 10 and first.timings_ms["decode"] >= 900
    gates[0].remove()
    gates[0].open()
    assert next_result(instance, 20.0) is not None
