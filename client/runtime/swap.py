"""Replaces an encoder while pages are read: another one is started on trial, and only then put in its slot. Pure."""

import logging
from collections.abc import Callable

from dotsctl.client.runtime.core import Coordinator
from dotsctl.client.runtime.supervisor import Supervisor
from dotsctl.client.runtime.worker_slots import WorkerSlot
from dotsctl.client.runtime.worker_table import SwapTrial, Worker, WorkerState
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.protocol.messages import Ready, SwapEncoder, SwapResult
from dotsctl.protocol.parts import Role

log = logging.getLogger(__name__)

MAX_TAIL_CHARACTERS = 4000
Answer = Callable[[bytes, SwapResult], None]


class EncoderSwaps:
    """One swap at a time; the old encoder reads on until the new one is ready, and if it never is."""

    def __init__(self, supervisor: Supervisor, core: Coordinator, answer: Answer) -> None:
        """Prepare; ``answer`` sends the end of a swap to the client that requested it."""
        self._supervisor, self._core, self._answer = supervisor, core, answer

    def begin(self, client: bytes, message: SwapEncoder, now: float) -> None:
        """Start the new encoder, or answer why not."""
        names, choice = self._core.encoder_names, PluginChoice(message.plugin, dict(message.options))
        if problem := self._problem(message, choice):
            self._answer_failure(client, message.place, problem)
            return
        log.info("swap: starting %s; %s stays in use until it is ready", choice, names[message.place])
        self._supervisor.start(WorkerSlot(Role.ENCODER, message.place), now, SwapTrial(client, choice))

    def _problem(self, message: SwapEncoder, choice: PluginChoice) -> str:
        """Return why no swap can begin now; empty: it can."""
        names, on_trial = self._core.encoder_names, self._core.table.on_trial
        if message.place >= len(names):
            return f"encoder slot {message.place} does not exist: the runtime has {', '.join(names)}"
        if on_trial is not None and on_trial.trial is not None:
            return f"a swap to {on_trial.trial.choice} is in progress: wait until it finishes"
        if self._core.stopping:
            return f"the runtime is stopping: {self._core.stopping}"
        if not self._core.all_ready:
            return "a worker is being started: try again when 'dotsctl status' shows all as ready"
        if str(choice) in (*names[: message.place], *names[message.place + 1 :]):
            return f"{choice} already runs in another slot: 'dotsctl ocr --encoder {choice}' uses it"
        return ""

    def ready(self, worker: Worker, trial: SwapTrial, ready: Ready, now: float) -> None:
        """Put the encoder on trial into the slot: it has read its warm-up page, with the model of the others."""
        self._core.encoder_swapped(worker.slot, worker.epoch, ready, str(trial.choice), now)
        log.info("swap: pages go to %s (epoch %d) from now on", trial.choice, worker.epoch)
        self._answer(trial.client, SwapResult(True, str(trial.choice), ""))

    def failed(self, worker: Worker, trial: SwapTrial, problem: str, now: float) -> None:
        """Give up the encoder on trial; the old one stays."""
        log.warning("swap to %s failed: %s", trial.choice, problem)
        worker.state, worker.trial = WorkerState.RETIRING, None
        self._supervisor.kill(worker, now, "the swap failed")
        self._answer_failure(trial.client, worker.slot.index, problem)

    def died(self, worker: Worker, trial: SwapTrial, tail: str, now: float) -> None:
        """The process on trial has ended before it was ready; ``tail`` is the end of its log."""
        problem = worker.verdict or f"it ended before it was ready: {worker.last_exit}"
        tail = tail[-MAX_TAIL_CHARACTERS:]
        self.failed(worker, trial, f"{problem}. Its last lines:\n{tail}" if tail else problem, now)

    def not_started(self, worker: Worker, trial: SwapTrial, problem: str, now: float) -> None:
        """No process could be started for the trial."""
        self.failed(worker, trial, f"another encoder cannot be started: {problem}", now)

    def _answer_failure(self, client: bytes, index: int, problem: str) -> None:
        """Report why the encoder of a slot stays, or the first one where there is no such slot."""
        names = self._core.encoder_names
        self._answer(client, SwapResult(False, names[index if index < len(names) else 0], problem))
