"""The outcome of a request: its progress, its result or failure, and further attempts. Pure."""

from collections import Counter
from dataclasses import dataclass, field

from dotsctl.client.runtime.admission import outstanding_bytes
from dotsctl.client.runtime.cost_log import CostLog
from dotsctl.client.runtime.crash_attribution import CrashAttribution
from dotsctl.client.runtime.delivery import CoreCommand, ToClient, ToWorker, blank_result, result_of
from dotsctl.client.runtime.encoder_choice import EncoderChoice
from dotsctl.client.runtime.ledger import Ledger
from dotsctl.client.runtime.request import Request, RequestState
from dotsctl.client.runtime.views import Counters
from dotsctl.client.runtime.worker_slots import DECODER, WorkerSlot
from dotsctl.client.runtime.worker_table import WorkerTable
from dotsctl.protocol.errors import ErrorCode
from dotsctl.protocol.messages import (
    Blank,
    CancelRequest,
    Consumed,
    Decoded,
    Done,
    Dropped,
    Encoded,
    Message,
    PageFailed,
    PageResult,
    PageTokens,
    Received,
    RequestFailed,
    Restarted,
)
from dotsctl.protocol.parts import Role

MAX_POISON = 3
"""Pages in a row that end with their worker; from here on it is the worker, and its deaths are counted on."""
MAX_STALLS = 2


@dataclass
class Outcomes:
    """Changes the requests of a ledger, and reports each change to clients and workers."""

    ledger: Ledger
    table: WorkerTable
    choice: EncoderChoice
    decoder_name: str
    commands: list[CoreCommand]
    """Gets what is to be carried out."""
    counters: Counters = field(default_factory=Counters)
    costs: CostLog = field(default_factory=CostLog)
    """The costs of the pages that were read."""
    pages: Counter[WorkerSlot] = field(default_factory=Counter)
    """Pages that were read, by the workers that read them."""
    settled: int = 0
    """Pages that came to an end by themselves; each one is progress for the supervisor's counter of failures."""
    crashes: CrashAttribution = field(default_factory=CrashAttribution)
    _poison_in_a_row: int = 0

    def advance(self, request: Request, message: Message, now: float) -> None:
        """Apply a worker's message about the current attempt of a request."""
        match message:
            case Encoded():
                request.embedding_bytes = message.nbytes
                request.state = max(request.state, RequestState.SENT)
                self.count_outstanding()
            case Received():
                request.state = max(request.state, RequestState.RECEIVED)
            case Consumed():
                request.state = RequestState.DECODING
            case Decoded():
                request.state = RequestState.DECODING
                self.choice.decoded(message.num_tokens)
                if request.submit.stream and (message.text or message.geometry):
                    tokens = PageTokens(*request.address, message.text, message.num_tokens, message.geometry)
                    self._send(request.client, tokens)
            case Done():
                self.choice.read(request, message, now)
                self.costs.read(request, message)
                self._finish(request, result_of(request, message, self.decoder_name, self._warning(request), now), now)
            case Blank():
                self._finish(request, blank_result(request, message, self.decoder_name, now), now)
            case RequestFailed(code=ErrorCode.STALL):  # the decoder took no page, which is not the page's fault
                self.stalled(request, message.message, now)
            case RequestFailed(code=ErrorCode.OOM) if not request.suspect:
                request.suspect = True  # alone it has all of the memory
                self.retry(request, message.message, now)
            case RequestFailed():
                self.cancel(request)
                self.fail(request, message.code, message.message)
            case Dropped():  # this attempt was not cancelled, so the worker and we disagree
                self.stalled(request, "the worker dropped the page", now)

    def _warning(self, request: Request) -> str:
        """Return what the readiness page showed of the workers that read a page."""
        encoder, decoder = self.table.find(Role.ENCODER, request.encoder_epoch), self.table.in_slot(DECODER)
        return "; ".join(dict.fromkeys(worker.warning for worker in (encoder, decoder) if worker and worker.warning))

    def _finish(self, request: Request, result: PageResult, now: float) -> None:
        self.ledger.remove(request)
        self.crashes.cleared(request, now)
        self.counters.done += 1
        self.pages.update((request.slot, DECODER))
        self.settled, self._poison_in_a_row = self.settled + 1, 0
        self._send(request.client, result)

    def fail(self, request: Request, code: ErrorCode, text: str) -> None:
        """A request ends without a result."""
        self.ledger.remove(request)
        self.crashes.gone(request)
        if code is ErrorCode.CANCELLED:
            self.counters.cancelled += 1
        else:
            self.counters.failed += 1
            self._poison_in_a_row += code in (ErrorCode.POISON, ErrorCode.GPU)
            self.settled += self._poison_in_a_row < MAX_POISON
        self._send(request.client, PageFailed(*request.address, code, text))

    def retry(self, request: Request, reason: str, now: float) -> None:
        """A request starts a new attempt."""
        self.cancel(request)
        self.ledger.requeue(request, now)
        self._send(request.client, Restarted(*request.address, reason))

    def cancel(self, request: Request) -> None:
        """Cancel the current attempt in the workers that may hold it."""
        if request.state is not RequestState.QUEUED:
            for worker in self.table.serving:
                if worker.role is Role.DECODER or worker.epoch == request.encoder_epoch:
                    cancel = CancelRequest(request.request_id, request.attempt)
                    self.commands.append(ToWorker(worker.role, worker.epoch, cancel))

    def stalled(self, request: Request, reason: str, now: float) -> None:
        """Try a page again that got stuck through no fault of its own, but not for ever."""
        request.stalls += 1
        is_with_encoder = request.state in (RequestState.ENCODING, RequestState.SENT)
        request.needs_first = request.needs_first or (is_with_encoder and self.choice.can_fall_back(request))
        if request.stalls <= MAX_STALLS:
            self.retry(request, reason, now)
        else:
            self.cancel(request)
            self.fail(request, ErrorCode.STALL, f"{reason}, in {request.stalls} attempts")

    def count_outstanding(self) -> None:
        """Take note of the most pages and bytes that were on their way to the decoder."""
        ready = self.table.in_slot(DECODER).ready
        width = ready.width if ready else 0
        counters = self.counters
        counters.max_outstanding = max(counters.max_outstanding, len(self.ledger.outstanding()))
        counters.max_outstanding_bytes = max(counters.max_outstanding_bytes, outstanding_bytes(self.ledger, width))

    def _send(self, client: bytes, message: Message) -> None:
        self.commands.append(ToClient(client, message))
