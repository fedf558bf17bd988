"""The choice between two encoders for pages that name none: ``--encoder auto``. Pure.

The *first* encoder takes pages of any size. The *alternative* takes those that keep their resolution in one of its
fixed page sizes, and it has to prove itself: it loads in the background while the first one reads, and gets some of
the pages in turns with the first one, until the measured throughput of both with the decoder running says which of
them reads pages of this size (``throughput.py``). An alternative that fails again and again is given up; its pages go
to the first encoder. Each encoder's process is started when a page needs it, and ended when none needed it for long.
The alternative loads only the page sizes that pages needed, because each may take minutes at its first start.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dotsctl.client.runtime.auto_slots import Slot, SlotState
from dotsctl.client.runtime.delivery import Compared, GiveUp, Wake
from dotsctl.client.runtime.encoder_choice import EncoderChoice
from dotsctl.client.runtime.ledger import Ledger
from dotsctl.client.runtime.pace import PaceMeter
from dotsctl.client.runtime.page_size import bucket_of
from dotsctl.client.runtime.request import Lane, Request, RequestState
from dotsctl.client.runtime.throughput import SAMPLES, compare
from dotsctl.client.runtime.worker_slots import WorkerSlot
from dotsctl.client.settings.runtime_config import RuntimeConfig
from dotsctl.protocol.errors import ErrorCode
from dotsctl.protocol.geometry import PageGeometry, PixelLimits
from dotsctl.protocol.machine.measured_costs import Preference
from dotsctl.protocol.messages import Decoded, Done, Message, RequestFailed
from dotsctl.protocol.model.buckets import TOLERATED_LOSS
from dotsctl.protocol.parts import Role

FIRST, ALTERNATIVE = 0, 1
"""Indexes of the two encoders."""
TURN_PAGES = 3
"""Pages that one encoder gets before it is the other one's turn, while they are compared."""
MAX_FAILURES = 3
"""Failures of the alternative in a row, without a page that it read between them, after which it is given up."""


