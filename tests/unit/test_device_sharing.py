"""Both halves on one device: for which pages the decoder may wait, and for how long."""

from dataclasses import dataclass, field

import pytest
from dotsctl.client.runtime.core import Coordinator
from dotsctl.client.runtime.delivery import Kill, ToWorker
from dotsctl.client.runtime.views import Limits
from dotsctl.client.runtime.worker_slots import DECODER, ENCODER
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.messages import (
    Blank,
    CancelJob,
    Consumed,
    Done,
    Encode,
    Encoded,
    Gather,
    Message,
    Ready,
    Received,
    Submit,
)
from dotsctl.protocol.parts import Device, FinishReason, ImageHeader, ImageKind, PageOptions, Role

OPTIONS = PageOptions("text", None, None, None, "")
GEOMETRY = PageGeometry((28, 28), 1, (28, 28), (1.0, 1.0))
CLIENT = b"client"


@dataclass
class Runtime:
    """A coordinator with one encoder and a decoder, without processes."""

    encoder_device: Device = Device.GPU
    decoder_device: Device = Device.GPU
    capacity: int = 4
    now: float = 0.0
    told: list[float] = field(default_factory=list)
    """The seconds of each ``Gather``."""
    encoding: list[int] = field(default_factory=list)
    """Requests with the encoder, oldest first."""
    pages: int = 0

    def __post_init__(self) -> None:
        self.core = Coordinator(Limits(), ["encoder"], "decoder")
        for slot in (ENCODER, DECODER):
            self.core.table.launch(slot)
        facts = ("f" * 64, 8)
        self.core.worker_ready(ENCODER, 1, Ready(*facts, "", 1, (), 0.0, device=self.encoder_device), 0.0)
        ready = Ready(*facts, "ipc://d", self.capacity, ("text",), 0.0, device=self.decoder_device)
        self.core.worker_ready(DECODER, 1, ready, 0.0)
        self.take()

    def take(self) -> None:
        for command in self.core.take_commands():
            match command:
                case ToWorker(message=Gather(for_s)):
                    self.told.append(for_s)
                case ToWorker(message=Encode(request_id=request_id)):
                    self.encoding.append(request_id)

    def submit(self, count: int, *, stream: bool = False) -> None:
        image = ImageHeader(ImageKind.FILE, 1, 28, 28)
        for _ in range(count):
            self.pages += 1
            submit = Submit("job", self.pages, str(self.pages), (image,), OPTIONS, stream)
            self.core.submit(CLIENT, submit, [b"x"], self.now)
        self.take()

    def say(self, role: Role, message: Message) -> None:
        self.core.worker_message(role, 1, message, self.now)
        self.take()

    def encode(self) -> int:
        """The encoder ends its oldest page, and the decoder receives it."""
        page = self.encoding.pop(0)
        self.say(Role.ENCODER, Encoded(page, 1, 32))
        self.say(Role.DECODER, Received(page, 1))
        return page

    def admit(self, page: int) -> None:
        self.say(Role.DECODER, Consumed(page, 1))

    def finish(self, page: int, encode_s: float = 1.0) -> None:
        timings = {"encode_total": encode_s * 1000}
        self.say(Role.DECODER, Done(page, 1, "x", FinishReason.STOP, (GEOMETRY,), 1, 2, 3, timings))


@pytest.mark.parametrize("device", [Device.GPU, Device.CPU])
def test_the_decoder_waits_while_more_pages_come_and_no_longer(device: Device) -> None:
    runtime = Runtime(device, device)
    runtime.submit(2)
    assert runtime.told[-1] > 0
    for _ in range(2):
        assert runtime.told[-1] > 0
        runtime.admit(runtime.encode())
    assert runtime.told[-1] == 0.0


def test_a_page_alone_never_makes_the_decoder_wait_once_it_has_the_page() -> None:
    runtime = Runtime()
    runtime.submit(1)
    runtime.encode()
    assert runtime.told[-1] == 0.0


