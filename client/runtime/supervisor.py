"""Decides when workers are started, started again with growing pauses, killed and given up. Pure.

Facts about processes come in with the time, commands go out. ``processes.py`` carries the commands out.
"""

import logging
import signal
from collections.abc import Set
from pathlib import Path

from dotsctl.client.runtime.delivery import Abandon, Command, Release, Signal, Spawn
from dotsctl.client.runtime.worker_process import describe_exit
from dotsctl.client.runtime.worker_slots import WorkerSlot
from dotsctl.client.runtime.worker_table import LEAVING, SwapTrial, Worker, WorkerState, WorkerTable
from dotsctl.client.settings.runtime_config import RuntimeConfig
from dotsctl.protocol.parts import Role
from dotsctl.protocol.worker.shell import START_AGAIN, TRACEBACK_SIGNAL

log = logging.getLogger(__name__)

MAX_BACKOFF_S = 30.0
STOP_GRACE_S = 15.0
"""The time from the request to stop to SIGKILL; a hard kill of a process with much wired memory has leaked it."""
KILL_WAIT_S = 5.0
"""The time for the system to remove a process after SIGKILL; one that waits for a dead disk stays."""
COOL_DOWN = 10.0
"""The shortest pause after a fault of the GPU, as a multiple of the configured one; 5 s by default."""
TRACEBACK_S = 0.5
"""The time from the request for a traceback to SIGKILL."""


