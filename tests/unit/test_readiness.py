"""The readiness page: the picture, the judgement of answers, and the order in which workers get pages."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dotsctl.client.runtime.delivery import Spawn, ToClient, ToWorker
from dotsctl.client.runtime.machine import RELEASE, RuntimeMachine
from dotsctl.client.runtime.readiness_page import (
    FILE,
    MAX_TOKENS,
    TEXT_BOX,
    WORDS,
    Judgement,
    judge,
    overlap,
    readiness_page,
)
from dotsctl.client.runtime.worker_slots import identity_of
from dotsctl.client.runtime.worker_table import WorkerState
from dotsctl.client.settings.runtime_config import PluginChoice, RuntimeConfig
from dotsctl.protocol.errors import ErrorCode, ExitCode
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.messages import (
    ClientHello,
    Done,
    Encode,
    LoadFailed,
    Message,
    PageResult,
    Ready,
    Received,
    RequestFailed,
    Submit,
    SwapEncoder,
    SwapResult,
    Welcome,
    WorkerHello,
)
from dotsctl.protocol.parts import FinishReason, ImageHeader, ImageKind, PageOptions, Role
from PIL import Image

GEOMETRY = PageGeometry((28, 28), 1, (28, 28), (1.0, 1.0), (0.0, 0.0))
RIGHT = '[{"bbox": [9, 10, 310, 129], "category": "Text", "text": "copper meadow turtle'
CLIENT = b"client"


def done(text: str, request_id: int = 1) -> Done:
    return Done(request_id, 1, text, FinishReason.STOP, (GEOMETRY,), 1, 2, 3, {"encode_total": 1.0})


# --- the page and the judgement --------------------------------------------------------------------------------------


def test_the_page_is_read_without_a_library_as_pillow_reads_it() -> None:
    page = readiness_page()
    with Image.open(FILE) as picture:
        expected = np.asarray(picture.convert("RGB"))
    found = np.frombuffer(page.pixels, np.uint8).reshape(page.image.height, page.image.width, 3)
    assert (found == expected).all()
    assert page.image.width % 28 == page.image.height % 28 == 0


def test_the_page_is_what_its_program_draws_and_the_block_of_words_is_stated() -> None:
    pytest.importorskip("matplotlib")
    from dotsctl.tools.dev.readiness_page import draw

    levels = draw()
    with Image.open(FILE) as picture:
        stored = np.asarray(picture)
    assert np.abs(stored.astype(int) - levels).mean() < 2, "another version of the font renderer may smooth differently"
    rows, columns = np.nonzero(stored < 128)
    block = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
    assert block == TEXT_BOX
    assert len(WORDS) == len(set(WORDS)) == 20


@pytest.mark.parametrize(
    ("text", "task", "expected", "reason"),
    [
        (RIGHT, "layout", Judgement.PASSED, ""),
        ("Copper meadow TURTLE", "text", Judgement.PASSED, ""),
        ("", "layout", Judgement.REFUSED, "the answer: nothing"),
        ('[{"bbox": [0, 0, 336, 112], "category": "Picture"}]', "layout", Judgement.REFUSED, "no word"),
        ("Please read all text of the page.", "text", Judgement.REFUSED, "no word"),
        ("coppers meadows", "text", Judgement.REFUSED, "no word"),
        ("copper medow turtl violn lantrn ketle marbl anchor", "text", Judgement.DOUBTFUL, "2 of the first 8 words"),
        (RIGHT.replace("bbox", "box"), "layout", Judgement.DOUBTFUL, "no box"),
        (RIGHT.replace("9, 10, 310, 129", "9, 10, 40, 129"), "layout", Judgement.DOUBTFUL, "overlaps by 0.10"),
    ],
)
def test_an_answer_is_judged_by_words_and_box(text: str, task: str, expected: Judgement, reason: str) -> None:
    verdict = judge(done(text), task)
    assert verdict.judgement is expected
    assert reason in verdict.reason


def test_a_page_that_the_encoder_had_to_shrink_proves_nothing() -> None:
    shrunk = replace(GEOMETRY, resolution_loss=0.4)
    verdict = judge(replace(done("abc"), geometries=(shrunk,)), "text")
    assert verdict == (Judgement.DOUBTFUL, "the page did not fit: it lost 40% of its resolution: 'abc'")


def test_boxes_that_do_not_touch_have_no_overlap() -> None:
    assert overlap((0, 0, 10, 10), (10, 0, 20, 10)) == 0
    assert overlap((0, 0, 10, 10), (0, 0, 10, 10)) == 1


# --- the order -------------------------------------------------------------------------------------------------------


class Runtime:
    """A runtime machine and the messages that come out of it."""

    def __init__(self, *, reads: bool = True, readiness_page: bool = True) -> None:
        first, decoder = PluginChoice("first"), PluginChoice("decoder")
        config = RuntimeConfig("i", "m", "", first, decoder, readiness_page=readiness_page)
        self.machine, self.now, self.reads = RuntimeMachine(config, Path("log"), "i", 0.0), 0.0, reads
        self.machine.from_client(CLIENT, ClientHello(1, RELEASE), (), 0.0)
        self.take()

    def take(self) -> list[object]:
        """The commands since the last call."""
        return list(self.machine.take_commands(self.now))

    def say(self, role: Role, epoch: int, message: Message) -> list[object]:
        self.now += 0.01
        self.machine.from_worker(identity_of(role, epoch), message, self.now)
        return self.take()

    def load(self, role: Role, epoch: int = 1) -> list[object]:
        """A process loads its model."""
        self.say(role, epoch, WorkerHello(role, epoch, 1, RELEASE))
        endpoint = f"d.{epoch}" if role is Role.DECODER else ""
        return self.say(role, epoch, Ready("f", 8, endpoint, 4, ("layout", "text"), 0.0, reads_pages=self.reads))

    def start(self) -> None:
        """Both halves load and read the page."""
        self.load(Role.ENCODER)
        (page,) = encodes(self.load(Role.DECODER))
        self.say(Role.DECODER, 1, done(RIGHT, page.request_id))

    def exit(self, role: Role, epoch: int) -> list[object]:
        self.now += 0.01
        self.machine.exited(role, epoch, -9, "", self.now)
        self.machine.advance(self.now)
        return self.take()

    def tick(self, seconds: float) -> list[object]:
        self.now += seconds
        self.machine.advance(self.now)
        self.machine.tick(set(), self.now)
        return self.take()

    def submit(self, page: int) -> list[object]:
        self.now += 0.01
        image = ImageHeader(ImageKind.FILE, 1, 28, 28)
        options = PageOptions("layout", None, None, None)
        self.machine.from_client(CLIENT, Submit("job", page, "00", (image,), options, False), [b"x"], self.now)
        return self.take()


def encodes(commands: list[object]) -> list[Encode]:
    return [c.message for c in commands if isinstance(c, ToWorker) and isinstance(c.message, Encode)]


def to_client(commands: list[object], kind: type) -> list[Message]:
    return [c.message for c in commands if isinstance(c, ToClient) and isinstance(c.message, kind)]


def test_clients_are_welcomed_when_both_halves_have_read_the_page() -> None:
    runtime = Runtime()
    assert encodes(runtime.load(Role.ENCODER)) == []
    (page,) = encodes(found := runtime.load(Role.DECODER))
    assert to_client(found, Welcome) == []
    assert (page.data_endpoint, page.options.task, page.options.max_tokens) == ("d.1", "layout", MAX_TOKENS)
    answers = runtime.say(Role.DECODER, 1, done(RIGHT, page.request_id))
    assert len(to_client(answers, Welcome)) == 1
    assert [worker.readiness.split()[0] for worker in runtime.machine.table] == ["passed", "passed"]


@pytest.mark.parametrize("options", [{"reads": False}, {"readiness_page": False}], ids=str)
def test_fakes_and_those_who_skip_it_get_pages_at_once(options: dict[str, bool]) -> None:
    runtime = Runtime(**options)
    runtime.load(Role.ENCODER)
    found = runtime.load(Role.DECODER)
    assert encodes(found) == [] and len(to_client(found, Welcome)) == 1


def test_a_model_that_reads_no_word_ends_the_runtime_with_what_it_said() -> None:
    runtime = Runtime()
    runtime.load(Role.ENCODER)
    (page,) = encodes(runtime.load(Role.DECODER))
    runtime.say(Role.DECODER, 1, done("I see a picture", page.request_id))
    bye = runtime.machine.ending.bye
    assert bye is not None and bye.exit_code == ExitCode.COMMAND
    assert bye.reason.startswith("no word of the readiness page is in the answer: 'I see a picture'")
    assert "--no-readiness-page" in bye.reason


def test_a_half_that_fails_on_the_page_is_named() -> None:
    runtime = Runtime()
    runtime.load(Role.ENCODER)
    (page,) = encodes(runtime.load(Role.DECODER))
    runtime.say(Role.DECODER, 1, RequestFailed(page.request_id, 1, ErrorCode.INTERNAL, "logits are NaN"))
    bye = runtime.machine.ending.bye
    assert bye is not None and "the decoder failed on the readiness page: logits are NaN" in bye.reason


def test_a_doubtful_model_is_used_with_a_warning_in_every_result() -> None:
    runtime = Runtime()
    runtime.load(Role.ENCODER)
    (page,) = encodes(runtime.load(Role.DECODER))
    answers = runtime.say(Role.DECODER, 1, done(RIGHT.replace("bbox", "box"), page.request_id))
    assert len(to_client(answers, Welcome)) == 1
    (encode,) = encodes(runtime.submit(0))
    (result,) = to_client(runtime.say(Role.DECODER, 1, done("text", encode.request_id)), PageResult)
    assert isinstance(result, PageResult) and "may not read pages well: the answer has no box" in result.warning


def test_a_decoder_that_comes_back_reads_the_page_before_it_gets_pages_of_clients() -> None:
    runtime = Runtime()
    runtime.start()
    runtime.exit(Role.DECODER, 1)
    runtime.submit(0)
    (page,) = encodes(runtime.load(Role.DECODER, 2))
    assert page.options.max_tokens == MAX_TOKENS and page.data_endpoint == "d.2"
    (encode,) = encodes(runtime.say(Role.DECODER, 2, done(RIGHT, page.request_id)))
    assert encode.options.max_tokens is None


def test_a_death_during_the_page_repeats_it_and_makes_no_page_a_suspect() -> None:
    runtime = Runtime()
    runtime.start()
    (encode,) = encodes(runtime.submit(0))
    runtime.machine.from_client(CLIENT, SwapEncoder("second", {}, 0), (), runtime.now)
    runtime.take()
    (page,) = encodes(runtime.load(Role.ENCODER, 2))
    runtime.say(Role.DECODER, 1, Received(page.request_id, 1))
    runtime.exit(Role.DECODER, 1)
    assert not runtime.machine.core.ledger.requests[encode.request_id].suspect
    found = encodes(runtime.load(Role.DECODER, 2))
    assert [each.options.max_tokens for each in found] == [MAX_TOKENS]


def test_a_swap_to_an_encoder_that_reads_nothing_keeps_the_old_one() -> None:
    runtime = Runtime()
    runtime.start()
    runtime.machine.from_client(CLIENT, SwapEncoder("second", {}, 0), (), runtime.now)
    runtime.take()
    (page,) = encodes(runtime.load(Role.ENCODER, 2))
    (encode,) = encodes(runtime.submit(0))  # the old encoder reads on
    assert encode.options.max_tokens is None
    (answer,) = to_client(runtime.say(Role.DECODER, 1, done("nothing", page.request_id)), SwapResult)
    assert isinstance(answer, SwapResult) and not answer.swapped and "no word of the readiness page" in answer.message
    assert runtime.machine.ending.bye is None


def test_an_encoder_whose_slot_is_taken_while_it_waits_for_the_page_is_not_started_again() -> None:
    runtime = Runtime()
    runtime.start()
    runtime.machine.from_client(CLIENT, SwapEncoder("second", {}, 0), (), runtime.now)
    runtime.take()
    runtime.exit(Role.ENCODER, 1)  # epoch 2 is on trial, so 3 is the next one of the slot
    runtime.exit(Role.DECODER, 1)
    runtime.load(Role.ENCODER, 2)
    runtime.load(Role.ENCODER, 3)
    (page,) = encodes(runtime.load(Role.DECODER, 2))
    runtime.say(Role.DECODER, 2, done(RIGHT, page.request_id))
    assert encodes(runtime.tick(1.0)) == []
    retired = runtime.machine.table.find(Role.ENCODER, 3)
    assert retired is not None and retired.state is WorkerState.RETIRING
    assert not [command for command in runtime.exit(Role.ENCODER, 3) if isinstance(command, Spawn)]
    assert runtime.machine.table.find(Role.ENCODER, 3) is None


def test_a_page_without_progress_is_repeated_and_then_ends_the_half_that_has_it() -> None:
    runtime = Runtime()
    runtime.load(Role.ENCODER)
    (first,) = encodes(runtime.load(Role.DECODER))
    (second,) = encodes(runtime.tick(121))
    assert second.request_id != first.request_id
    runtime.say(Role.DECODER, 1, Received(second.request_id, 1))
    runtime.tick(121)
    decoder = next(worker for worker in runtime.machine.table if worker.role is Role.DECODER)
    assert "no progress on the readiness page for 120 s" in decoder.ended_for
    runtime.exit(Role.DECODER, 1)
    runtime.tick(1)
    assert len(encodes(runtime.load(Role.DECODER, 2))) == 1, "the encoder is still there"


def test_a_load_that_fails_while_the_other_half_waits_ends_the_runtime() -> None:
    runtime = Runtime()
    runtime.load(Role.DECODER)
    runtime.tick(1000)
    assert runtime.machine.ending.bye is None, "a half that has loaded waits as long as the other one takes"
    runtime.say(Role.ENCODER, 1, LoadFailed(ExitCode.MISSING, "no weights"))
    bye = runtime.machine.ending.bye
    assert bye is not None and "no weights" in bye.reason
