"""Taking another encoder while pages are read: started beside the present one, tried, and only then put in place."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from dotsctl.client.config import PluginChoice
from dotsctl.client.runtime.core import Coordinator
from dotsctl.client.runtime.seats import DECODER, Seat
from dotsctl.client.runtime.supervisor import Supervisor
from dotsctl.client.runtime.worker_process import Worker, WorkerState, log_tail
from dotsctl.protocol.messages import Ready, SwapEncoder, SwapResult
from dotsctl.protocol.parts import Role

log = logging.getLogger(__name__)

MAX_TAIL_CHARACTERS = 4000
Answer = Callable[[bytes, SwapResult], None]


@dataclass
class _Swap:
    """The one that is going on."""

    client: bytes
    choice: PluginChoice
    worker: Worker


class EncoderSwaps:
    """One swap at a time; the old encoder reads on until the new one is ready, and if it never is."""

    def __init__(self, supervisor: Supervisor, core: Coordinator, answer: Answer) -> None:
        """``answer`` sends the end of a swap to the client that asked for it."""
        self._supervisor, self._core, self._answer = supervisor, core, answer
        self._swap: _Swap | None = None

    def begin(self, client: bytes, message: SwapEncoder, now: float) -> None:
        """Start the new encoder, or say why not."""
        problem, names = "", self._core.encoder_names
        if message.place >= len(names):
            problem = f"there is no encoder in place {message.place}: the runtime has {', '.join(names)}"
        elif self._swap is not None:
            problem = f"another swap is going on, to {self._swap.choice}: wait for its end"
        elif self._core.stopping:
            problem = f"the runtime is stopping: {self._core.stopping}"
        elif not self._core.all_ready:
            problem = "a worker is being started: try again when 'dotsctl status' shows all as ready"
        choice = PluginChoice(message.plugin, dict(message.options))
        if not problem and str(choice) in (*names[: message.place], *names[message.place + 1 :]):
            problem = f"{choice} stands beside it already: 'dotsctl ocr --encoder {choice}' uses it"
        if problem:
            self._tell(client, message.place, problem)
            return
        try:
            worker = self._supervisor.start_beside(Seat(Role.ENCODER, message.place), now)
        except OSError as error:
            self._tell(client, message.place, f"another encoder cannot be started: {error}")
            return
        log.info("swap: %s is started beside %s", choice, names[message.place])
        self._swap = _Swap(client, choice, worker)

    def choice_of(self, worker: Worker) -> PluginChoice | None:
        """What the encoder on trial is to load; none: the worker is another one."""
        return self._swap.choice if self._swap is not None and self._swap.worker is worker else None

    def ready(self, worker: Worker, ready: Ready, now: float) -> PluginChoice | None:
        """The encoder on trial has read its warm-up page: it takes over, unless it has another model."""
        if self._swap is None:
            return None
        swap, decoder = self._swap, self._core.workers.get(DECODER)
        if decoder and (decoder.ready.fingerprint, decoder.ready.width) != (ready.fingerprint, ready.width):
            self.failed(
                f"{swap.choice} has model {ready.fingerprint[:12]} of width {ready.width}, the decoder "
                f"{decoder.ready.fingerprint[:12]} of width {decoder.ready.width}: it must be made of the same model",
                now,
            )
            return None
        worker.state = WorkerState.READY
        old = self._supervisor.workers[worker.seat]
        self._supervisor.promote(worker)
        if worker.seat not in self._core.workers and old.process is not None:
            self._supervisor.retire(old, now)  # the coordinator lets only such encoders go that were ready
        self._core.encoder_swapped(worker.seat, worker.epoch, ready, str(swap.choice), now)
        log.info("swap: pages go to %s (epoch %d) from now on", swap.choice, worker.epoch)
        self._swap = None
        self._answer(swap.client, SwapResult(True, str(swap.choice), ""))
        return swap.choice

    def failed(self, problem: str, now: float) -> None:
        """The encoder on trial is given up; the old one goes on."""
        if self._swap is None:
            return
        swap, self._swap = self._swap, None
        log.warning("swap to %s failed: %s", swap.choice, problem)
        swap.worker.state = WorkerState.FATAL
        self._supervisor.kill(swap.worker, now, "the swap failed")
        self._tell(swap.client, swap.worker.seat.place, problem)

    def died(self, worker: Worker, reason: str, now: float) -> None:
        """The process on trial has ended before it was ready."""
        tail = log_tail(worker.log)[-MAX_TAIL_CHARACTERS:]
        words = worker.verdict or f"it ended before it was ready: {reason}"
        self.failed(f"{words}. Its last lines:\n{tail}" if tail else words, now)

    def _tell(self, client: bytes, place: int, problem: str) -> None:
        """Say why the encoder of a place goes on, or the first one where there is no such place."""
        names = self._core.encoder_names
        self._answer(client, SwapResult(False, names[place if place < len(names) else 0], problem))
