"""``python -P -m dotsctl.tools.dev.bench devices``: both halves on one GPU and on two devices, simulated.

The coordinator and the decoder's gathering are those of the runtime; time, devices and computations are simulated. The
model: a device computes one submission at a time, in the order in which they came, and a process submits its next one
when the one before is done. So with two processes each submission waits for one of the other: a pass of the decoder
waits for a piece of the encoder, and each pass takes the encoder's time. A page takes the encoder ``encode_s`` in
pieces of 50 ms, and the decoder a prefill in such pieces and as many passes as it has tokens; a pass over n pages takes
``pass_s + n * page_s``.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from dotsctl.client.runtime.core import Coordinator
from dotsctl.client.runtime.delivery import ToWorker
from dotsctl.client.runtime.views import Limits
from dotsctl.client.runtime.worker_slots import DECODER, ENCODER
from dotsctl.decoder_worker.gathering import Gathering
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.messages import Consumed, Done, Encode, Encoded, Gather, Message, Ready, Received, Submit
from dotsctl.protocol.parts import Device, FinishReason, ImageHeader, ImageKind, PageOptions, Role
from dotsctl.tools.dev.chaos.schedule_plan import Clock

PIECE_S = 0.05
"""Longest submission of the encoder, and of a prefill."""
LEAST_OVERLAP = 0.95
"""Share of the ideal pipeline's speed that the halves must reach on two devices."""
GEOMETRY = PageGeometry((28, 28), 1, (28, 28), (1.0, 1.0))
OPTIONS = PageOptions("text", None, None, None, None)
IMAGE = ImageHeader(ImageKind.FILE, 1, 28, 28)
CLIENT = b"client"


@dataclass(frozen=True)
class SimulatedMachine:
    """The times of a simulated machine."""

    name: str
    encode_s: float
    """Time of the encoder for a page, alone on its device."""
    prefill_s: float
    pass_s: float
    page_s: float
    least_gain: float = 1.0
    """Times as many pages that turns must read as halves that compute at any time."""
    tokens: int = 1000
    batch: int = 16

    def tokens_of(self, page: int) -> int:
        """Return the tokens of a page: half to one and a half times the mean, evenly spread."""
        return round(self.tokens * (0.5 + (37 * page % 101) / 100))

    def pass_over(self, pages: int) -> float:
        """Seconds of a pass over some pages, alone on the device."""
        return self.pass_s + pages * self.page_s if pages else 0.0


MACHINES = (
    SimulatedMachine("base chip, bfloat16", encode_s=27.0, prefill_s=4.0, pass_s=0.040, page_s=0.003, least_gain=1.3),
    SimulatedMachine(
        "base chip, 4-bit decoder", encode_s=27.0, prefill_s=4.0, pass_s=0.020, page_s=0.004, least_gain=1.15
    ),
    SimulatedMachine("Max chip, bfloat16", encode_s=6.0, prefill_s=0.8, pass_s=0.011, page_s=0.0008, least_gain=1.05),
)
"""Pages of 1.6 megapixels: 27 s of an M2's GPU (see encoder_worker/README.md), and passes that read 3.6 GB of weights
in bfloat16 or 1 GB in 4 bits, at 100 GB/s and 400 GB/s, with the overhead of a pass. Estimates."""


