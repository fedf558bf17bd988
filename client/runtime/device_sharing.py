"""Both halves on one device: while more pages are coming, the decoder may let its batch fill (``Gather``). Pure.

A pass over many pages costs little more than one over a few. Where the halves share a device, each pass over a batch
that is not full takes time from the encoder. A GPU works for one process at a time, and each submission waits for
those of the other process. There the halves take turns: the decoder waits while pages are encoded, until its batch is
full; then the encoder soon has no credit left, and waits while the batch is decoded. A decoder does not wait while a
client streams, which waits for the next token.
"""

from dataclasses import dataclass

from dotsctl.client.runtime.delivery import ToWorker
from dotsctl.client.runtime.ledger import Ledger
from dotsctl.client.runtime.request import Request, RequestState
from dotsctl.client.runtime.views import Limits
from dotsctl.client.runtime.worker_slots import DECODER
from dotsctl.client.runtime.worker_table import Worker, WorkerTable
from dotsctl.protocol.messages import Done, Gather
from dotsctl.protocol.parts import Role

UNKNOWN_ENCODE_S = 5.0
"""Assumed time of a page before one was measured."""
ENCODES = 2.0
"""The times that the encoding of a page may take before the decoder waits for it no longer."""
LEAST_GATHER_S, MOST_GATHER_S = 1.0, 300.0
WAIT_SHARE = 0.25
"""Share of a page's time limit for which it may wait in a batch that fills."""
WEIGHT = 0.2
"""The weight of the newest page in the running average."""


@dataclass
class DeviceSharing:
    """Decides from the ledger and the table for which pages the decoder may wait."""

    limits: Limits
    ledger: Ledger
    table: WorkerTable
    _encode_s: float | None = None
    """Running average of the encoder's time for a page."""
    _sent: tuple[int, frozenset[int]] = (0, frozenset())
    """The decoder and the pages that it was requested to wait for; empty: it waits for none."""

    def read(self, done: Done) -> None:
        """Count a page that was read."""
        if (encode_s := done.timings_ms.get("encode_total", 0.0) / 1000) > 0:
            before = encode_s if self._encode_s is None else self._encode_s
            self._encode_s = before + WEIGHT * (encode_s - before)

    def update(self, now: float) -> ToWorker | None:
        """Return the message to the decoder where the last one does not hold any more."""
        decoder = self._decoder
        if decoder is None:
            return None
        for_s = self._gather_s(now)
        coming = frozenset(request.request_id for request in self._coming()) if for_s else frozenset()
        if coming == (self._sent[1] if self._sent[0] == decoder.epoch else frozenset()):
            return None
        self._sent = decoder.epoch, coming
        return ToWorker(Role.DECODER, decoder.epoch, Gather(for_s if coming else 0.0))

    def is_gathering(self, worker: Worker) -> bool:
        """Return whether a worker is the decoder and may wait, so that its silence means nothing.

        A page that was sent is no reason to be silent: a decoder that hangs does not take it.
        """
        may_wait = worker.role is Role.DECODER and self._sent[0] == worker.epoch and bool(self._sent[1])
        return may_wait and self.ledger.count(RequestState.ENCODING) > 0

    def _coming(self) -> list[Request]:
        """Return the pages that come from an encoder on the decoder's device, while no client waits for tokens."""
        if self.ledger.num_streaming:
            return []
        sharing = self._sharing()
        encoding = self.ledger.in_state(RequestState.ENCODING, RequestState.SENT)
        return [request for request in encoding if request.encoder_index in sharing]

    def _gather_s(self, now: float) -> float:
        """Return the seconds for which the decoder may wait from now; 0: a page has waited for long enough."""
        expected_s = ENCODES * (UNKNOWN_ENCODE_S if self._encode_s is None else self._encode_s)
        in_batch = self.ledger.in_state(RequestState.RECEIVED, RequestState.DECODING)
        waited_s = now - min((r.dispatched_at for r in in_batch if r.dispatched_at is not None), default=now)
        left_s = max(0.0, WAIT_SHARE * self.limits.page_timeout_s - waited_s)
        return min(max(LEAST_GATHER_S, expected_s), MOST_GATHER_S, self.limits.stall_timeout_s, left_s)

    @property
    def _decoder(self) -> Worker | None:
        return self.table.ready.get(DECODER)

    def _sharing(self) -> set[int]:
        """Return the indexes of the ready encoders on the decoder's device."""
        ready = self.table.ready
        devices_of = {slot: worker.ready.device for slot, worker in ready.items() if worker.ready is not None}
        device = devices_of.get(DECODER)
        return {slot.index for slot, other in devices_of.items() if slot != DECODER and other is device}
