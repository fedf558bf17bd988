"""The promises of the runtime about late hints, checked in a simulated schedule; see ``simulation.py``."""

from dataclasses import dataclass, field

from dotsctl.client.runtime.delivery import ToWorker
from dotsctl.client.runtime.machine import RuntimeMachine
from dotsctl.client.runtime.request import Request, RequestState
from dotsctl.client.runtime.worker_slots import DECODER
from dotsctl.protocol.messages import Encode, HintRequest
from dotsctl.protocol.page_hint import HintBlock, PageHint
from dotsctl.tools.dev.chaos.promises import BrokenPromise


def hint_of(page: int) -> PageHint:
    """The hint of a page, which names it."""
    return PageHint((HintBlock(str(page)),))


@dataclass
class HintPromises:
    """A hint goes to its page's decoder, and again with each further attempt; it reaches no other page."""

    machine: RuntimeMachine
    _known: set[int] = field(default_factory=set)
    """Requests whose hint the runtime has."""
    _due: dict[int, int] = field(default_factory=dict)
    """Attempt by request whose hint must be passed on in this turn."""
    num_passed_on: int = 0
    num_sent_again: int = 0
    """Attempts that were dispatched with the hint that had come before them."""

    def sending(self, client: bytes, job_id: str, page: int) -> None:
        """A client is about to send the hint of a page of its own, or of a page that it does not have."""
        request = self.machine.core.ledger.find((client, job_id, page))
        if request is None:
            return
        self._known.add(request.request_id)
        if RequestState.QUEUED < request.state < RequestState.DECODING and DECODER in self.machine.core.workers:
            self._due[request.request_id] = request.attempt

    def tell(self, command: ToWorker) -> None:
        """A message goes to a worker."""
        requests = self.machine.core.ledger.requests
        match command.message:
            case Encode(request_id, _, _, options) if request_id in requests:  # else it is the readiness page
                self._check(requests[request_id], options.hint, "in Encode")
                self.num_sent_again += options.hint is not None
            case HintRequest(request_id, attempt, hint):
                if (request := requests.get(request_id)) is None:
                    raise BrokenPromise(f"request {request_id} has ended, and its hint is passed on")
                self._check(request, hint, "in HintRequest")
                if self._due.pop(request_id, None) != attempt or request.attempt != attempt:
                    raise BrokenPromise(f"the hint of request {request_id} goes to attempt {attempt}")
                if command.role is not DECODER.role:
                    raise BrokenPromise(f"the hint of request {request_id} goes to the {command.role}")
                self.num_passed_on += 1

    def after_turn(self) -> None:
        """Check that no hint was kept back."""
        for request_id in self._due:
            raise BrokenPromise(f"the hint of request {request_id} was not passed on")

    def _check(self, request: Request, hint: PageHint | None, where: str) -> None:
        expected = hint_of(request.submit.page_index) if request.request_id in self._known else None
        if hint != expected:
            raise BrokenPromise(f"request {request.request_id} has the hint {hint} {where}, not {expected}")