class SimulatedDevice:
    """Computes one submission at a time, in the order in which they came."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._free_at = clock, 0.0

    def submit(self, seconds: float, done: Callable[[], None]) -> None:
        """Compute for some seconds when everything before is done, and then call ``done``."""
        self._free_at = max(self._free_at, self._clock.now) + seconds
        self._clock.at(self._free_at - self._clock.now, done)


@dataclass
class Row:
    """A page in the decoder."""

    page: int
    prefill_s: float
    """Seconds that are left of its prefill."""
    tokens: int
    """Tokens that are left."""


@dataclass
class SimulatedPipeline:
    """One run: pages through a simulated encoder and decoder, which a coordinator feeds."""

    machine: SimulatedMachine
    pages: int
    is_shared: bool
    """Whether both halves compute on one GPU."""
    is_free: bool = False
    """Whether the halves compute at any time, as if the coordinator did not know that they share the device."""
    clock: Clock = field(default_factory=Clock)
    read: int = 0
    passes: int = 0
    _encoding: deque[int] = field(default_factory=deque)
    _is_encoding: bool = False
    _arrived: deque[int] = field(default_factory=deque)
    _rows: list[Row] = field(default_factory=list)
    _is_computing: bool = False

    def __post_init__(self) -> None:
        machine, decoder = self.machine, SimulatedDevice(self.clock)
        self._devices = {
            Role.DECODER: decoder,
            Role.ENCODER: decoder if self.is_shared else SimulatedDevice(self.clock),
        }
        self._gathering = Gathering.on(machine.batch, is_exclusive=True)
        self._core = Coordinator(Limits(stall_timeout_s=1e9, page_timeout_s=1e9), ["encoder"], "decoder")
        encoder_device = Device.GPU if self.is_shared and not self.is_free else Device.NE
        for slot, device in ((ENCODER, encoder_device), (DECODER, Device.GPU)):
            self._core.table.launch(slot)
            ready = Ready("f" * 64, 8, "ipc://d", machine.batch, ("text",), 0.0, device=device)
            self._core.worker_ready(slot, 1, ready, 0.0)

    def run(self) -> float:
        """Read all pages; the seconds that it took."""
        for number in range(self.pages):
            submit = Submit("job", number, str(number), (IMAGE,), OPTIONS, stream=False)
            while self._core.ledger.count_of_client(CLIENT) >= self._core.window:
                self._step()
            self._core.submit(CLIENT, submit, [b"x"], self.clock.now)
            self._take_commands()
        while self.read < self.pages:
            self._step()
        return self.clock.now

    def _step(self) -> None:
        self.clock.step(float("inf"))

    def _take_commands(self) -> None:
        """Give the halves what the coordinator sends them."""
        for command in self._core.take_commands():
            match command:
                case ToWorker(message=Encode(request_id=page)):
                    self._encoding.append(page)
                case ToWorker(message=Gather(for_s)):
                    self._gathering.permit(for_s, self.clock.now)
                    self.clock.at(0.0, self._decode_next)
                case _:
                    pass
        self._encode_next()

    def _send(self, role: Role, message: Message) -> None:
        self._core.worker_message(role, 1, message, self.clock.now)
        self._take_commands()

    # --- the encoder -------------------------------------------------------------------------------------------------

    def _encode_next(self) -> None:
        if not self._is_encoding and self._encoding:
            self._is_encoding = True
            self._encode(self._encoding.popleft(), self.machine.encode_s)

    def _encode(self, page: int, left_s: float) -> None:
        """Compute the next piece of a page."""
        if left_s > 1e-9:
            piece_s = min(PIECE_S, left_s)
            self._devices[Role.ENCODER].submit(piece_s, lambda: self._encode(page, left_s - piece_s))
            return
        self._is_encoding = False
        self._send(Role.ENCODER, Encoded(page, 1, 32))
        self._send(Role.DECODER, Received(page, 1))
        self._arrived.append(page)
        self._decode_next()

    # --- the decoder -------------------------------------------------------------------------------------------------

    def _decode_next(self) -> None:
        """Do what the decoder worker does between two steps."""
        if self._is_computing:
            return
        while self._arrived and len(self._rows) < self.machine.batch:
            page = self._arrived.popleft()
            self._rows.append(Row(page, self.machine.prefill_s, self.machine.tokens_of(page)))
            self._send(Role.DECODER, Consumed(self._rows[-1].page, 1))
        if not self._rows:
            return
        prefill = next((row for row in self._rows if row.prefill_s > 1e-9), None)
        now = self.clock.now
        gather_s = self._gathering.remaining_s(len(self._rows), now, is_full=bool(self._arrived))
        prefill_s = min(PIECE_S, prefill.prefill_s) if prefill else 0.0
        running = [] if gather_s else [row for row in self._rows if row.prefill_s <= 1e-9]
        if gather_s and not prefill:
            self.clock.at(gather_s, self._decode_next)
            return
        self._is_computing = True

        def done() -> None:
            self._is_computing = False
            if prefill:
                prefill.prefill_s -= prefill_s
            elif running:
                self._gathering.costs.passed(len(running), self.clock.now - now)
            self.passes += bool(running)
            self._pass_on(running)
            self._decode_next()

        self._devices[Role.DECODER].submit(prefill_s + self.machine.pass_over(len(running)), done)

    def _pass_on(self, running: list[Row]) -> None:
        for row in running:
            row.tokens -= 1
            if not row.tokens:
                self._rows.remove(row)
                self.read += 1
                timings_ms = {"encode_total": self.machine.encode_s * 1000}
                done = Done(row.page, 1, "x", FinishReason.STOP, (GEOMETRY,), 1, 2, self.machine.tokens, timings_ms)
                self._send(Role.DECODER, done)


@dataclass(frozen=True)
class DevicesOutcome:
    """One machine."""

    machine: SimulatedMachine
    pages: int
    free_s: float
    """One device, halves that compute at any time."""
    phases_s: float
    """One device, halves that take turns."""
    two_devices_s: float
    ideal_s: float
    """Two devices: the first page's encoding, and from there the longer half; or the other way round."""

    @property
    def gain(self) -> float:
        """Times as many pages with turns as without."""
        return self.free_s / self.phases_s

    @property
    def overlap(self) -> float:
        """Share of the ideal speed on two devices."""
        return self.ideal_s / self.two_devices_s

    @property
    def is_as_promised(self) -> bool:
        """Return whether turns and overlap bring what they must."""
        return self.gain >= self.machine.least_gain and self.overlap >= LEAST_OVERLAP


def measure(machine: SimulatedMachine, pages: int) -> DevicesOutcome:
    """Play one machine."""
    free_s = SimulatedPipeline(machine, pages, is_shared=True, is_free=True).run()
    phases_s = SimulatedPipeline(machine, pages, is_shared=True).run()
    apart = SimulatedPipeline(machine, pages, is_shared=False)
    two_devices_s = apart.run()
    return DevicesOutcome(machine, pages, free_s, phases_s, two_devices_s, ideal_s(machine, pages, apart.passes))


def ideal_s(machine: SimulatedMachine, pages: int, passes: int) -> float:
    """Return the time of the ideal pipeline on two devices, at the batch that was used.

    Args:
        machine: the times.
        pages: the number of pages.
        passes: of the decoder over all pages.
    """
    tokens = [machine.tokens_of(page) for page in range(1, pages + 1)]
    decode_s = pages * machine.prefill_s + sum(tokens) * machine.page_s + passes * machine.pass_s
    last_s = machine.prefill_s + tokens[-1] * machine.pass_over(1)
    return max(pages * machine.encode_s + last_s, machine.encode_s + decode_s)
