"""Which of two encoders a page goes to, without processes: by its size, by comparison, and after failures."""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from dotsctl.client.runtime.auto import ALTERNATIVE, FIRST, MAX_FAILURES, AutoChoice
from dotsctl.client.runtime.auto_slots import SlotState
from dotsctl.client.runtime.core import Coordinator
from dotsctl.client.runtime.delivery import GiveUp, Retire, ToClient, ToWorker, Wake
from dotsctl.client.runtime.views import Limits
from dotsctl.client.runtime.worker_slots import DECODER, WorkerSlot
from dotsctl.client.runtime.worker_table import SwapTrial
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.protocol.errors import ErrorCode
from dotsctl.protocol.geometry import PageGeometry, PixelLimits
from dotsctl.protocol.machine.measured_costs import Preference
from dotsctl.protocol.messages import (
    CancelJob,
    Consumed,
    Decoded,
    Done,
    Encode,
    Encoded,
    PageFailed,
    PageResult,
    Ready,
    Received,
    RequestFailed,
    Submit,
)
from dotsctl.protocol.model.buckets import TOLERATED_LOSS, place, standard_buckets
from dotsctl.protocol.parts import FinishReason, ImageHeader, ImageKind, PageOptions, Quality, Role
from dotsctl.tools.dev.bucket_search import draw_pages

LIMITS = PixelLimits()
"""The pixel limits of dots.ocr."""
STANDARD = standard_buckets(LIMITS)
OPTIONS = PageOptions("text", None, None, None)
GEOMETRY = PageGeometry((28, 28), 1, (28, 28), (1.0, 1.0), (0.0, 0.0))
FASTER, SLOWER = 1.0, 3.0
"""Seconds of the alternative, where the first encoder takes 2."""
FIRST_SLOT, OTHER_SLOT = WorkerSlot(Role.ENCODER, FIRST), WorkerSlot(Role.ENCODER, ALTERNATIVE)
SMALL, LARGE = (280, 280), (2520, 2880)
DECODING = 2


class Runtime:
    """A coordinator with both encoders and the decoder, driven by hand."""

    def __init__(self, choice: AutoChoice, buckets: tuple[int, ...] = (2016,), batch: int = 1) -> None:
        self.core = Coordinator(
            Limits(stall_timeout_s=1e6, page_timeout_s=1e6), ["first", "other"], "decoder", auto=choice
        )
        self.choice, self.now, self._buckets, self._index = choice, 0.0, buckets, 0
        self._epochs: dict[WorkerSlot, int] = {}
        self.ready(DECODER, batch)
        self.ready(WorkerSlot(Role.ENCODER, choice.leader))

    def ready(self, slot: WorkerSlot, capacity: int = 1) -> None:
        buckets = self._buckets if slot.index == ALTERNATIVE else ()
        self._epochs[slot] = self.core.table.launch(slot).epoch
        self.core.worker_ready(slot, self.epoch(slot), Ready("f", 8, "d", capacity, ("text",), 0.0, buckets), self.now)

    def epoch(self, slot: WorkerSlot) -> int:
        return self._epochs[slot]

    def encoder_index(self, epoch: int) -> int:
        return next(slot.index for slot in self._epochs if slot != DECODER and self.epoch(slot) == epoch)

    def submit(self, size: tuple[int, int] = SMALL, options: PageOptions = OPTIONS, encoder: int | None = None) -> int:
        image = ImageHeader(ImageKind.FILE, 1, *size)
        self._index += 1
        page = Submit("job", self._index, str(self._index), (image,), options, False, encoder)
        self.core.submit(b"client", page, [b"x"], self.now)
        return self._index

    def places(self) -> dict[int, int]:
        """Places of the encoders by page, of the pages that were sent since the last call."""
        sent = {}
        for command in self.core.take_commands():
            if isinstance(command, ToWorker) and isinstance(command.message, Encode):
                page = self.core.ledger.requests[command.message.request_id].submit.page_index
                sent[page] = self.encoder_index(command.epoch)
        return sent

    def request(self, page: int) -> tuple[int, int]:
        found = self.core.ledger.find((b"client", "job", page))
        assert found is not None
        return found.request_id, found.attempt

    def encoder_says(self, index: int, message: object) -> None:
        self.core.worker_message(Role.ENCODER, self.epoch(WorkerSlot(Role.ENCODER, index)), message, self.now)  # type: ignore[arg-type]

    def decoder_says(self, message: object) -> None:
        self.core.worker_message(Role.DECODER, self.epoch(DECODER), message, self.now)  # type: ignore[arg-type]

    def encoded(self, page: int, index: int) -> None:
        """A page comes through its encoder and into the decoder's batch."""
        self.encoder_says(index, Encoded(*self.request(page), 32))
        self.decoder_says(Received(*self.request(page)))
        self.decoder_says(Consumed(*self.request(page)))

    def done(self, page: int, encode_s: float = 1.0, tokens: int = 100) -> None:
        address = self.request(page)
        timings_ms = {"encode_total": encode_s * 1000}
        self.decoder_says(Done(*address, "x", FinishReason.STOP, (GEOMETRY,), 1, 5, tokens, timings_ms))


