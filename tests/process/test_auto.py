"""Two encoders between which the runtime chooses: real processes of the fake plugins in both parts."""

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from dotsctl import Client
from dotsctl.client.connection import launch
from dotsctl.client.connection.session import Session
from dotsctl.client.connection.swap import swap_encoder
from dotsctl.client.settings.memory_plan import fitted
from dotsctl.client.settings.runtime_config import AutoEncoders, PluginChoice, RuntimeConfig
from dotsctl.decoder_worker.plugins.fake import fake_text
from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.machine import measured_costs
from dotsctl.protocol.machine.identity import this_machine
from dotsctl.protocol.machine.measured_costs import Preference
from dotsctl.protocol.messages import PageFailed, PageResult, Status
from dotsctl.protocol.model.directory import demo_directory
from dotsctl.protocol.parts import WorkerReport
from PIL import Image

from tests.conftest import Gate
from tests.process.conftest import NAME, START_S, Instance

pytestmark = pytest.mark.process
FIRST = "fake:encode_ms=150"
QUICK, SLOW = "fake:encode_ms=5,buckets=2016", "fake:encode_ms=600,buckets=2016"
DECODER = "fake:decode_ms=20"
READ_S = 90.0
"""Longest time in which pages are read until the status says something."""
LOADS_SIZES = "fake:encode_ms=1"
LARGE_PX = 2800
"""Side of a page that does not fit 2016 patches."""
AUTO = AutoEncoders(buckets=(2016,))
Start = Callable[..., Instance]


@pytest.fixture
def auto(start: Start) -> Start:
    """Start a runtime that chooses: ``auto("fake:buckets=2016")``; the fields of ``AutoEncoders`` may be given."""

    def start_auto(
        alternative: str, first: str = FIRST, limits: dict[str, object] | None = None, **fields: object
    ) -> Instance:
        further = (PluginChoice.parse(alternative),)
        choice = replace(AUTO, **fields)  # type: ignore[arg-type]
        return start(first, DECODER, further_encoders=further, auto=choice, **(limits or {}))

    return start_auto


def pages(count: int, job: str = "page") -> list[bytes]:
    return [f"{job} {number}".encode() for number in range(count)]


def encoders_of(answers: dict[int, object], contents: list[bytes]) -> set[str]:
    """The encoders that made these pages, all of which must have the right text."""
    for index, content in enumerate(contents):
        answer = answers[index]
        assert isinstance(answer, PageResult), answer
        assert answer.text == fake_text(content)
    return {answer.encoder for answer in answers.values()}  # type: ignore[attr-defined]


def alternative(status: Status) -> WorkerReport:
    return status.workers[1]


def wait_note(instance: Instance, words: str) -> WorkerReport:
    """Wait until the status says this of the alternative."""
    return alternative(instance.wait_status(lambda status: words in alternative(status).note, words))


def read_until_note(instance: Instance, words: str) -> None:
    """Read pages until the status says this of the alternative."""
    until = time.monotonic() + READ_S
    for number in itertools.count():
        contents = pages(12, f"round {number}")
        encoders_of(instance.read(contents, job=f"round {number}"), contents)
        if words in alternative(instance.status()).note:
            return
        assert time.monotonic() < until, f"{words!r} did not come in {READ_S:.0f} s: {instance.status()}"


def proved(faster: str, slower: str = FIRST) -> tuple[Preference, ...]:
    return (Preference(encoder=faster, instead_of=slower, patches=2016, page_s=1.0, instead_page_s=2.0),)


def test_the_first_encoder_reads_at_once_and_one_page_starts_nothing_else(auto: Start) -> None:
    instance = auto("fake:load_fault=hang")
    contents = pages(1)
    assert encoders_of(instance.read(contents), contents) == {FIRST}
    status = instance.status()
    assert (status.state, status.workers[0].state, alternative(status).state) == ("ready", "ready", "dormant")


def test_an_encoder_that_reads_pages_sooner_takes_over_and_that_is_remembered(auto: Start) -> None:
    """Figures are kept by the model, so there has to be one."""
    instance = auto(QUICK, limits={"model": str(demo_directory())})
    read_until_note(instance, "reads pages of 2016 patches")
    contents = pages(10, "after")
    assert encoders_of(instance.read(contents, job="after"), contents) == {QUICK}
    (kept,) = measured_costs.recall(instance.session.welcome.fingerprint, this_machine()).preferences
    assert kept.is_faster and (kept.encoder, kept.instead_of, kept.patches) == (QUICK, FIRST, 2016)


