"""Pages that the encoder prepares while it computes another one."""

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
CONTENTS = [b"first", b"bad second", b"third", b"fourth"]


def ends(answers: dict[int, object]) -> list[str]:
    """The text of each page, or the code of its failure."""
    found = [answers[number] for number in range(len(answers))]
    assert all(isinstance(answer, PageResult | PageFailed) for answer in found)
    return [answer.text if isinstance(answer, PageResult) else answer.code for answer in found]  # type: ignore[attr-defined]


def all_but_the_second(code: ErrorCode) -> list[str]:
    return [code if content.startswith(b"bad") else fake_text(content) for content in CONTENTS]


def test_a_page_is_prepared_while_the_one_before_it_is_encoded(start: Start, gates: list[Gate]) -> None:
    instance = start(f"fake:gate={gates[0].path},prepare_gate={gates[1].path},on=second", "fake")
    wait = instance.read_in_background([b"first", b"second"])
    gates[0].wait_entered()
    gates[1].wait_entered()
    for gate in gates:
        gate.remove()
        gate.open()
    assert ends(wait()) == [fake_text(b"first"), fake_text(b"second")]


@pytest.mark.parametrize(("fault", "code"), [("raise", ErrorCode.INTERNAL), ("refuse", ErrorCode.BAD_IMAGE)])
def test_a_page_whose_preparation_fails_fails_alone(start: Start, fault: str, code: ErrorCode) -> None:
    instance = start(f"fake:encode_ms=20,prepare_fault={fault},on=bad", "fake")
    assert ends(instance.read(CONTENTS)) == all_but_the_second(code)
    assert instance.restarts(Role.ENCODER) == 0


def test_a_page_whose_preparation_ends_the_process_is_condemned_and_the_page_in_the_computation_is_read(
    start: Start,
) -> None:
    instance = start("fake:encode_ms=50,prepare_fault=die,on=bad", "fake", max_starts=20)
    assert ends(instance.read(CONTENTS)) == all_but_the_second(ErrorCode.POISON)


def test_a_page_whose_preparation_hangs_is_found_by_the_deadline_of_the_runtime(start: Start) -> None:
    instance = start("fake:prepare_fault=hang,on=bad", "fake", stall_timeout_s=1.0, max_starts=20)
    assert ends(instance.read(CONTENTS)) == all_but_the_second(ErrorCode.POISON)


def test_a_cancelled_page_that_is_prepared_is_dropped_before_the_page_in_the_computation_ends(
    start: Start, gates: list[Gate]
) -> None:
    instance = start(f"fake:gate={gates[0].path},prepare_gate={gates[1].path},on=third", "fake")
    instance.session.open_job("job")
    for number, content in enumerate((b"first", b"second", b"third")):
        instance.session.send(*submit("job", number, content))
    gates[0].wait_entered()
    instance.session.send(CancelJob("job", 1))
    gates[1].wait_entered()  # the third page has the credit of the second, and is prepared in its stead
    for gate in gates:
        gate.remove()
        gate.open()
    answers: dict[int, object] = {}
    while len(answers) < 3:
        message = instance.session.next_of("job", 20.0)
        assert message is not None, f"only {answers.keys()} came to an end"
        if isinstance(message, PageResult | PageFailed):
            answers[message.page_index] = message
    assert ends(answers) == [fake_text(b"first"), ErrorCode.CANCELLED, fake_text(b"third")]