def proved(page_s: float, *buckets: int) -> dict[int, Preference]:
    return {each: Preference("other", "first", each, page_s, 2.0) for each in buckets}


@pytest.fixture
def runtime() -> Callable[..., Runtime]:
    def make(
        page_s: float | None = None, buckets: tuple[int, ...] = (2016,), both: bool = True, **fields: object
    ) -> Runtime:
        preferences = {} if page_s is None else proved(page_s, *buckets)
        made = Runtime(AutoChoice(limits=LIMITS, buckets=buckets, preferences=preferences, **fields), buckets)  # type: ignore[arg-type]
        if both:
            made.choice.slots[FIRST if made.choice.leader == ALTERNATIVE else ALTERNATIVE].state = SlotState.STARTING
            made.ready(WorkerSlot(Role.ENCODER, FIRST if made.choice.leader == ALTERNATIVE else ALTERNATIVE))
        made.core.take_commands()
        return made

    return make


@pytest.mark.parametrize("quality", list(Quality))
def test_of_a_thousand_page_sizes_none_loses_more_than_three_percent(
    runtime: Callable[..., Runtime], quality: Quality
) -> None:
    """The margins of a page are known only when it is opened; what that costs too much goes back to the first one."""
    made, options = runtime(FASTER, STANDARD), replace(OPTIONS, quality=quality)
    counts = {FIRST: 0, ALTERNATIVE: 0}
    for drawn in draw_pages(1000, seed=7):
        page = made.submit(drawn.size, options)
        (where,) = made.places().values()
        found = place(drawn.size, 1, drawn.limits(quality), STANDARD, drawn.window_at(quality))
        made.encoded(page, where)
        if where == ALTERNATIVE and found.loss > TOLERATED_LOSS:
            geometry = replace(GEOMETRY, resolution_loss=found.loss)
            made.decoder_says(Decoded(*made.request(page), "x", 1, geometry))
            assert made.places() == {page: FIRST}
            where = FIRST
            made.encoded(page, where)
        made.done(page)
        made.core.take_commands()
        counts[where] += 1
        # The first encoder keeps to the resize rule, which is what the loss is relative to.
        assert where == FIRST or found.loss <= TOLERATED_LOSS
    assert counts[ALTERNATIVE] > {Quality.FULL: 100, Quality.BALANCED: 900, Quality.FAST: 900}[quality], counts
    assert quality is not Quality.FULL or counts[FIRST] > 100, counts


def test_a_page_on_its_side_goes_where_the_upright_one_goes(runtime: Callable[..., Runtime]) -> None:
    """The EXIF orientation is not known before a page is opened."""
    made = runtime(FASTER, STANDARD)
    for drawn in draw_pages(200, seed=3):
        targets = set()
        for size in (drawn.size, drawn.size[::-1]):
            page = made.submit(size)
            targets |= set(made.places().values())
            made.core.cancel(b"client", CancelJob("job", page), 0.0)
            made.core.take_commands()
        assert len(targets) == 1, drawn


def test_a_page_that_was_measured_to_be_slower_goes_to_the_first_encoder(runtime: Callable[..., Runtime]) -> None:
    made = runtime(SLOWER)
    page = made.submit()
    assert made.places() == {page: FIRST}


def test_a_page_that_cannot_be_resized_is_the_business_of_the_first_encoder(runtime: Callable[..., Runtime]) -> None:
    made = runtime(FASTER)
    page = made.submit((5000, 10))
    assert made.places() == {page: FIRST}


def test_all_images_of_a_request_must_fit(runtime: Callable[..., Runtime]) -> None:
    made = runtime(FASTER)
    images = (ImageHeader(ImageKind.FILE, 1, *SMALL), ImageHeader(ImageKind.FILE, 1, *LARGE))
    made.core.submit(b"client", Submit("job", 1, "1", images, OPTIONS, False), [b"x", b"x"], 0.0)
    assert made.places() == {1: FIRST}


def test_the_lower_limit_of_a_page_decides_whether_it_fits(runtime: Callable[..., Runtime]) -> None:
    made = runtime(FASTER)
    page = made.submit(LARGE, replace(OPTIONS, max_pixels=2016 * 196))
    assert made.places() == {page: ALTERNATIVE}