def test_an_encoder_that_is_slower_gets_no_more_pages_and_is_unloaded(auto: Start) -> None:
    instance = auto(SLOW, idle_s=1.0)
    read_until_note(instance, "does not get pages of 2016 patches")
    contents = pages(10, "after")
    assert encoders_of(instance.read(contents, job="after"), contents) == {FIRST}
    status = instance.wait_status(lambda status: alternative(status).state == "dormant", "the end of the slow encoder")
    assert alternative(status).pid == 0 and status.counters["restarts"] == 0


def test_pages_continue_while_the_other_encoder_is_loading(auto: Start, gates: list[Gate]) -> None:
    instance = auto(f"{QUICK},load_gate={gates[0].path}")
    contents = pages(8)
    assert encoders_of(instance.read(contents), contents) == {FIRST}
    gates[0].wait_entered()
    assert alternative(instance.status()).state == "loading"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("load_fault=refuse", "set to miss something"),
        ("load_fault=die", "it failed 3 times in a row, last: it died: signal SIGKILL"),
        ("load_fault=hang", "made no progress for 3 s while loading"),
        ("fault=die", "it failed 3 times in a row, last: it died: signal SIGKILL"),
        ("fault=raise", "it failed 3 times in a row, last: encoder fake:fault=raise,buckets=2016 failed"),
        ("fault=hang", "it failed 3 times in a row, last: it died: signal SIGKILL (no progress for 1 s"),
        ("model=other", "E_MODEL_MISMATCH"),
    ],
)
def test_an_encoder_that_fails_is_given_up_and_no_page_fails(auto: Start, options: str, reason: str) -> None:
    limits = {"load_timeout_s": 3.0, "stall_timeout_s": 1.0, "backoff_s": 0.01}
    instance = auto(f"fake:{options},buckets=2016", limits=limits)
    read_until_note(instance, "not used: ")
    assert reason in alternative(instance.status()).note
    contents = pages(4, "after")
    assert encoders_of(instance.read(contents, job="after"), contents) == {FIRST}
    assert instance.status().counters["failed"] == 0


def test_a_page_that_lost_too_much_resolution_is_read_by_the_first_encoder(auto: Start) -> None:
    shrinking = f"{QUICK},resolution_loss=0.1"
    instance = auto(shrinking, preferences=proved(shrinking))
    contents = pages(3)
    answers = instance.read(contents)
    assert encoders_of(answers, contents) == {FIRST}
    assert all(answer.attempt == 2 for answer in answers.values())  # type: ignore[attr-defined]


def test_a_proved_encoder_is_started_first_and_the_other_one_when_a_page_needs_it(auto: Start) -> None:
    instance = auto(QUICK, preferences=proved(QUICK))
    contents = pages(4)
    assert encoders_of(instance.read(contents), contents) == {QUICK}
    status = instance.status()
    assert (status.workers[0].state, status.workers[0].pid) == ("dormant", 0)
    large = pages(2, "large")
    assert encoders_of(instance.read(large, job="large", size_px=LARGE_PX), large) == {FIRST}
    assert instance.status().workers[0].state == "ready"


def test_a_proved_encoder_that_cannot_be_loaded_any_more_holds_nothing_up(auto: Start) -> None:
    broken = f"{QUICK},load_fault=refuse"
    instance = auto(broken, preferences=proved(broken))
    contents = pages(4)
    assert encoders_of(instance.read(contents), contents) == {FIRST}
    assert "set to miss something" in alternative(instance.status()).note


def test_a_death_of_the_proved_encoder_costs_no_page(auto: Start, gates: list[Gate]) -> None:
    held = f"{QUICK},gate={gates[0].path}"
    instance = auto(held, preferences=proved(held))
    answers = instance.read_in_background(pages(1))
    gates[0].wait_entered()
    gates[0].remove()
    os.kill(alternative(instance.status()).pid, signal.SIGKILL)
    assert encoders_of(answers(), pages(1)) == {FIRST}
    wait = instance.wait_status(lambda status: alternative(status).state == "ready", "the restart")
    assert alternative(wait).restarts == 1
    contents = pages(3, "after")
    assert encoders_of(instance.read(contents, job="after"), contents) == {held}