@pytest.mark.parametrize("encoder", [Device.NE, Device.CPU])
def test_halves_on_different_devices_do_not_wait_for_each_other(encoder: Device) -> None:
    runtime = Runtime(encoder, Device.GPU)
    runtime.submit(6)
    for _ in range(4):
        runtime.admit(runtime.encode())
    assert runtime.told == [] and len(runtime.encoding) == 2


@pytest.mark.parametrize("is_first", [True, False])
def test_while_a_client_streams_nothing_waits(is_first: bool) -> None:
    runtime = Runtime()
    runtime.submit(1, stream=is_first)
    runtime.submit(3, stream=not is_first)
    assert runtime.told == [] if is_first else runtime.told[-1] == 0.0


def test_when_the_page_that_streams_is_done_the_others_are_gathered_again() -> None:
    runtime = Runtime()
    runtime.submit(1, stream=True)
    runtime.submit(3)
    page = runtime.encode()
    runtime.admit(page)
    assert runtime.told == []
    runtime.finish(page)
    assert runtime.told[-1] > 0


def test_pages_that_end_without_the_decoder_are_not_waited_for() -> None:
    runtime = Runtime()
    runtime.submit(2)
    runtime.say(Role.ENCODER, Blank(runtime.encoding.pop(0), 1, (GEOMETRY,), {}))
    assert runtime.told[-1] > 0
    runtime.core.cancel(CLIENT, CancelJob("job", None), 1.0)
    runtime.take()
    assert runtime.told[-1] == 0.0


def test_the_wait_follows_the_running_average_of_the_encoders_time_and_has_limits() -> None:
    runtime = Runtime(capacity=40)
    waits = []
    for encode_s in (4.0, 4.0, 4.0, *[500.0] * 20):
        runtime.submit(2)
        waits.append(runtime.told[-1])
        for _ in range(2):
            page = runtime.encode()
            runtime.admit(page)
            runtime.finish(page, encode_s)
    assert waits[1] == waits[2] == 8.0
    assert 8.0 < waits[5] <= 120.0 and waits[-1] == 120.0  # the stall limit, after which the encoder is ended


def test_a_page_waits_in_its_batch_no_longer_than_a_quarter_of_its_time_limit() -> None:
    runtime = Runtime()
    runtime.submit(3)
    runtime.admit(runtime.encode())
    assert runtime.told[-1] > 1.0
    runtime.now = 1800 / 4 - 0.5
    runtime.admit(runtime.encode())
    assert runtime.told[-1] == 0.5
    runtime.now += 1.0
    runtime.submit(1)
    assert runtime.told[-1] == 0.0


def test_a_decoder_that_may_wait_is_not_considered_hung() -> None:
    runtime = Runtime()
    runtime.submit(2)
    runtime.admit(runtime.encode())
    for second in range(1, 100):
        runtime.now = float(second)
        runtime.core.tick(runtime.now)
    assert runtime.told[-1] > 0
    assert runtime.core.table.in_slot(DECODER).progress_at == runtime.now
    assert runtime.core.table.in_slot(ENCODER).progress_at < runtime.now


def test_a_decoder_that_does_not_take_the_page_that_it_waits_for_is_considered_hung() -> None:
    runtime = Runtime()
    runtime.submit(2)
    runtime.admit(runtime.encode())
    runtime.say(Role.ENCODER, Encoded(runtime.encoding.pop(), 1, 32))
    assert runtime.told[-1] > 0
    for second in range(1, 125):
        runtime.core.tick(float(second))
    (killed,) = [command for command in runtime.core.take_commands() if isinstance(command, Kill)]
    assert killed.role is Role.DECODER


def test_a_decoder_that_was_started_again_is_told_anew() -> None:
    runtime = Runtime()
    runtime.submit(2)
    runtime.told.clear()
    runtime.core.worker_dead(Role.DECODER, 1, "killed", 1.0)
    runtime.core.table.launch(DECODER)
    runtime.core.worker_ready(DECODER, 2, Ready("f" * 64, 8, "ipc://d", 4, ("text",), 0.0, device=Device.GPU), 2.0)
    runtime.take()
    assert runtime.told and runtime.told[-1] >= 0.0
