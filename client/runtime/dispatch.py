"""Sends waiting pages to the ready encoders, and lets encoders go that are done. Pure."""

from dataclasses import dataclass

from dotsctl.client.runtime.admission import choose
from dotsctl.client.runtime.delivery import Retire, ToWorker
from dotsctl.client.runtime.outcomes import Outcomes
from dotsctl.client.runtime.request import RequestState
from dotsctl.client.runtime.views import Limits, has_work
from dotsctl.client.runtime.worker_slots import DECODER
from dotsctl.protocol.errors import ErrorCode
from dotsctl.protocol.messages import Encode
from dotsctl.protocol.parts import Role


@dataclass
class Dispatcher:
    """Acts on the ledger and the workers that ``outcomes`` has."""

    limits: Limits
    outcomes: Outcomes

    def dispatch(self, now: float, *, is_ready: bool) -> None:
        """Let replaced encoders go that are done, and send pages to the present ones as long as credits allow.

        Args:
            now: time of the event.
            is_ready: whether the runtime can read pages.
        """
        outcomes, ledger, choice = self.outcomes, self.outcomes.ledger, self.outcomes.choice
        self._let_go()
        self._route(is_ready=is_ready)
        workers = outcomes.table.ready
        decoder = workers.get(DECODER)
        if decoder is None or decoder.ready is None:
            return
        indexes = {slot.index for slot in workers if slot != DECODER}
        while request := choose(ledger, self.limits, decoder.ready.width, indexes):
            encoder = workers[request.slot]
            request.is_decoder_busy = has_work(Role.DECODER, decoder.epoch, ledger)
            request.state, request.changed_at = RequestState.ENCODING, now
            request.dispatched_at = request.dispatched_at or now
            request.encoder_epoch, request.encoder_name = encoder.epoch, encoder.name
            submit, endpoint = request.submit, decoder.ready.data_endpoint
            encode = Encode(request.request_id, request.attempt, submit.images, submit.options, endpoint)
            outcomes.commands.append(ToWorker(Role.ENCODER, encoder.epoch, encode, tuple(request.buffers)))
            outcomes.count_outstanding()
            choice.dispatched(request, now)
            self._route(is_ready=is_ready)

    def _let_go(self) -> None:
        """Retire the encoders that were replaced, or are not needed, and have no page any more."""
        outcomes = self.outcomes
        for worker in outcomes.table.retiring:
            if not any(request.is_with_encoder(worker.epoch) for request in outcomes.ledger.in_flight()):
                worker.is_leaving, worker.ready = True, None
                outcomes.commands.append(Retire(worker.epoch))

    def _route(self, *, is_ready: bool) -> None:
        """Choose the encoder of each waiting page; one that no encoder can read fails."""
        outcomes = self.outcomes
        for request, reason in outcomes.choice.route(outcomes.ledger, is_ready=is_ready):
            outcomes.fail(request, ErrorCode.WORKER_FATAL, reason)
