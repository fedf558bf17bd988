"""Faults 1, 2, 3 and 5: workers that die at the worst moments."""

import hashlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from dotsctl.decoder_worker.plugins.fake import fake_text
from dotsctl.protocol.errors import CommandFailedError, ErrorCode, ExitCode
from dotsctl.protocol.messages import PageFailed, PageResult, PageTokens, Restarted
from dotsctl.protocol.parts import Role

from tests.conftest import Gate
from tests.process.conftest import Instance, submit

pytestmark = pytest.mark.process
Start = Callable[..., Instance]


def text_of(answer: object) -> str:
    assert isinstance(answer, PageResult), answer
    return answer.text


@pytest.mark.macos
def test_a_page_survives_the_death_of_the_encoder_that_works_on_it(start: Start, gates: list[Gate]) -> None:
    """Row 1."""
    instance = start(f"fake:gate={gates[0].path}", "fake")
    wait = instance.read_in_background([b"one", b"two", b"three"])
    gates[0].wait_entered()
    gates[0].remove()
    instance.kill(Role.ENCODER)
    answers = wait()
    assert [text_of(answers[n]) for n in range(3)] == [fake_text(c) for c in (b"one", b"two", b"three")]
    assert instance.restarts(Role.ENCODER) == 1
    assert answers[0].attempt == 2  # type: ignore[attr-defined]


def test_the_client_is_informed_that_its_page_starts_again(start: Start, gates: list[Gate]) -> None:
    """Row 1: and why."""
    instance = start(f"fake:gate={gates[0].path}", "fake")
    instance.session.open_job("job")
    instance.session.send(*submit("job", 0, b"page"))
    gates[0].wait_entered()
    gates[0].remove()
    instance.kill(Role.ENCODER)
    restarted = instance.wait_restarted("job")
    assert restarted.attempt == 2
    assert "encoder died: signal SIGKILL" in restarted.reason


def test_a_page_survives_when_its_bytes_die_with_the_encoder_after_it_reported_encoded(start: Start) -> None:
    """Row 2: the decoder is stopped, so 16 MiB stay in the encoder's memory although they were sent."""
    instance = start("fake:embed_mib=16,on=never", "fake", stopped_timeout_s=60.0)
    instance.read([b"warm"], job="warm")
    decoder = instance.kill(Role.DECODER, signal.SIGSTOP)
    wait = instance.read_in_background([b"page"])
    instance.wait_status(lambda status: status.requests.get("sent") == 1, "a sent page")
    instance.kill(Role.ENCODER)
    instance.wait_status(lambda status: status.counters["restarts"] == 1, "the death of the encoder")
    os.kill(decoder, signal.SIGCONT)
    answer = wait()[0]
    assert text_of(answer) == fake_text(b"page")
    assert answer.attempt == 2  # type: ignore[attr-defined]
    assert instance.restarts(Role.DECODER) == 0


@pytest.mark.macos
def test_an_encoder_that_the_gpu_refuses_is_started_again_and_its_page_is_read(start: Start) -> None:
    """Only a new process may use the GPU again: here after every second page."""
    instance = start("fake:gpu_pages=2", "fake")
    contents = [f"page {number}".encode() for number in range(5)]
    answers = instance.read(contents)
    assert [text_of(answers[n]) for n in range(5)] == [fake_text(content) for content in contents]
    assert instance.restarts(Role.ENCODER) == 2
    log = next(Path(worker.log) for worker in instance.status().workers if worker.role is Role.ENCODER)
    assert "SubmissionsIgnored" in log.with_name("encoder.1.log").read_text()


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("fault", ["timeout", "ignored"])
def test_a_fault_of_the_gpu_restarts_the_worker_and_condemns_no_page(start: Start, role: Role, fault: str) -> None:
    """The page that meets the watchdog is read in smaller pieces; one that is refused each time fails alone."""
    contents = [b"first", b"second", b"third"]
    bad = hashlib.sha256(contents[1]).hexdigest()[:8]
    plugins = {Role.ENCODER: "fake:encode_ms=5", Role.DECODER: "fake:batch=2"}
    plugins[role] += f",fault={fault},on={'second' if role is Role.ENCODER else bad}"
    instance = start(plugins[Role.ENCODER], plugins[Role.DECODER], max_starts=20)
    answers = instance.read(contents)
    if fault == "ignored":
        failed = answers.pop(1)
        assert isinstance(failed, PageFailed) and failed.code is ErrorCode.GPU
        assert "3 times" in failed.message and "--max-pixels" in failed.message
    assert all(text_of(answer) == fake_text(contents[number]) for number, answer in answers.items())
    assert 2 <= instance.restarts(role) <= 3
    assert instance.status().counters["failed"] == (fault == "ignored")