def test_more_page_sizes_are_loaded_when_pages_need_them(auto: Start) -> None:
    sizes = {"buckets": (400, 2016), "size_option": "buckets"}
    middling = Preference(encoder=LOADS_SIZES, instead_of=FIRST, patches=2016, page_s=1.0, instead_page_s=2.0)
    small = replace(middling, patches=400)
    instance = auto(LOADS_SIZES, preferences=(small,), **sizes)
    assert instance.session.welcome.capabilities[1].buckets == (400,)
    contents = pages(6)
    assert encoders_of(instance.read(contents), contents) == {LOADS_SIZES}
    epoch = alternative(instance.status()).epoch
    contents = pages(6, "middle")
    assert FIRST in encoders_of(instance.read(contents, job="middle", size_px=588), contents)
    instance.wait_status(lambda status: alternative(status).epoch > epoch, "its new start")
    instance.wait_status(lambda status: alternative(status).state == "ready", "both page sizes")
    with contextlib.closing(Session(instance.runtime.directory, START_S)) as session:
        assert session.welcome.capabilities[1].buckets == (400, 2016)


def test_a_page_that_only_a_missing_encoder_could_read_fails_alone(auto: Start) -> None:
    missing = "fake:load_fault=refuse"
    instance = auto(QUICK, first=missing, preferences=proved(QUICK, missing))
    large = instance.read(pages(1, "large"), job="large", size_px=LARGE_PX)[0]
    assert isinstance(large, PageFailed)
    assert f"only encoder {missing} can read this page, and it is not used" in large.message
    contents = pages(2)
    assert encoders_of(instance.read(contents), contents) == {QUICK}


def test_a_first_encoder_that_cannot_be_loaded_is_the_end_of_the_start(auto: Start) -> None:
    with pytest.raises(MissingError, match=r"the encoder worker cannot load: .* set to miss something"):
        auto(QUICK, first="fake:load_fault=refuse")


def test_both_encoders_that_do_not_fit_into_memory_are_one_and_the_status_states_why(run_folder: object) -> None:
    both = RuntimeConfig(
        NAME, "fake", "", PluginChoice.parse(FIRST), PluginChoice.parse(DECODER), (PluginChoice.parse(QUICK),), AUTO
    )
    config = fitted(both, 500 << 20)
    assert config.encoders == (PluginChoice.parse(FIRST),)
    assert f"{QUICK} is not used: a memory limit of 500 MiB is too small" in config.auto_line
    launch.start_detached(config, START_S)
    try:
        with Client(name=NAME, timeout_s=START_S) as client:
            assert client.encoder == "auto"
            (page,) = client.ocr([Image.new("RGB", (60, 60), "blue")], check_blank=False)
            assert page.encoder == FIRST
            assert "is too small" in client.status().workers[0].note
    finally:
        launch.stop(NAME, now=True, timeout_s=10)
    assert fitted(both, 800 << 20).encoders == both.encoders


def test_a_client_may_ask_for_one_of_the_two_and_swap_either(run_folder: object) -> None:
    launch.start_detached(
        RuntimeConfig(
            NAME, "fake", "", PluginChoice.parse(FIRST), PluginChoice.parse(DECODER), (PluginChoice.parse(QUICK),), AUTO
        ),
        START_S,
    )
    try:
        for asked, expected in ((None, "auto"), ("auto", "auto"), (QUICK, QUICK), (FIRST, FIRST)):
            with Client(name=NAME, encoder=asked, timeout_s=START_S) as client:
                assert client.encoder == expected
                (page,) = client.ocr([Image.new("RGB", (60, 60), "blue")], check_blank=False)
                assert page.encoder == (FIRST if expected == "auto" else expected)
        assert swap_encoder(NAME, PluginChoice.parse("fake"), START_S, slot=0) == "fake"
        assert swap_encoder(NAME, PluginChoice.parse("fake:encode_ms=1"), START_S, slot=1) == "fake:encode_ms=1"
        with Client(name=NAME, timeout_s=START_S) as client:
            (page,) = client.ocr([Image.new("RGB", (60, 60), "blue")], check_blank=False)
            assert page.encoder == "fake"
    finally:
        launch.stop(NAME, now=True, timeout_s=10)