class Supervisor:
    """The processes of an instance, as rows of the table of workers."""

    def __init__(self, table: WorkerTable, config: RuntimeConfig, log_folder: Path, commands: list[Command]) -> None:
        """Prepare; nothing is started yet.

        Args:
            table: the workers.
            config: timeouts and limits of starts.
            log_folder: gets ``SLOT.EPOCH.log`` for each process.
            commands: gets what is to be carried out.
        """
        self._table, self._config, self._log_folder, self._commands = table, config, log_folder, commands

    # --- starts and ends ---------------------------------------------------------------------------------------------

    def start(self, slot: WorkerSlot, now: float, trial: SwapTrial | None = None) -> Worker:
        """Start a process for a slot, or an additional one for a trial; one still in the slot finishes its pages."""
        worker = self._table.launch(slot, trial)
        worker.load_progress_at, worker.log = now, self._log_folder / f"{slot}.{worker.epoch}.log"
        self._commands.append(Spawn(slot, worker.epoch, worker.log))
        return worker

    def start_due(self, now: float) -> None:
        """Start the workers whose pause is over."""
        for worker in self._table:
            if worker.state is WorkerState.BACKOFF and now >= worker.start_at:
                self.start(worker.slot, now)

    def exit_reason(self, worker: Worker, code: int | None) -> str:
        """Return how the process of a worker ended, and why if we ended it; no ``code``: SIGKILL did not end it."""
        reason = "no end after SIGKILL" if code is None else describe_exit(code)
        return f"{reason} ({worker.ended_for})" if worker.ended_for else reason

    def ended(self, worker: Worker, code: int | None, reason: str, now: float) -> None:
        """A process has ended, or is given up: plan another one, unless it was in no slot or has failed for good."""
        worker.is_alive, worker.ready, worker.last_exit = False, None, reason
        worker.kill_at = worker.undead_at = worker.stopped_at = None
        if worker.state in LEAVING:
            self._table.remove(worker)
        elif worker.state is not WorkerState.FATAL:
            self._plan_restart(worker, code, now)

    def _plan_restart(self, worker: Worker, code: int | None, now: float) -> None:
        worker.failures += 1
        is_gpu_fault = code == START_AGAIN
        worker.gpu_faults = worker.gpu_faults + 1 if is_gpu_fault else 0
        if worker.state is WorkerState.LOADING and code is not None and code >= 0 and code != START_AGAIN:
            worker.state, worker.failed_loading = WorkerState.FATAL, True
            worker.verdict = f"the {worker.slot} worker ended itself with {worker.last_exit} while loading"
            return
        if worker.failures >= self._config.max_starts:
            worker.state = WorkerState.FATAL
            worker.verdict = (
                f"the {worker.slot} worker died {worker.failures} times in a row, last by {worker.last_exit}"
            )
            if worker.last_exit == describe_exit(-signal.SIGKILL) and not worker.was_ready:
                worker.verdict += (
                    " while it loaded, usually because memory ran out. Close other programs, or "
                    "choose a smaller model or another plugin"
                )
            if is_gpu_fault:
                worker.verdict += (
                    " because macOS ended or refused its work on the GPU. Close other programs that use the GPU, lower "
                    "--max-pixels, or restart the Mac"
                )
            return
        pause = 0.0 if worker.failures == 1 else self._config.backoff_s * 2 ** (worker.failures - 2)
        cool_down = COOL_DOWN * self._config.backoff_s if is_gpu_fault else 0.0
        worker.state, worker.start_at = WorkerState.BACKOFF, now + min(MAX_BACKOFF_S, max(pause, cool_down))

    def progress(self) -> None:
        """A page was finished: deaths before it do not count as deaths in a row any more."""
        for worker in self._table:
            worker.failures = worker.gpu_faults = 0

    def retire(self, worker: Worker, now: float) -> None:
        """Wait for a process that was requested to stop."""
        if worker.is_alive:
            worker.is_leaving, worker.kill_at = True, now + STOP_GRACE_S
            self._commands.append(Release(worker.role, worker.epoch))

    def give_up(self, worker: Worker, reason: str, now: float) -> None:
        """A worker failed for good: end its process and do not start it again."""
        worker.state, worker.verdict = WorkerState.FATAL, reason
        self.kill(worker, now, "it is given up")

    def kill(self, worker: Worker, now: float, reason: str) -> None:
        """End a worker's process; its end then comes as an event.

        It first writes into its log where it hangs, also while something holds the interpreter's lock.
        """
        if not worker.is_alive or worker.kill_at is not None:
            return
        worker.ended_for, worker.is_leaving, worker.kill_at = reason, True, now
        if worker.has_greeted:  # else it would die by the request itself
            worker.kill_at = now + TRACEBACK_S
            self._commands.append(Signal(worker.role, worker.epoch, TRACEBACK_SIGNAL))
        self.kill_due(now)

    def kill_due(self, now: float) -> None:
        """End the processes that have had the time for a traceback, or for their last page."""
        for worker in self._table:
            if worker.is_alive and worker.kill_at is not None and now >= worker.kill_at:
                self._kill_now(worker, now)

    def _kill_now(self, worker: Worker, now: float) -> None:
        worker.kill_at, worker.undead_at = float("inf"), now + KILL_WAIT_S
        self._commands.append(Signal(worker.role, worker.epoch, signal.SIGKILL))

    # --- silence -----------------------------------------------------------------------------------------------------

    def undead(self, now: float) -> list[Worker]:
        """Give up the processes that SIGKILL did not end; the caller reports their ends."""
        found = [worker for worker in self._table if worker.undead_at is not None and now >= worker.undead_at]
        for worker in found:
            log.error("%s (epoch %d) does not end after SIGKILL; it is abandoned", worker.slot, worker.epoch)
            self._commands.append(Abandon(worker.role, worker.epoch))
        return found

    def end_silent_loads(self, now: float) -> None:
        """Give up the workers that are loading and have made no progress for too long."""
        timeout_s = self._config.load_timeout_s
        for worker in self._table:
            if worker.is_loading and now >= worker.load_progress_at + timeout_s:
                worker.verdict = f"the {worker.slot} worker made no progress for {timeout_s:g} s while loading"
                self.kill(worker, now, f"silent for {timeout_s:g} s while it loaded")
                if worker.state is not WorkerState.TRIAL:
                    worker.state, worker.failed_loading = WorkerState.FATAL, True

    def watch_stopped(self, stopped: Set[tuple[Role, int]], now: float) -> None:
        """Suspect the workers whose process is stopped, and end those that are so for too long.

        A worker may compute for minutes without a message, and then only its stall limit applies. One that does not
        run at all is recognised by its state in the kernel.
        """
        timeout_s = self._config.stopped_timeout_s
        for worker in (worker for worker in self._table if worker.is_alive):
            if (worker.role, worker.epoch) not in stopped:
                worker.stopped_at = None
            elif worker.stopped_at is None:
                worker.stopped_at = now
                log.warning(
                    "%s (epoch %d) is stopped: it is ended in %g s unless it resumes",
                    worker.slot,
                    worker.epoch,
                    timeout_s,
                )
            elif now - worker.stopped_at >= timeout_s and worker.undead_at is None:
                worker.ended_for, worker.was_stopped = f"it was stopped for {timeout_s:g} s", True
                self._kill_now(worker, now)  # it could write no traceback

    def restart_after_sleep(self, now: float) -> None:
        """Restart all timeouts: the machine has slept, or we were stopped ourselves."""
        for worker in self._table:
            worker.load_progress_at, worker.stopped_at = now, None

    def next_due(self) -> float:
        """Time of the next restart, of the next SIGKILL, or when a load is over its limit; infinite: none of them."""
        due = [w.start_at for w in self._table if w.state is WorkerState.BACKOFF]
        due += [w.kill_at for w in self._table if w.kill_at is not None]
        due += [w.undead_at for w in self._table if w.undead_at is not None]
        due += [w.load_progress_at + self._config.load_timeout_s for w in self._table if w.is_loading]
        return min(due, default=float("inf"))
