"""The computations of the processes of a simulated schedule: pages go through an encoder and the decoder."""

import random
import signal
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from dotsctl.client.runtime.machine import RuntimeMachine
from dotsctl.client.runtime.readiness_page import WORDS
from dotsctl.protocol.errors import ErrorCode
from dotsctl.protocol.geometry import PageGeometry
from dotsctl.protocol.messages import Blank, Consumed, Decoded, Done, Encode, Encoded, Received, RequestFailed
from dotsctl.protocol.parts import FinishReason, Role
from dotsctl.tools.dev.chaos.schedule_plan import Alternative, Clock, SchedulePlan

if TYPE_CHECKING:
    from dotsctl.tools.dev.chaos.simulated_workers import SimulatedProcess, SimulatedWorkers

GEOMETRY = PageGeometry((28, 28), 1, (28, 28), (1.0, 1.0), (0.0, 0.0))
SHRUNK = replace(GEOMETRY, resolution_loss=0.1)


class SimulatedPages:
    """The work of all processes."""

    def __init__(
        self, plan: SchedulePlan, rng: random.Random, clock: Clock, machine: RuntimeMachine, workers: "SimulatedWorkers"
    ) -> None:
        self._plan, self._rng, self._clock, self._machine, self._workers = plan, rng, clock, machine, workers
        self._encode_s: dict[tuple[int, int], float] = {}
        """Seconds of the encoder by request and attempt."""
        self._encoders: dict[int, SimulatedProcess] = {}
        """The encoder that has a request, by request."""
        self._is_shrunk: dict[tuple[int, int], bool] = {}
        """Whether a page lost resolution, by request and attempt."""
        self._small: set[int] = set()
        """Requests that take no memory from others: readiness pages."""

    def encode(self, encoder: "SimulatedProcess", request: Encode) -> None:
        """Begin to encode a page."""
        encoder.held[request.request_id] = request.attempt
        self._encoders[request.request_id] = encoder
        is_slow = self._workers.behaviour(encoder) is Alternative.SLOW
        least_s = 0.5 if self._plan.alternative is Alternative.SLOW else 0.01  # ten times as long: of any two pages
        encode_s = self._rng.uniform(least_s, 1) * (10 if is_slow else 1)
        self._encode_s[request.request_id, request.attempt] = encode_s
        encoder.free_at = max(encoder.free_at, self._clock.now) + encode_s
        self._workers.run(encoder, encoder.free_at - self._clock.now, partial(self._encoded, encoder, request))

    def _encoded(self, encoder: "SimulatedProcess", request: Encode) -> None:
        """Handle a page that the encoder has computed, or its fault."""
        key, attempt, behaviour = request.request_id, request.attempt, self._workers.behaviour(encoder)
        page = self._page_of(key)
        if encoder.held.get(key) != attempt:
            return
        if behaviour is Alternative.DIES or (page in self._plan.killers and self._plan.killed_role is Role.ENCODER):
            self._workers.die(encoder, -signal.SIGSEGV)
            return
        del encoder.held[key]
        if behaviour is Alternative.FAILS:
            self._workers.say(encoder, RequestFailed(key, attempt, ErrorCode.INTERNAL, "broken"))
            return
        if page in self._plan.blank:
            self._workers.say(encoder, Blank(key, attempt, (GEOMETRY,), {}))
            return
        self._workers.say(encoder, Encoded(key, attempt, 32))
        self._is_shrunk[key, attempt] = behaviour is Alternative.SHRINKS
        decoder = self._workers.processes.get((Role.DECODER, int(request.data_endpoint)))

        def arrive() -> None:  # lost with the sender, when it dies while the bytes are still its own
            if decoder is not None:
                self._workers.act(decoder, partial(self._arrived, decoder, key, attempt, page))

        self._workers.run(encoder, self._rng.uniform(0, self._plan.delay_s), arrive)

    def _arrived(self, decoder: "SimulatedProcess", key: int, attempt: int, page: int | None) -> None:
        """The embeddings of a page have come to the decoder."""
        decoder.held[key] = attempt
        if page is None:
            self._small.add(key)
        self._end_of_gathering(decoder)
        self._workers.say(decoder, Received(key, attempt))
        decoder.free_at = max(decoder.free_at, self._clock.now) + self._rng.uniform(0.01, 1) / self._plan.batch
        self._workers.run(
            decoder, decoder.free_at - self._clock.now, partial(self._decode, decoder, key, attempt, page, 0)
        )

    def _decode(self, decoder: "SimulatedProcess", key: int, attempt: int, page: int | None, step: int) -> None:
        """One step of a page in the decoder's batch."""
        if decoder.held.get(key) != attempt:
            return
        if step > 0 and self.is_gathering(decoder):
            decoder.gathered.append(partial(self._decode, decoder, key, attempt, page, step))
            return
        geometry = SHRUNK if self._is_shrunk[key, attempt] else GEOMETRY
        if step == 0:
            self._workers.say(decoder, Consumed(key, attempt))
        elif step == 1 and page in self._plan.killers and self._plan.killed_role is Role.DECODER:
            self._workers.die(decoder, -signal.SIGSEGV)
            return
        elif step == 1 and page in self._plan.hungry and len(decoder.held.keys() - self._small) > 1:
            self._run_out_of_memory(decoder)
            return
        elif step < 3:
            self._workers.say(decoder, Decoded(key, attempt, "x", 1, geometry if step == 1 else None))
        else:
            del decoder.held[key]
            timings_ms = {"encode_total": 1000 * self._encode_s[key, attempt]}
            text = WORDS[0] if page is None else str(page)
            self._encoders[key].has_read = self._encoders[key].has_read or page is None
            decoder.has_read = decoder.has_read or page is None
            self._workers.say(decoder, Done(key, attempt, text, FinishReason.STOP, (geometry,), 1, 5, 2, timings_ms))
            return
        again = partial(self._decode, decoder, key, attempt, page, step + 1)
        self._workers.run(decoder, self._rng.uniform(0.01, 0.5), again)

    def gather(self, decoder: "SimulatedProcess", for_s: float) -> None:
        """Let a decoder wait for more pages, or no longer."""
        decoder.gathers_until = self._clock.now + for_s
        self._workers.run(decoder, for_s, partial(self._end_of_gathering, decoder))

    def is_gathering(self, decoder: "SimulatedProcess") -> bool:
        """Return whether a decoder waits for more pages."""
        return self._clock.now < decoder.gathers_until and 0 < len(decoder.held) < self._plan.batch

    def _end_of_gathering(self, decoder: "SimulatedProcess") -> None:
        """Compute the passes that have waited, unless the decoder is to wait still."""
        if not self.is_gathering(decoder):
            gathered, decoder.gathered = decoder.gathered, []
            for work in gathered:
                work()

    def _run_out_of_memory(self, decoder: "SimulatedProcess") -> None:
        """All pages in the decoder lose this attempt."""
        for key, attempt in decoder.held.items():
            self._workers.say(decoder, RequestFailed(key, attempt, ErrorCode.OOM, "not enough memory"))
        decoder.held.clear()

    def _page_of(self, request_id: int) -> int | None:
        """The page behind a request, while the coordinator knows it."""
        request = self._machine.core.ledger.requests.get(request_id)
        return request.submit.page_index if request else None
