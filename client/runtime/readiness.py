"""Readiness is a page read right: after each load, swap and restart both halves read the readiness page together. Pure.

A worker that has loaded its model is a candidate. It is admitted when an answer that went through it has words of the
page, and only then pages of clients go to it. The page is outside of the ledger: it takes no credit, and an end of a
worker during it makes no page of a client suspect. A half that serves already reads it as one more page.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from dotsctl.client.runtime.delivery import CoreCommand, Kill, ToWorker
from dotsctl.client.runtime.readiness_page import Judgement, PageVerdict, judge, readiness_page, task_of
from dotsctl.client.runtime.worker_table import Worker, WorkerTable
from dotsctl.protocol.messages import (
    CancelRequest,
    Consumed,
    Decoded,
    Done,
    Dropped,
    Encode,
    Encoded,
    Message,
    Ready,
    Received,
    RequestFailed,
)
from dotsctl.protocol.parts import Role

ATTEMPT = 1
Events = Encoded | Dropped | Received | Consumed | Decoded | Done | RequestFailed


@dataclass(frozen=True)
class PageTrial:
    """The readiness page on its way through two workers."""

    request_id: int
    encoder: Worker
    encoder_epoch: int
    decoder: Worker
    decoder_epoch: int
    decoder_ready: Ready
    started_at: float
    is_repeated: bool = False
    """Whether the page made no progress before."""

    def worker(self, role: Role) -> Worker:
        """Return the half of this role."""
        return self.encoder if role is Role.ENCODER else self.decoder

    def has(self, role: Role, epoch: int) -> bool:
        """Return whether a process is one of the two."""
        return epoch == (self.encoder_epoch if role is Role.ENCODER else self.decoder_epoch)


@dataclass(frozen=True)
class Outcome:
    """The end of a candidate's trial."""

    worker: Worker
    ready: Ready
    verdict: PageVerdict
    seconds: float
    """Time of the readiness page; 0: it was not read."""