@dataclass
class AutoChoice(EncoderChoice):
    """Two encoders, of which one is enough."""

    limits: PixelLimits = field(default_factory=PixelLimits)
    """Pixel limits of the model."""
    buckets: tuple[int, ...] = ()
    """All page sizes that the alternative can load, in patches; empty: not known, or pages of any size."""
    preferences: dict[int, Preference] = field(default_factory=dict)
    """The results of measurements, here or earlier on this machine, by page size in patches."""
    basis: str = ""
    """Files and versions that new comparisons hold for."""
    idle_s: float = 300.0
    """Seconds without a page after which the encoder that is needed less is unloaded."""
    size_option: str = ""
    """Option of the alternative for the page sizes that it is to load, as ``960+2016``; empty: it has none."""
    needed: set[int] = field(default_factory=set)
    """Page sizes that pages needed so far, in patches."""
    loaded: tuple[int, ...] = ()
    """Page sizes that the alternative has loaded."""
    slots: tuple[Slot, Slot] = field(default_factory=lambda: (Slot(), Slot()))
    meter: PaceMeter = field(default_factory=PaceMeter)
    _turn: int = FIRST
    _turn_left: int = TURN_PAGES

    def __post_init__(self) -> None:
        self.needed |= {preference.patches for preference in self.preferences.values() if preference.is_faster}
        self.slots[self.leader].state = SlotState.STARTING

    @property
    def leader(self) -> int:
        """Return the index of the encoder that is started with the runtime and stays loaded."""
        is_proved = any(preference.is_faster for preference in self.preferences.values())
        return ALTERNATIVE if is_proved and self.slots[ALTERNATIVE].state is not SlotState.GIVEN_UP else FIRST

    def is_complete(self, num_ready: int) -> bool:
        """See the base class."""
        return num_ready > 0

    def is_started_first(self, index: int) -> bool:
        """See the base class."""
        return index == self.leader

    def options(self, index: int) -> dict[str, str]:
        """See the base class: the page sizes that pages need."""
        if index == FIRST or not self.size_option or not self.buckets:
            return {}
        return {self.size_option: "+".join(map(str, sorted(self.needed & set(self.buckets)) or self.buckets))}

    # --- routing -----------------------------------------------------------------------------------------------------

    def route(self, ledger: Ledger, *, is_ready: bool) -> list[tuple[Request, str]]:
        """See the base class; also starts an encoder that a page needs."""
        unreadable, in_flight = [], ledger.in_flight()
        for lane in ledger.lanes:
            index = ledger.encoder_indexes[lane] = self._encoder_of(lane, in_flight)
            if is_ready and self._needs_alternative(lane, len(ledger.requests)):
                self._need(lane.bucket)
            if index is None:
                continue
            slot = self.slots[index]
            if slot.state is SlotState.DORMANT:
                self._start(index)
            elif slot.state is SlotState.GIVEN_UP:
                reason = f"only encoder {self.names[index]} can read this page, and it is not used: {slot.reason}"
                unreadable += [(request, reason) for request in ledger.queued(lane)]
        return unreadable

    def lane_of(self, request: Request) -> Lane:
        """See the base class."""
        return Lane(request.submit.encoder, bucket_of(request, self.limits, self.buckets), request.needs_first)

    def _encoder_of(self, lane: Lane, in_flight: Sequence[Request]) -> int | None:
        """The encoder for a lane; none: the lane waits until the other encoder has finished what it was sent."""
        if lane.encoder is not None:
            return lane.encoder
        first, alternative = self.slots
        if lane.bucket is None or lane.needs_first or alternative.state is SlotState.GIVEN_UP:
            return FIRST
        if first.state is SlotState.GIVEN_UP:
            return ALTERNATIVE
        if alternative.state is not SlotState.READY or not self._is_loaded(lane.bucket):
            return FIRST
        if (preference := self.preferences.get(lane.bucket)) is not None:
            return ALTERNATIVE if preference.is_faster else FIRST
        return self._turns(in_flight)

    def _turns(self, in_flight: Sequence[Request]) -> int | None:
        """The encoder for a page of a size that is being compared: turns, and never both encoders at once."""
        if not in_flight:
            return FIRST  # nothing can be measured while the decoder has no work
        other = _other(self._turn)
        has_queue = any(
            r.encoder_index == other and r.state is RequestState.ENCODING and self._is_compared(r.lane)
            for r in in_flight
        )
        return None if has_queue else self._turn

    def _is_compared(self, lane: Lane) -> bool:
        """Return whether the requests of a lane are of a size for which the better encoder is not known."""
        return lane.encoder is None and lane.bucket is not None and lane.bucket not in self.preferences

    def _needs_alternative(self, lane: Lane, num_requests: int) -> bool:
        """Return whether the alternative is to be started because of the queued requests of a lane.

        An alternative that is not proved is started when several pages wait, because only then it can be compared.
        """
        bucket, state = lane.bucket, self.slots[ALTERNATIVE].state
        if bucket is None or lane.needs_first or lane.encoder is not None:
            return False
        if state is not SlotState.DORMANT and (state is not SlotState.READY or self._is_loaded(bucket)):
            return False
        preference = self.preferences.get(bucket)
        return num_requests > 1 if preference is None else preference.is_faster

    def _is_loaded(self, bucket: int) -> bool:
        return bucket in self.loaded or not self.loaded

    def _need(self, bucket: int | None) -> None:
        """Have the alternative load one more page size: start it, or let :meth:`idle` start it anew."""
        self.needed |= {bucket} if bucket else set()
        if self.slots[ALTERNATIVE].state is SlotState.DORMANT:
            self._start(ALTERNATIVE)

    def can_fall_back(self, request: Request) -> bool:
        """See the base class."""
        return request.submit.encoder is None and request.encoder_index == ALTERNATIVE

    def reason_to_fall_back(self, request: Request, role: Role, message: Message) -> str:
        """See the base class: the alternative failed, which is counted, or took more of the page's resolution than was
        foreseen.
        """
        if not self.can_fall_back(request):
            return ""
        if isinstance(message, RequestFailed) and role is Role.ENCODER and message.code is not ErrorCode.BAD_IMAGE:
            reason = f"encoder {request.encoder_name} failed: {message.message}"
            self._count_failure(ALTERNATIVE, reason)
            return reason
        loss = max((geometry.resolution_loss for geometry in _geometries(message)), default=0.0)
        if loss > TOLERATED_LOSS:
            return f"encoder {request.encoder_name} reduced the resolution of the page by {loss:.0%}"
        return ""

    # --- events ------------------------------------------------------------------------------------------------------

    def ready(self, index: int, buckets: tuple[int, ...], now: float) -> None:
        """See the base class."""
        slot = self.slots[index]
        slot.state, slot.reason, slot.used_at = SlotState.READY, "", now
        if index == ALTERNATIVE:
            failed = self.needed - set(buckets) if buckets else set()  # it tried them, and they do not work here
            self.loaded = buckets
            self.buckets = tuple(sorted({*self.buckets, *buckets} - failed))
            self.needed -= failed

    def swapped(self, index: int) -> None:
        """See the base class: nothing is known of the new encoder, neither its page sizes nor its options."""
        self.preferences.clear()
        self.slots[index].failures = 0
        if index == ALTERNATIVE:
            self.buckets, self.size_option, self.basis = (), "", ""
            self.needed.clear()

    def dispatched(self, request: Request, now: float) -> None:
        """See the base class."""
        index = request.encoder_index
        self.slots[index].used_at = now
        if index == self._turn and self._is_compared(request.lane):
            self._turn_left -= 1
            if not self._turn_left:
                self._turn, self._turn_left = _other(index), TURN_PAGES

    def elapsed(self, ledger: Ledger, elapsed_s: float) -> None:
        """See the base class."""
        self.meter.account(ledger.in_flight(), elapsed_s)

    def decoded(self, num_tokens: int) -> None:
        """See the base class."""
        self.meter.decoded(num_tokens)

    def read(self, request: Request, done: Done, now: float) -> None:
        """See the base class; judges the alternative when this page was the last that was missing for it."""
        slot = self.slots[request.encoder_index]
        slot.failures, slot.used_at = 0, now
        bucket, encode_ms = request.lane.bucket, done.timings_ms.get("encode_total", 0.0)
        if bucket is None or not self._is_compared(request.lane) or len(request.submit.images) > 1 or encode_ms <= 0:
            return
        self.meter.read(request, bucket, encode_ms / 1000, done.completion_tokens)
        names = (self.names[FIRST], self.names[ALTERNATIVE])
        paces = (self.meter.pace(names[FIRST], bucket), self.meter.pace(names[ALTERNATIVE], bucket))
        found = compare(names, paces, bucket, self.meter.tokens_a_page(bucket), self.meter.free_tokens_per_s)
        if found:
            self.preferences[bucket] = replace(found, basis=self.basis)
            self.commands.append(Compared(self.preferences[bucket]))

    def died(self, index: int, reason: str) -> None:
        """See the base class: it is started again, or given up after too many failures."""
        if self.slots[index].state is not SlotState.GIVEN_UP:
            self.slots[index].state = SlotState.STARTING
            self._count_failure(index, f"it died: {reason}")

    def _count_failure(self, index: int, reason: str) -> None:
        self.slots[index].failures += 1
        can_do_without = index == ALTERNATIVE and self.slots[FIRST].state is not SlotState.GIVEN_UP
        if can_do_without and self.slots[index].failures >= MAX_FAILURES:
            self._give_up(index, f"it failed {MAX_FAILURES} times in a row, last: {reason}")

    def lost(self, index: int, reason: str) -> bool:
        """See the base class.

        The runtime can do without an encoder if the other one can be started; without the first one only if the
        alternative is ready, because not every page fits that one.
        """
        other = self.slots[_other(index)].state
        if other is SlotState.GIVEN_UP or (index == FIRST and other is not SlotState.READY):
            return False
        self._give_up(index, reason)
        return True

    def _give_up(self, index: int, reason: str) -> None:
        """Do without an encoder from now on; the pages that it has come back when its process has ended."""
        if self.slots[index].state is SlotState.GIVEN_UP:
            return
        self.slots[index].state, self.slots[index].reason = SlotState.GIVEN_UP, reason
        self.commands.append(GiveUp(WorkerSlot(Role.ENCODER, index), reason))
        if self.slots[_other(index)].state is SlotState.DORMANT:
            self._start(_other(index))

    def _start(self, index: int) -> None:
        self.slots[index].state = SlotState.STARTING
        self.commands.append(Wake(WorkerSlot(Role.ENCODER, index)))

    def idle(self, ledger: Ledger, now: float) -> int | None:
        """See the base class: an alternative that is to be started anew with more page sizes, or the encoder that does
        not lead, if no page has needed it for a while.
        """
        is_short = self.slots[ALTERNATIVE].state is SlotState.READY and not all(map(self._is_loaded, self.needed))
        index = ALTERNATIVE if is_short else _other(self.leader)
        are_ready = all(slot.state is SlotState.READY for slot in self.slots)
        if not is_short and (not are_ready or ledger.needs(index) or now - self.slots[index].used_at <= self.idle_s):
            return None
        self.slots[index].state = SlotState.DORMANT
        if is_short:
            self._start(ALTERNATIVE)
        return index

    def note(self, index: int) -> str:
        """See the base class."""
        slot = self.slots[index]
        if slot.state is SlotState.GIVEN_UP:
            return f"not used: {slot.reason}"
        if index == FIRST:
            return "starts when a page needs it" if slot.state is SlotState.DORMANT else ""
        if self.preferences:
            return "; ".join(str(self.preferences[bucket]) for bucket in sorted(self.preferences))
        if slot.state is SlotState.DORMANT:
            return "starts when several pages wait"
        measured = max(len(self.meter.pace(self.names[index], size).encode_s) for size in self.loaded or (0,))
        return f"compared with {self.names[FIRST]}: {min(measured, SAMPLES)} of {SAMPLES} pages measured"


def auto_choice(config: RuntimeConfig) -> AutoChoice | None:
    """Return the choice that a configuration requests; none: there is nothing to choose from."""
    auto = config.auto
    if auto is None or len(config.encoders) != 2:
        return None
    return AutoChoice(
        limits=auto.limits,
        buckets=auto.buckets,
        preferences={preference.patches: preference for preference in auto.preferences},
        basis=auto.basis,
        size_option=auto.size_option,
        idle_s=auto.idle_s,
    )


def _other(index: int) -> int:
    return FIRST if index == ALTERNATIVE else ALTERNATIVE


def _geometries(message: Message) -> tuple[PageGeometry, ...]:
    """The geometries that a decoder's message carries."""
    match message:
        case Decoded(geometry=PageGeometry() as geometry):
            return (geometry,)
        case Done():
            return message.geometries
        case _:
            return ()
