"""``python -P -m dotsctl.tools.dev.bench coordinator``: what a worker's message costs by the number of requests."""

import time
from dataclasses import dataclass

from dotsctl.client.runtime.auto import AutoChoice
from dotsctl.client.runtime.core import Coordinator
from dotsctl.client.runtime.delivery import ToClient, ToWorker
from dotsctl.client.runtime.views import Limits
from dotsctl.client.runtime.worker_slots import WorkerSlot
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.messages import Consumed, Decoded, Done, Encode, Encoded, PageResult, Ready, Received, Submit
from dotsctl.protocol.parts import FinishReason, ImageHeader, ImageKind, PageOptions, Role

SIZES = (10, 100, 1000, 4000)
"""Numbers of requests that the coordinator holds."""
WINDOW = 10
"""Requests of each client."""
LIMIT_RATIO = 3.0
GEOMETRY = PageGeometry((28, 28), 1, (28, 28), (1.0, 1.0), (0.0, 0.0))
OPTIONS = PageOptions("text", None, None, None)


@dataclass(frozen=True)
class MessageCost:
    """The cost of a message at one size."""

    requests: int
    clients: int
    us_a_message: float


class FullCoordinator:
    """A coordinator with a constant number of requests: a client submits another page when one is read."""

    def __init__(self, requests: int, *, auto: bool = False) -> None:
        """Fill it; with ``auto`` it chooses between two encoders, of which one has fixed page sizes."""
        self.clients = max(1, requests // WINDOW)
        choice = AutoChoice(buckets=(2016,)) if auto else None
        self.core = Coordinator(Limits(), ["first", "other"][: 1 + auto], "decoder", auto=choice)
        for slot in self.core.table.slots:
            self._ready(slot)
        self._now, self._pages = 0.0, 0
        self._sent: list[tuple[int, Encode]] = []
        for number in range(requests):
            self._submit(b"client %d" % (number % self.clients))

    def _ready(self, slot: WorkerSlot) -> None:
        epoch, buckets = self.core.table.launch(slot).epoch, (2016,) if slot.index else ()
        self.core.worker_ready(slot, epoch, Ready("f" * 64, 8, "d", WINDOW, ("text",), 0.0, buckets), 0.0)

    def _submit(self, client: bytes) -> None:
        self._pages += 1
        image = ImageHeader(ImageKind.FILE, 1, 280, 280)
        page = Submit("job", self._pages, "", (image,), OPTIONS, False)
        self.core.submit(client, page, [b"x"], self._now)
        self._carry_out()

    def _carry_out(self) -> None:
        for command in self.core.take_commands():
            match command:
                case ToWorker(message=Encode() as encode):
                    self._sent.append((command.epoch, encode))
                case ToClient(message=PageResult()):
                    self._submit(command.client)

    def read_page(self) -> int:
        """Read the page that was sent first; the number of messages that this took."""
        epoch, page = self._sent.pop(0)
        address = (page.request_id, page.attempt)
        timings_ms = {"encode_total": 1.0}
        self.say(Role.ENCODER, epoch, Encoded(*address, 32))
        self.say(Role.DECODER, 1, Received(*address))
        self.say(Role.DECODER, 1, Consumed(*address))
        self.say(Role.DECODER, 1, Decoded(*address, "x", 1, None))
        self.say(Role.DECODER, 1, Done(*address, "x", FinishReason.STOP, (GEOMETRY,), 1, 5, 2, timings_ms))
        return 5

    def say(self, role: Role, epoch: int, message: Encoded | Received | Consumed | Decoded | Done) -> None:
        """Pass one message of a worker to the coordinator, and carry out its commands."""
        self._now += 0.001
        self.core.worker_message(role, epoch, message, self._now)
        self._carry_out()


def measure(messages: int, *, auto: bool = False) -> list[MessageCost]:
    """CPU time of a message at each size, the page that a client submits after a result included."""
    costs = []
    for requests in SIZES:
        full = FullCoordinator(requests, auto=auto)
        for _ in range(20):
            full.read_page()
        started, done = time.process_time(), 0
        while done < messages:
            done += full.read_page()
        costs.append(MessageCost(requests, full.clients, (time.process_time() - started) / done * 1e6))
    return costs