class Readiness:
    """Admits workers; events go in with the time, commands and outcomes come out."""

    def __init__(self, table: WorkerTable, new_id: Callable[[], int], *, is_enabled: bool, stall_s: float) -> None:
        """Prepare.

        Args:
            table: all workers.
            new_id: makes the number of a request.
            is_enabled: whether the page is read at all; else every candidate is admitted at once.
            stall_s: longest time without a message about the page.
        """
        self._commands: list[CoreCommand] = []
        self._table, self._new_id, self._is_enabled, self._stall_s = table, new_id, is_enabled, stall_s
        self._candidates: dict[tuple[Role, int], tuple[Worker, Ready]] = {}
        self._reading: PageTrial | None = None
        self._progress_at = 0.0
        self._has_decoder = False
        """Whether the decoder answers for the present reading."""

    def loaded(self, worker: Worker, ready: Ready, now: float) -> list[Outcome]:
        """A worker has loaded its model; return those that are admitted without a page."""
        self._candidates[worker.role, worker.epoch] = (worker, ready)
        return self._next(now)

    def ended(self, role: Role, epoch: int, now: float) -> bool:
        """A process has ended; return whether the readiness page was in it, so that nothing else is suspected."""
        self._candidates.pop((role, epoch), None)
        was_reading = self._reading is not None and self._reading.has(role, epoch)
        if was_reading:
            self._reading = None
        return was_reading

    def message(self, role: Role, epoch: int, message: Message, now: float) -> list[Outcome] | None:
        """Handle a message about the page; none: it is about a page of a client."""
        reading = self._reading
        if not isinstance(message, Events) or reading is None or message.request_id != reading.request_id:
            return None
        if not reading.has(role, epoch):
            return []
        self._progress_at = now
        match message:
            case Received():
                self._has_decoder = True
            case Dropped():
                self._reading = None
            case Done():
                return self._finish(judge(message, task_of(reading.decoder_ready.tasks)), reading, now)
            case RequestFailed():
                half = reading.worker(role)
                verdict = PageVerdict(
                    Judgement.REFUSED, f"the {half.slot} failed on the readiness page: {message.message}"
                )
                return self._finish(verdict, reading, now, half)
        return self._next(now)

    def tick(self, now: float) -> list[Outcome]:
        """Look for a page that does not move, and begin one that waited for the other half."""
        for worker, _ in self._candidates.values():
            worker.load_progress_at = now  # it has loaded; its own limit is the one of the page
        if self._reading is not None and now - self._progress_at >= self._stall_s:
            self._stalled(self._reading, now)
        return self._next(now)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _next(self, now: float) -> list[Outcome]:
        """Admit the candidates that need no page, and begin the page for the first of the others."""
        outcomes = []
        for worker, ready in list(self._candidates.values()):
            if worker.is_retired:
                del self._candidates[worker.role, worker.epoch]
                continue
            if self._reading is not None or not worker.is_alive:
                continue
            partner = self._partner(worker)
            if not self._is_enabled or not ready.reads_pages or (partner and not partner[1].reads_pages):
                del self._candidates[worker.role, worker.epoch]
                outcomes.append(Outcome(worker, ready, PageVerdict(Judgement.PASSED), 0.0))
            elif partner is not None:
                self._begin((worker, ready), partner, now)
        return outcomes

    def _partner(self, worker: Worker) -> tuple[Worker, Ready] | None:
        """Return the other half for a candidate: a candidate too, else one that serves; none: it must wait."""
        other = Role.DECODER if worker.role is Role.ENCODER else Role.ENCODER
        for (role, _), found in self._candidates.items():
            if role is other and found[0].is_alive and found[0].trial is None:
                return found
        for serving in self._table.ready.values():
            if serving.role is other and serving.ready is not None and not serving.is_leaving:
                return serving, serving.ready
        return None

    def _begin(self, candidate: tuple[Worker, Ready], partner: tuple[Worker, Ready], now: float) -> None:
        halves = {each[0].role: each for each in (candidate, partner)}
        (encoder, _), (decoder, ready) = halves[Role.ENCODER], halves[Role.DECODER]
        reading = PageTrial(self._new_id(), encoder, encoder.epoch, decoder, decoder.epoch, ready, started_at=now)
        self._send(reading, now)

    def _send(self, reading: PageTrial, now: float) -> None:
        self._reading, self._progress_at, self._has_decoder = reading, now, False
        page, ready = readiness_page(), reading.decoder_ready
        options = page.options(ready.tasks)
        encode = Encode(reading.request_id, ATTEMPT, (page.image,), options, ready.data_endpoint)
        self._commands.append(ToWorker(Role.ENCODER, reading.encoder_epoch, encode, (page.pixels,)))

    def _stalled(self, reading: PageTrial, now: float) -> None:
        """Repeat a page that does not move, as a message may be lost; the second time end the half that has it."""
        for role, epoch in ((Role.ENCODER, reading.encoder_epoch), (Role.DECODER, reading.decoder_epoch)):
            self._commands.append(ToWorker(role, epoch, CancelRequest(reading.request_id, ATTEMPT)))
        if not reading.is_repeated:
            request_id = self._new_id()
            self._send(replace(reading, request_id=request_id, is_repeated=True), now)
            return
        half = reading.decoder if self._has_decoder else reading.encoder
        reason = f"no progress on the readiness page for {self._stall_s:.0f} s (limit: DOTSCTL_STALL_TIMEOUT)"
        self._commands.append(Kill(half.role, half.epoch, reason))
        self._reading = None

    def _finish(
        self, verdict: PageVerdict, reading: PageTrial, now: float, failed: Worker | None = None
    ) -> list[Outcome]:
        """End a reading; both candidates in it are admitted, or one is refused.

        Refused is the half that ``failed``, else the new one; of two new ones the encoder, which another one may
        replace: then the decoder is tried again.
        """
        self._reading = None
        keys = [(Role.ENCODER, reading.encoder_epoch), (Role.DECODER, reading.decoder_epoch)]
        new = [key for key in keys if key in self._candidates]
        if verdict.judgement is Judgement.REFUSED:
            new = [(failed.role, failed.epoch)] if failed is not None else new[:1]
        found = [self._candidates.pop(key) for key in new if key in self._candidates]
        outcomes = [Outcome(*each, verdict, now - reading.started_at) for each in found]
        return outcomes + self._next(now)

    def take_commands(self) -> list[CoreCommand]:
        """Commands since the last call, in the order in which they are to be carried out."""
        commands = list(self._commands)
        self._commands.clear()
        return commands