def test_a_worker_that_the_gpu_never_serves_is_given_up_with_the_remedy(start: Start) -> None:
    instance = start("fake:fault=ignored", "fake", max_starts=2)
    instance.session.open_job("job")
    instance.session.send(*submit("job", 0, b"page"))
    with pytest.raises(CommandFailedError, match=r"macOS ended or refused its work on the GPU\. Close other"):
        while instance.session.next_of("job", 20.0) is not None:
            pass


def test_tokens_of_a_dead_decoder_are_void_and_the_text_is_exact(start: Start, gates: list[Gate]) -> None:
    """Row 3."""
    instance = start("fake", f"fake:tokens=64,gate={gates[0].path}")
    instance.session.open_job("job")
    instance.session.send(*submit("job", 0, b"page", stream=True))
    gates[0].wait_entered()  # half of the page is written
    gates[0].remove()
    while not isinstance(first := instance.session.next_of("job", 20.0), PageTokens):
        assert first is not None
    instance.kill(Role.DECODER)
    by_attempt = {1: first.text}
    restarts: list[Restarted] = []
    while not isinstance(message := instance.session.next_of("job", 20.0), PageResult):
        assert message is not None
        if isinstance(message, PageTokens):
            assert message.attempt == len(restarts) + 1, "tokens of an old attempt after the restart"
            by_attempt[message.attempt] = by_attempt.get(message.attempt, "") + message.text
        elif isinstance(message, Restarted):
            restarts.append(message)
    assert len(restarts) == 1
    assert 0 < len(by_attempt[1]) < len(message.text)
    assert by_attempt[2] == message.text == fake_text(b"page", tokens=64)


@pytest.mark.parametrize("position", [0, 1, 4])
def test_a_page_that_kills_the_encoder_twice_while_isolated_fails_alone(start: Start, position: int) -> None:
    """Row 5."""
    contents = [b"page %d" % n for n in range(6)]
    contents[position] = b"poison"
    instance = start("fake:fault=die,on=poison", "fake:batch=4")
    answers = instance.read(contents)
    poisoned = answers.pop(position)
    assert isinstance(poisoned, PageFailed) and poisoned.code is ErrorCode.POISON
    assert "alone" in poisoned.message and "SIGKILL" in poisoned.message
    assert all(text_of(answer) == fake_text(contents[n]) for n, answer in answers.items())
    # The word that the page before was encoded may die with the encoder; then that page is suspected first.
    assert 2 <= instance.restarts(Role.ENCODER) <= 5


def test_a_page_that_kills_the_decoder_does_not_condemn_its_batch(start: Start) -> None:
    """Row 5, for the decoder: suspects run alone, the healthy ones are cleared."""
    contents = [b"page %d" % n for n in range(8)]
    import hashlib

    poison = hashlib.sha256(contents[3]).hexdigest()[:12]
    instance = start("fake", f"fake:batch=8,decode_ms=40,fault=die,on={poison}")
    answers = instance.read(contents)
    poisoned = answers.pop(3)
    assert isinstance(poisoned, PageFailed) and poisoned.code is ErrorCode.POISON
    assert all(text_of(answer) == fake_text(contents[n]) for n, answer in answers.items())


def test_a_worker_that_dies_on_every_page_is_given_up(start: Start) -> None:
    """Three pages in a row that kill it are not three bad pages."""
    instance = start("fake:fault=die", "fake")
    with pytest.raises(CommandFailedError, match=r"encoder worker died 5 times in a row, last by signal SIGKILL"):
        instance.read([b"page %d" % n for n in range(40)])
    assert instance.runtime.process.wait(10) == ExitCode.COMMAND