def test_one_page_starts_no_second_encoder_and_two_do(runtime: Callable[..., Runtime]) -> None:
    made = runtime(both=False)
    made.submit()
    assert not [command for command in made.core.take_commands() if isinstance(command, Wake)]
    made.submit()
    made.submit()
    wakes = [command for command in made.core.take_commands() if isinstance(command, Wake)]
    assert wakes == [Wake(WorkerSlot(Role.ENCODER, ALTERNATIVE))]


def test_pages_that_do_not_fit_start_no_second_encoder(runtime: Callable[..., Runtime]) -> None:
    made = runtime(both=False)
    for _ in range(3):
        made.submit(LARGE)
    assert not [command for command in made.core.take_commands() if isinstance(command, Wake)]


class Pipeline:
    """Plays both encoders and a decoder of one page at a time, each at its own speed."""

    def __init__(self, made: Runtime, encode_s: tuple[float, float], decode_s: float) -> None:
        self.made, self._encode_s, self._decode_s = made, encode_s, decode_s
        self.served: list[int] = []
        """Places of the encoders in the order of the pages."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._free_at = {FIRST: 0.0, ALTERNATIVE: 0.0, DECODING: 0.0}
        self._open_pages = 0

    def read(self, pages: int, window: int = 4) -> None:
        """Read pages, so many of them submitted at a time."""
        left = pages
        while left or self._open_pages:
            while left and self._open_pages < window:
                self.made.submit()
                left, self._open_pages = left - 1, self._open_pages + 1
            for page, where in self.made.places().items():
                self.served.append(where)
                self._work(where, self._encode_s[where], partial(self._encoded, page, where))
            self.made.now, _, event = heapq.heappop(self._events)
            event()

    def _work(self, who: int, seconds: float, event: Callable[[], None]) -> None:
        self._free_at[who] = max(self._free_at[who], self.made.now) + seconds
        heapq.heappush(self._events, (self._free_at[who], next(self._order), event))

    def _encoded(self, page: int, where: int) -> None:
        self.made.encoded(page, where)
        for _ in range(20):
            self._work(DECODING, self._decode_s / 20, partial(self._decoded, page))
        self._work(DECODING, 0.0, partial(self._done, page, where))

    def _decoded(self, page: int) -> None:
        self.made.decoder_says(Decoded(*self.made.request(page), "x", 5, None))

    def _done(self, page: int, where: int) -> None:
        self.made.done(page, self._encode_s[where])
        self._open_pages -= 1


def test_pages_are_read_in_turns_until_both_were_measured_and_then_by_the_faster_one(
    runtime: Callable[..., Runtime],
) -> None:
    for encode_s, expected in (((2.0, 0.5), ALTERNATIVE), ((0.5, 2.0), FIRST), ((2.0, 1.95), FIRST)):
        pipeline = Pipeline(runtime(), encode_s, decode_s=0.2)
        pipeline.read(60)
        assert {FIRST, ALTERNATIVE} == set(pipeline.served[:25])
        assert set(pipeline.served[-25:]) == {expected}
        preference = pipeline.made.choice.preferences[2016]
        assert preference.is_faster == (expected == ALTERNATIVE)
        assert preference.page_s == pytest.approx(encode_s[ALTERNATIVE], rel=0.1)
        assert preference.instead_page_s == pytest.approx(encode_s[FIRST], rel=0.1)


def test_where_decoding_takes_longer_than_either_encoder_neither_is_faster(runtime: Callable[..., Runtime]) -> None:
    pipeline = Pipeline(runtime(), (0.4, 0.2), decode_s=2.0)
    pipeline.read(60)
    assert set(pipeline.served[-25:]) == {FIRST}
    assert pipeline.made.choice.preferences[2016].page_s == pytest.approx(2.0, rel=0.2)


def test_pages_that_come_one_by_one_are_never_compared(runtime: Callable[..., Runtime]) -> None:
    pipeline = Pipeline(runtime(), (2.0, 0.5), decode_s=0.2)
    pipeline.read(40, window=1)
    assert set(pipeline.served) == {FIRST} and not pipeline.made.choice.preferences


def test_a_page_that_the_alternative_failed_with_is_read_by_the_first_encoder(runtime: Callable[..., Runtime]) -> None:
    made = runtime(FASTER)
    page = made.submit()
    assert made.places() == {page: ALTERNATIVE}
    made.encoder_says(ALTERNATIVE, RequestFailed(*made.request(page), ErrorCode.INTERNAL, "broken"))
    assert made.places() == {page: FIRST}
    made.encoded(page, FIRST)
    made.done(page)
    (result,) = [c.message for c in made.core.take_commands() if isinstance(c, ToClient)]
    assert isinstance(result, PageResult) and (result.encoder, result.attempt) == ("first", 2)


def test_a_damaged_picture_is_no_failure_of_the_alternative(runtime: Callable[..., Runtime]) -> None:
    made = runtime(FASTER)
    page = made.submit()
    made.encoder_says(ALTERNATIVE, RequestFailed(*made.request(page), ErrorCode.BAD_IMAGE, "no picture"))
    failed = [c.message for c in made.core.take_commands() if isinstance(c, ToClient)][-1]
    assert isinstance(failed, PageFailed) and failed.code is ErrorCode.BAD_IMAGE
    assert made.choice.slots[ALTERNATIVE].failures == 0


def test_failures_in_a_row_end_the_alternative_and_a_page_between_them_does_not(
    runtime: Callable[..., Runtime],
) -> None:
    made = runtime(FASTER)

    def fail() -> list[object]:
        page = made.submit()
        made.core.take_commands()
        made.encoder_says(ALTERNATIVE, RequestFailed(*made.request(page), ErrorCode.OOM, "no memory"))
        commands = made.core.take_commands()
        made.encoded(page, FIRST)
        made.done(page)
        return [command for command in [*commands, *made.core.take_commands()] if isinstance(command, GiveUp)]

    for _ in range(MAX_FAILURES - 1):
        assert not fail()
    page = made.submit()
    made.encoded(page, ALTERNATIVE)
    made.done(page)
    for _ in range(MAX_FAILURES - 1):
        assert not fail()
    (given_up,) = fail()
    assert isinstance(given_up, GiveUp) and given_up.slot.index == ALTERNATIVE and "no memory" in given_up.reason
    page = made.submit()
    assert made.places() == {page: FIRST}
    assert made.choice.note(ALTERNATIVE).startswith("not used: it failed 3 times in a row")


def test_a_page_that_requests_a_given_up_encoder_fails_with_the_reason(runtime: Callable[..., Runtime]) -> None:
    made = runtime(FASTER)
    assert made.core.encoder_lost(WorkerSlot(Role.ENCODER, ALTERNATIVE), "it cannot be loaded", 0.0)
    made.core.take_commands()
    made.submit(encoder=ALTERNATIVE)
    failed = [c.message for c in made.core.take_commands() if isinstance(c, ToClient)][-1]
    assert isinstance(failed, PageFailed) and "it cannot be loaded" in failed.message


def test_the_encoder_that_is_needed_less_is_unloaded_and_comes_back_when_a_page_needs_it(
    runtime: Callable[..., Runtime],
) -> None:
    made = runtime(FASTER, idle_s=60.0)
    made.core.tick(61.0)
    assert made.core.take_commands() == [Retire(made.epoch(FIRST_SLOT))]
    assert made.choice.slots[FIRST].state is SlotState.DORMANT
    made.now = 62.0
    small, large = made.submit(), made.submit(LARGE)
    commands = made.core.take_commands()
    assert Wake(WorkerSlot(Role.ENCODER, FIRST)) in commands
    sent = [c.message for c in commands if isinstance(c, ToWorker) and isinstance(c.message, Encode)]
    assert [message.request_id for message in sent] == [made.request(small)[0]]
    made.ready(WorkerSlot(Role.ENCODER, FIRST))
    assert made.places() == {large: FIRST}


def test_without_a_page_neither_the_last_encoder_nor_the_leading_one_is_unloaded(
    runtime: Callable[..., Runtime],
) -> None:
    for made in (runtime(FASTER, both=False, idle_s=1.0), runtime(SLOWER, both=False, idle_s=1.0)):
        for now in (10.0, 20.0, 30.0):
            made.core.tick(now)
        assert not [command for command in made.core.take_commands() if isinstance(command, Retire)]


def test_a_swap_forgets_what_was_measured(runtime: Callable[..., Runtime]) -> None:
    made = runtime(FASTER)
    ready = Ready("f", 8, "", 1, (), 0.0, (2016,))
    worker = made.core.table.launch(OTHER_SLOT, SwapTrial(b"client", PluginChoice("new")))
    made.core.encoder_swapped(OTHER_SLOT, worker.epoch, replace(ready, buckets=(400,)), "new", 0.0)
    assert not made.choice.preferences and made.core.encoder_names == ["first", "new"]
    assert (made.choice.buckets, made.choice.needed, made.choice.options(ALTERNATIVE)) == ((400,), set(), {})
